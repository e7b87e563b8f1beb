"""A database beside the primary and its replicas: what is read there is saved, deleted and related there."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections, router, transaction
from django.db.models import Model, prefetch_related_objects

from articles.models import Article, Comment
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


def make(alias: str, title: str) -> Article:
    return Article.objects.using(alias).create(pk=SAME, title=title, slug=title, body="…", author_name="a")


@pytest.fixture
def theirs() -> Article:
    """A row of the second database, as read there. The primary has a row of its own by that key."""
    make("default", "ours")
    make("legacy", "theirs")
    return Article.objects.using("legacy").get(pk=SAME)


@pytest.fixture
def untouched() -> Iterator[None]:
    """What the test does asks the primary nothing, and marks nothing as written there."""
    with consistency_context() as context:
        yield
        assert (context.touched, context.wrote, context.proof) == (False, False, None)


def titles(alias: str) -> list[str]:
    return list(Article.objects.using(alias).order_by("title").values_list("title", flat=True))


# Objects --------------------------------------------------------------------------------------------------------------


def test_it_is_saved_where_it_was_read(theirs: Article, untouched):
    theirs.title = "changed"
    theirs.save()
    theirs.body = "changed"
    theirs.save(update_fields=["body"])
    assert titles("legacy") == ["changed"]


def test_the_primarys_row_stays(theirs: Article):
    theirs.title = "changed"
    theirs.save()
    theirs.delete()
    assert (titles("default"), titles("legacy")) == (["ours"], [])


def test_it_is_deleted_with_what_belongs_to_it(theirs: Article, untouched):
    Comment.objects.using("legacy").create(article=theirs, author_name="b", body="c")
    theirs.delete()
    assert titles("legacy") == []
    assert not Comment.objects.using("legacy").exists()


def test_it_is_refreshed_from_where_it_was_read(theirs: Article, untouched):
    partly = Article.objects.using("legacy").only("slug").get()
    Article.objects.using("legacy").update(title="changed")
    theirs.refresh_from_db()
    assert (theirs.title, theirs._state.db) == ("changed", "legacy")
    assert partly.title == "changed"


@pytest.mark.parametrize("override", [None, use_primary, lambda: use_replica(max_staleness=60)])
def test_no_override_takes_it_elsewhere(theirs: Article, untouched, override):
    Comment.objects.using("legacy").create(article=theirs, author_name="b", body="c")
    if override is None:
        assert theirs.comments.get()._state.db == "legacy"
    else:
        with override():
            assert theirs.comments.get()._state.db == "legacy"
            theirs.comments.update(body="d")


def test_what_is_made_for_it_is_made_there(theirs: Article, untouched):
    made = [
        Comment(article=theirs, author_name="1", body="c"),
        Comment.objects.using("legacy").create(article=theirs, author_name="2", body="c"),
        theirs.comments.create(author_name="3", body="c"),
        theirs.comments.get_or_create(author_name="4", defaults={"body": "c"})[0],
        theirs.comments.update_or_create(author_name="5", defaults={"body": "c"})[0],
        *theirs.comments.bulk_create([Comment(article=theirs, author_name="6", body="c")]),
    ]
    made[0].full_clean()
    made[0].save()
    theirs.comments.add(Comment(author_name="7", body="c"), bulk=False)
    assert {comment._state.db for comment in made} == {"legacy"}
    found = theirs.comments.all()
    assert (found.db, found.count(), theirs.comments.select_for_update().db) == ("legacy", 7, "legacy")
    assert theirs.comments.filter(author_name="1").update(body="d") == 1
    # As it was read, by itself and with others.
    comment = Comment.objects.using("legacy").first()
    assert comment.article._state.db == "legacy"
    prefetch_related_objects([theirs], "comments__article")
    assert {comment._state.db for comment in theirs.comments.all()} == {"legacy"}
    assert next(theirs.comments.all().iterator())._state.db == "legacy"


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
    kind = ContentType.objects.db_manager("legacy").get_for_model(Article)
    assert kind._state.db == "legacy"
    assert {permission._state.db for permission in kind.permission_set.all()} == {"legacy"}
    assert Permission.objects.db_manager("legacy").filter(content_type=kind).count() == 4
    call_command("migrate", database="legacy", verbosity=0)
    ContentType.objects.clear_cache()


def test_ours_and_theirs_are_not_related(theirs: Article):
    comment = Comment(article=Article.objects.using("default").get(), author_name="b", body="c")
    with pytest.raises(ValueError, match="prevents this relation"):
        comment.article = theirs
    with pytest.raises(ValueError):
        Article.objects.using("default").get().comments.add(Comment(article=theirs, author_name="b", body="c"))
    mixed = User.objects.create(username="ada")
    with pytest.raises(ValueError):
        mixed.groups.add(Group.objects.using("legacy").create(name="g"))


def test_a_copy_goes_where_it_is_told_to(theirs: Article):
    theirs.pk, theirs.slug = None, "copy"
    theirs.save(using="default")
    theirs.title = "a copy"
    theirs.save()
    assert (titles("default"), titles("legacy")) == (["a copy", "ours"], ["theirs"])
    back = Article.objects.using("default").get(slug="ours")
    back._state.db, back.title = "legacy", "moved"
    back.save()
    assert (titles("default"), titles("legacy")) == (["a copy", "ours"], ["moved"])


def test_what_is_new_is_ours():
    article = Article(title="new", slug="new", body="…", author_name="a")
    article.save()
    assert (article._state.db, titles("legacy")) == ("default", [])


def test_a_context_that_has_written_there_still_reads_a_replica(theirs: Article, lsn_replayed):
    if not config().REPLICAS:
        pytest.skip("REPLICAS=0")
    lsn_replayed()
    with consistency_context():
        with transaction.atomic(using="legacy"):
            theirs.save()
        with connections["legacy"].cursor() as cursor:
            cursor.execute("UPDATE articles_article SET title = 'changed'")
        assert Article.objects.get()._state.db == "replica"


def test_nobody_asks_where_the_second_database_stands(theirs: Article):
    """Nor is a read there run on the primary: not even where its wrapper is a replica's."""
    monitor.reset()
    with consistency_context(), pytest.raises(Exception, match="nowhere"), connections["legacy"].cursor() as cursor:
        cursor.execute("SELECT * FROM nowhere")
    theirs.comments.count()
    assert (monitor._nodes, monitor.counts) == ({}, {})


# The primary's other aliases ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [True, False])
def test_what_is_read_from_a_replica_is_the_primarys(settings, eventually, replicas: bool):
    """Without replicas, `replica` is the primary once more."""
    if not replicas:
        settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": []}
    make("default", "ours")
    eventually(Article.objects.using("replica").exists)
    article = Article.objects.using("replica").get()
    assert article._state.db == "replica"
    comment = Comment(article=article, author_name="b", body="c")
    comment.save()
    assert article.comments.create(author_name="b", body="d")._state.db == comment._state.db == "default"
    article.title = "changed"
    article.save()
    assert (article._state.db, titles("default")) == ("default", ["changed"])


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


class ArticlesElsewhere:
    """As Django's documentation writes one: an app has its own database, for good."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "legacy" if model._meta.app_label == "articles" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db == "legacy" if app_label == "articles" else None


class EverythingHere:
    """One that answers for every model."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return "default"


@pytest.fixture(params=["first", "last"])
def articles_elsewhere(request: pytest.FixtureRequest, settings) -> None:
    routers = [ArticlesElsewhere(), ROUTER]
    settings.DATABASE_ROUTERS = routers if request.param == "last" else routers[::-1]


@pytest.mark.usefixtures("articles_elsewhere")
def test_another_routers_models_are_left_to_it(untouched):
    article = Article.objects.create(title="x", slug="x", body="…", author_name="a")
    comment = Comment.objects.create(article=article, author_name="b", body="c")
    comment.save()
    assert Comment.objects.get().article._state.db == comment._state.db == "legacy"
    with use_primary():
        assert Article.objects.filter(slug="x").update(title="y") == 1
    Article.objects.all().delete()
    assert not Article.objects.exists()


@pytest.mark.usefixtures("articles_elsewhere")
def test_beside_another_router_ours_decides_about_the_rest(lsn_replayed):
    lsn_replayed()
    with consistency_context():
        assert User.objects.all().db == ("replica" if config().REPLICAS else "default")
        User.objects.create(username="ada")
        assert User.objects.all().db == "default"
        assert User.objects.get()._state.db == "default"


@pytest.mark.usefixtures("articles_elsewhere")
def test_each_database_gets_the_tables_that_are_its_own(settings):
    replica = not config().REPLICAS
    assert [router.allow_migrate(alias, "auth") for alias in ("default", "legacy", "replica")] == [True, True, replica]
    assert [router.allow_migrate(alias, "articles") for alias in ("default", "legacy", "replica")] == [
        False,
        True,
        False,
    ]


def test_a_router_after_ours_takes_no_replica_away(settings, lsn_replayed):
    settings.DATABASE_ROUTERS = [ROUTER, EverythingHere()]
    lsn_replayed()
    with consistency_context():
        assert Article.objects.all().db == ("replica" if config().REPLICAS else "default")


def test_a_router_that_asks_ours_is_not_asked_by_it(settings):
    class Around:
        def __init__(self) -> None:
            self.inner = ReadWriteRouter()

        def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
            return self.inner.db_for_read(model, **hints)

    settings.DATABASE_ROUTERS = [Around()]
    assert Article.objects.all().db == "default"
