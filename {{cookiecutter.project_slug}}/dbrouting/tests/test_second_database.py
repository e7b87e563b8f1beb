"""A database beside the primary and its replicas: what is read there is saved, deleted and related there."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections, router, transaction
from django.db.models import Model, prefetch_related_objects

from dbrouting import use_primary, use_replica
from dbrouting.conf import config, ours
from dbrouting.context import consistency_context
from dbrouting.monitor import monitor
from dbrouting.routers import ReadWriteRouter
from users.models import User

pytestmark = [
    pytest.mark.usefixtures("legacy"),
    pytest.mark.django_db(transaction=True, databases=["default", "replica", "legacy"]),
]
ROUTER = "dbrouting.routers.ReadWriteRouter"
# A key that no sequence gives.
SAME = 1_000_000


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def legacy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_setup, django_db_blocker
) -> Iterator[None]:
    """The alias, with the same tables: a file, or another database of the primary's server."""
    with django_db_blocker.unblock():
        primary = connections["default"].settings_dict
        # Not the test database's and more: that may be as long as PostgreSQL takes.
        name = f"legacy_{secrets.token_hex(4)}"
        if request.param == "sqlite":
            file = tmp_path_factory.mktemp("legacy") / "db.sqlite3"
            entry: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": file}
        else:
            with connections["default"].cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
            entry = {key: primary[key] for key in ("USER", "PASSWORD", "HOST", "PORT", "OPTIONS")}
            # The replicas' own wrapper: for an alias that is none, it is Django's.
            entry |= {"ENGINE": "dbrouting.backends.postgresql", "NAME": name}
        connections.settings["legacy"] = entry
        connections.configure_settings(connections.settings)
        call_command("migrate", database="legacy", verbosity=0)
        yield
        connections["legacy"].close()
        del connections["legacy"], connections.settings["legacy"]
        if request.param == "postgresql":
            with connections["default"].cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name}")


def make(alias: str, name: str) -> User:
    return User.objects.using(alias).create(pk=SAME, username=name, first_name=name)


def entry(user: User, text: str) -> LogEntry:
    """What belongs to a user: not saved."""
    return LogEntry(user=user, action_flag=ADDITION, object_repr=text)


@pytest.fixture
def theirs() -> User:
    """A row of the second database, as read there. The primary has a row of its own by that key."""
    make("default", "ours")
    make("legacy", "theirs")
    return User.objects.using("legacy").get(pk=SAME)


@pytest.fixture
def untouched() -> Iterator[None]:
    """What the test does asks the primary nothing, and marks nothing as written there."""
    with consistency_context() as context:
        yield
        assert (context.touched, context.wrote, context.proof) == (False, False, None)


def names(alias: str) -> list[str]:
    return list(User.objects.using(alias).order_by("first_name").values_list("first_name", flat=True))


# Objects --------------------------------------------------------------------------------------------------------------


def test_it_is_saved_where_it_was_read(theirs: User, untouched):
    theirs.first_name = "changed"
    theirs.save()
    theirs.last_name = "changed"
    theirs.save(update_fields=["last_name"])
    assert names("legacy") == ["changed"]


def test_the_primarys_row_stays(theirs: User):
    theirs.first_name = "changed"
    theirs.save()
    theirs.delete()
    assert (names("default"), names("legacy")) == (["ours"], [])


def test_it_is_deleted_with_what_belongs_to_it(theirs: User, untouched):
    entry(theirs, "a").save(using="legacy")
    theirs.delete()
    assert names("legacy") == []
    assert not LogEntry.objects.using("legacy").exists()


def test_it_is_refreshed_from_where_it_was_read(theirs: User, untouched):
    partly = User.objects.using("legacy").only("username").get()
    User.objects.using("legacy").update(first_name="changed")
    theirs.refresh_from_db()
    assert (theirs.first_name, theirs._state.db) == ("changed", "legacy")
    assert partly.first_name == "changed"


@pytest.mark.parametrize("override", [None, use_primary, lambda: use_replica(max_staleness=60)])
def test_no_override_takes_it_elsewhere(theirs: User, untouched, override):
    entry(theirs, "a").save(using="legacy")
    if override is None:
        assert theirs.logentry_set.get()._state.db == "legacy"
    else:
        with override():
            assert theirs.logentry_set.get()._state.db == "legacy"
            theirs.logentry_set.update(object_repr="d")


def test_what_is_made_for_it_is_made_there(theirs: User, untouched):
    made = [
        entry(theirs, "1"),
        LogEntry.objects.using("legacy").create(user=theirs, action_flag=ADDITION, object_repr="2"),
        theirs.logentry_set.create(action_flag=ADDITION, object_repr="3"),
        theirs.logentry_set.get_or_create(object_repr="4", defaults={"action_flag": ADDITION})[0],
        theirs.logentry_set.update_or_create(object_repr="5", defaults={"action_flag": ADDITION})[0],
        *theirs.logentry_set.bulk_create([entry(theirs, "6")]),
    ]
    made[0].full_clean()
    made[0].save()
    theirs.logentry_set.add(LogEntry(action_flag=ADDITION, object_repr="7"), bulk=False)
    assert {one._state.db for one in made} == {"legacy"}
    found = theirs.logentry_set.all()
    assert (found.db, found.count(), theirs.logentry_set.select_for_update().db) == ("legacy", 7, "legacy")
    assert theirs.logentry_set.filter(object_repr="1").update(object_repr="d") == 1
    # As it was read, by itself and with others.
    one = LogEntry.objects.using("legacy").first()
    assert one.user._state.db == "legacy"
    prefetch_related_objects([theirs], "logentry_set__user")
    assert {one._state.db for one in theirs.logentry_set.all()} == {"legacy"}
    assert next(theirs.logentry_set.all().iterator())._state.db == "legacy"


def test_many_to_many(untouched):
    user = User.objects.using("legacy").create(username="ada")
    group = Group.objects.using("legacy").create(name="g")
    user.groups.add(group)
    permission = Permission.objects.using("legacy").first()
    group.permissions.set([permission])
    assert user.groups.create(name="h")._state.db == "legacy"
    assert {found._state.db for found in user.groups.all()} == {"legacy"}
    assert group.user_set.get()._state.db == "legacy"
    assert {found._state.db for found in user.user_permissions.all() | group.permissions.all()} == {"legacy"}
    user.groups.remove(group)
    group.permissions.clear()
    assert [found.name for found in user.groups.all()] == ["h"]


def test_content_types_and_permissions(untouched):
    # By name, since it remembers what it has read.
    ContentType.objects.clear_cache()
    kind = ContentType.objects.db_manager("legacy").get_for_model(Group)
    assert kind._state.db == "legacy"
    assert {permission._state.db for permission in kind.permission_set.all()} == {"legacy"}
    assert Permission.objects.db_manager("legacy").filter(content_type=kind).count() == 4
    call_command("migrate", database="legacy", verbosity=0)
    ContentType.objects.clear_cache()


def test_ours_and_theirs_are_not_related(theirs: User):
    mine = User.objects.using("default").get()
    one = entry(mine, "a")
    with pytest.raises(ValueError, match="prevents this relation"):
        one.user = theirs
    with pytest.raises(ValueError):
        mine.logentry_set.add(entry(theirs, "a"))
    mixed = User.objects.create(username="ada")
    with pytest.raises(ValueError):
        mixed.groups.add(Group.objects.using("legacy").create(name="g"))


def test_a_copy_goes_where_it_is_told_to(theirs: User):
    theirs.pk, theirs.username = None, "copy"
    theirs.save(using="default")
    theirs.first_name = "a copy"
    theirs.save()
    assert (names("default"), names("legacy")) == (["a copy", "ours"], ["theirs"])
    back = User.objects.using("default").get(username="ours")
    back._state.db, back.first_name = "legacy", "moved"
    back.save()
    assert (names("default"), names("legacy")) == (["a copy", "ours"], ["moved"])


def test_what_is_new_is_ours():
    user = User(username="new")
    user.save()
    assert (user._state.db, names("legacy")) == ("default", [])


def test_a_context_that_has_written_there_still_reads_a_replica(theirs: User, lsn_replayed):
    if not config().REPLICAS:
        pytest.skip("REPLICAS=0")
    lsn_replayed()
    with consistency_context():
        with transaction.atomic(using="legacy"):
            theirs.save()
        with connections["legacy"].cursor() as cursor:
            cursor.execute("UPDATE users_user SET first_name = 'changed'")
        assert User.objects.get()._state.db == "replica"


def test_nobody_asks_where_the_second_database_stands(theirs: User):
    """Nor is a read there run on the primary: not even where its wrapper is a replica's."""
    monitor.reset()
    with consistency_context(), pytest.raises(Exception, match="nowhere"), connections["legacy"].cursor() as cursor:
        cursor.execute("SELECT * FROM nowhere")
    theirs.logentry_set.count()
    assert (monitor._nodes, monitor.counts) == ({}, {})


# The primary's other aliases ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [True, False])
def test_what_is_read_from_a_replica_is_the_primarys(settings, eventually, replicas: bool):
    """Without replicas, `replica` is the primary once more."""
    if not replicas:
        settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": []}
    make("default", "ours")
    eventually(User.objects.using("replica").exists)
    user = User.objects.using("replica").get()
    assert user._state.db == "replica"
    one = entry(user, "a")
    one.save()
    another = user.logentry_set.create(action_flag=ADDITION, object_repr="b")
    assert another._state.db == one._state.db == "default"
    user.first_name = "changed"
    user.save()
    assert (user._state.db, names("default")) == ("default", ["changed"])


def test_which_aliases_are_ours(settings, monkeypatch):
    settings.DBROUTING = {"REPLICAS": []}
    elsewhere = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    monkeypatch.setitem(configured.DATABASES, "copy", {**elsewhere, "TEST": {"MIRROR": "legacy"}})
    ours.cache_clear()
    mirrors = {
        alias for alias, entry in configured.DATABASES.items() if entry.get("TEST", {}).get("MIRROR") == "default"
    }
    assert ours() == {"default", *mirrors}
    assert not {"copy", "legacy", None} & ours()


# Other routers --------------------------------------------------------------------------------------------------------


class UsersElsewhere:
    """As Django's documentation writes one: apps have their own database, for good."""

    apps = ("users", "admin")

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "legacy" if model._meta.app_label in self.apps else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db == "legacy" if app_label in self.apps else None


class EverythingHere:
    """One that answers for every model."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return "default"


@pytest.fixture(params=["first", "last"])
def users_elsewhere(request: pytest.FixtureRequest, settings) -> None:
    routers = [UsersElsewhere(), ROUTER]
    settings.DATABASE_ROUTERS = routers if request.param == "last" else routers[::-1]


@pytest.mark.usefixtures("users_elsewhere")
def test_another_routers_models_are_left_to_it(untouched):
    user = User.objects.create(username="x")
    one = entry(user, "a")
    one.save()
    assert LogEntry.objects.get().user._state.db == one._state.db == "legacy"
    with use_primary():
        assert User.objects.filter(username="x").update(first_name="y") == 1
    User.objects.all().delete()
    assert not User.objects.exists()


@pytest.mark.usefixtures("users_elsewhere")
def test_beside_another_router_ours_decides_about_the_rest(lsn_replayed):
    lsn_replayed()
    with consistency_context():
        assert Group.objects.all().db == ("replica" if config().REPLICAS else "default")
        Group.objects.create(name="g")
        assert Group.objects.all().db == "default"
        assert Group.objects.get()._state.db == "default"


@pytest.mark.usefixtures("users_elsewhere")
def test_each_database_gets_the_tables_that_are_its_own(settings):
    replica = not config().REPLICAS
    assert [router.allow_migrate(alias, "auth") for alias in ("default", "legacy", "replica")] == [True, True, replica]
    assert [router.allow_migrate(alias, "users") for alias in ("default", "legacy", "replica")] == [
        False,
        True,
        False,
    ]


def test_a_router_after_ours_takes_no_replica_away(settings, lsn_replayed):
    settings.DATABASE_ROUTERS = [ROUTER, EverythingHere()]
    lsn_replayed()
    with consistency_context():
        assert User.objects.all().db == ("replica" if config().REPLICAS else "default")


def test_a_router_that_asks_ours_is_not_asked_by_it(settings):
    class Around:
        def __init__(self) -> None:
            self.inner = ReadWriteRouter()

        def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
            return self.inner.db_for_read(model, **hints)

    settings.DATABASE_ROUTERS = [Around()]
    assert User.objects.all().db == "default"
