"""Where queries go, on real streaming replication."""

import asyncio
import threading
import time
from dataclasses import replace
from http.cookies import SimpleCookie

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.core.signing import Signer
from django.db import DatabaseError, InternalError, OperationalError, connections, transaction
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from dbrouting import current_token, mark_write, use_primary, use_replica, with_token
from dbrouting.conf import config
from dbrouting.context import consistency_context, current_context
from dbrouting.monitor import State, connect, monitor
from dbrouting.routers import ReadWriteRouter
from dbrouting.sessions import SessionStore
from dbrouting.tokens import SEGMENT_HEADER, bytes_of_wal, primary_token
from users.models import User

pytestmark = pytest.mark.urls("dbrouting.tests.pages")
replicated = pytest.mark.django_db(transaction=True, databases=["default", "replica"])


PAGE = "/groups/"


def group(name: str = "first") -> Group:
    return Group.objects.create(name=name)


def databases_asked(page) -> set[str]:
    return {answers.alias for answers in page.context["routing"].answers.values() if answers.count}


def decided(reason: str) -> int:
    return monitor.counts[reason]


@pytest.fixture(autouse=True)
def there_is_a_replica(settings):
    if not settings.REPLICAS:
        pytest.skip("REPLICAS=0: there is nothing to route")


# The rules ------------------------------------------------------------------------------------------------------------


@replicated
def test_the_replica_is_a_standby_of_the_primary():
    with connections["replica"].cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_wal_receiver)")
        assert cursor.fetchone() == (True, 1)


@replicated
def test_a_row_reaches_the_replica(eventually):
    created = group()
    eventually(Group.objects.using("replica").filter(pk=created.pk).exists)


@replicated
def test_the_replica_refuses_writes(lsn_replayed):
    lsn_replayed()
    with pytest.raises(InternalError, match="read-only transaction"):
        Group.objects.using("replica").create(name="x")


@replicated
def test_a_safe_context_reads_from_a_replica(lsn_replayed):
    group()
    lsn_replayed()
    with consistency_context():
        assert Group.objects.get()._state.db == "replica"


@replicated
def test_after_a_write_the_context_reads_the_primary(lsn_replayed):
    lsn_replayed()
    with consistency_context():
        assert Group.objects.all().db == "replica"
        group()
        assert Group.objects.all().db == "default"


@replicated
@pytest.mark.parametrize("by", ["using", "cursor", "mark_write"])
def test_a_write_that_asks_no_router_counts_as_well(lsn_replayed, by: str):
    created = group()
    lsn_replayed()
    with consistency_context() as context:
        assert Group.objects.all().db == "replica"
        if by == "using":
            Group.objects.using("default").filter(pk=created.pk).update(name="new")
        elif by == "cursor":
            with connections["default"].cursor() as cursor:
                cursor.execute("UPDATE auth_group SET name = 'new'")
        else:
            mark_write()
        assert Group.objects.all().db == "default"
        assert context.wrote


@replicated
def test_who_has_read_the_primary_goes_on_there(lsn_replayed):
    """A replica may be behind what the primary has just shown."""
    lsn_replayed()
    with consistency_context() as context:
        Group.objects.using("default").count()
        assert Group.objects.all().db == "default"
        assert not context.wrote


@replicated
def test_an_unsafe_method_reads_the_primary():
    with consistency_context(safe=False):
        assert Group.objects.all().db == "default"


@replicated
def test_an_atomic_block_reads_the_primary(lsn_replayed):
    lsn_replayed()
    with consistency_context():
        with transaction.atomic():
            assert Group.objects.all().db == "default"
        assert Group.objects.all().db == "replica"


@replicated
def test_a_context_inside_an_atomic_block_sees_what_the_block_wrote(lsn_replayed):
    """A background task that is run at once, for one: it has a context of its own."""
    lsn_replayed()
    with transaction.atomic():
        created = group()
        with consistency_context():
            assert Group.objects.get().pk == created.pk


@replicated
@pytest.mark.parametrize("model", [Session, User])
def test_primary_only_apps_read_the_primary(settings, lsn_replayed, model):
    settings.DBROUTING = {**settings.DBROUTING, "PRIMARY_ONLY_APPS": ["sessions", "users"]}
    lsn_replayed()
    with consistency_context():
        assert model.objects.all().db == "default"


def test_outside_a_request_everything_is_on_the_primary():
    assert current_context() is None
    assert Group.objects.all().db == "default"


def test_without_replicas_everything_is_on_the_primary(settings):
    settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": []}
    with consistency_context():
        assert ReadWriteRouter().db_for_read(Group) == "default"


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_one_context_stays_on_one_replica(lsn_replayed):
    lsn_replayed()
    for _ in range(20):
        with consistency_context():
            assert len({ReadWriteRouter().db_for_read(Group) for _ in range(20)}) == 1


def test_migrations_run_where_writes_arrive(settings):
    settings.DBROUTING = {"REPLICAS": ["replica"]}
    router = ReadWriteRouter()
    assert router.allow_migrate("replica", "auth") is False
    # None leaves it to the next router, and to Django, which allows it.
    assert [router.allow_migrate(alias, "auth") for alias in ("default", "another")] == [None] * 2


def test_objects_of_the_same_database_may_be_related_and_of_others_not(settings):
    settings.DBROUTING = {"REPLICAS": ["replica"]}
    stranger, replicated, new = Group(), Group(), Group()
    stranger._state.db, replicated._state.db = "another", "replica"
    assert ReadWriteRouter().allow_relation(replicated, new) is True
    assert ReadWriteRouter().allow_relation(replicated, stranger) is None


@replicated
def test_overrides_win(lsn_replayed):
    lsn_replayed()
    with use_replica(max_staleness=5):
        assert Group.objects.all().db == "replica"
    with consistency_context(safe=False), use_replica(max_staleness=5):
        assert Group.objects.all().db == "replica"
        with use_primary():
            assert Group.objects.all().db == "default"


@replicated
def test_a_replica_that_is_not_fresh_enough_is_not_used(lsn_replayed, replay_paused, eventually):
    lsn_replayed()
    with replay_paused():
        group()
        stale = monitor.replica("replica").staleness
        eventually(lambda: stale() > 1)
        with use_replica(max_staleness=1):
            assert Group.objects.all().db == "default"
        with use_replica(max_staleness=60):
            assert Group.objects.all().db == "replica"


@replicated
def test_staleness_is_bounded(settings, lsn_replayed, replay_paused, eventually):
    settings.DBROUTING = {**settings.DBROUTING, "MAX_STALENESS": 1}
    lsn_replayed()
    with replay_paused():
        group()
        eventually(lambda: monitor.replica("replica").state is State.LAGGING)
        with consistency_context():
            assert Group.objects.all().db == "default"
    eventually(lambda: monitor.replica("replica").state is State.UP)


@replicated
def test_a_process_that_has_just_begun_calls_no_replica_lagging(settings, lsn_replayed, replay_paused, eventually):
    settings.DBROUTING = {**settings.DBROUTING, "MAX_STALENESS": 1}
    lsn_replayed()
    with replay_paused():
        group()
        monitor.reset()
        replica = monitor.replica("replica")
        eventually(lambda: replica.state is State.LAGGING)
        assert replica.latest.asked - replica.primary.remembers_since >= 1
    eventually(lambda: replica.state is State.UP)


@replicated
def test_an_idle_primary_makes_no_replica_stale(lsn_replayed):
    lsn_replayed()
    threading.Event().wait(1)
    assert monitor.replica("replica").staleness() < 0.5


# Tokens ---------------------------------------------------------------------------------------------------------------


@replicated
def test_a_token_is_satisfied_when_replayed_and_not_before(lsn_replayed, replay_paused, eventually):
    lsn_replayed()
    with replay_paused():
        created = group()
        token = primary_token().sign()
        for _ in range(5):
            with with_token(token):
                assert Group.objects.get(pk=created.pk)._state.db == "default"
            threading.Event().wait(0.05)
        # Who has not written it may be shown what was before.
        with consistency_context():
            assert not Group.objects.filter(pk=created.pk).exists()
    lsn_replayed()
    with with_token(token):
        assert Group.objects.get(pk=created.pk)._state.db == "replica"


def test_a_position_past_4_gib_of_wal():
    assert bytes_of_wal("1A/2B3C4D8") == 0x1A_02B3_C4D8


@replicated
def test_a_token_is_where_postgresql_says_the_primary_is():
    def position() -> int:
        cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
        return int(cursor.fetchone()[0])

    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()")
        server = cursor.fetchone()
        before, token, after = position(), primary_token(), position()
    assert (token.system, token.timeline) == server
    # Floored by a header at most.
    assert before - SEGMENT_HEADER <= token.lsn <= after


@replicated
def test_a_position_behind_a_page_header_is_reached(eventually):
    """Where a record ends with its page, the insert position is past the next header, and no replica gets there."""
    with connections["default"].cursor() as cursor:
        for _ in range(200):
            cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
            used = int(cursor.fetchone()[0]) % 8192
            if used == 24:
                break
            # 56: the header of the record, the message's own, and an empty prefix. Longer ones need a little more.
            size = max(1, 8192 - used - 56)
            cursor.execute("SELECT pg_logical_emit_message(false, '', repeat('x', %s), true)", [size])
        else:
            pytest.fail("no record ended with its page")
    token = primary_token()
    eventually(lambda: (proof := monitor.replica("replica").proof()) and token.satisfied_by(proof), patience=3)


@replicated
def test_a_token_from_an_open_transaction_is_never_satisfied(lsn_replayed):
    with consistency_context(), transaction.atomic():
        group()
        token = current_token()
    lsn_replayed()
    with with_token(token):
        assert Group.objects.get()._state.db == "default"


@replicated
def test_a_token_pins_its_reader_to_a_replica_and_its_incarnation(lsn_replayed):
    lsn_replayed()
    with consistency_context() as context:
        Group.objects.count()
        token = context.token()
    assert token.pin == ("replica", monitor.replica("replica").latest.incarnation)
    other = token.__class__(token.system, token.timeline, token.lsn, ("replica", token.pin[1] - 1))
    for carried, database in ((token, "replica"), (other, "default")):
        with with_token(carried.sign()):
            assert Group.objects.all().db == database


@pytest.mark.parametrize(
    "spoilt", ["", "nonsense", "1.2.3.:aaaaaa:bbbb", Signer(salt="dbrouting.token").sign("1.2"), None]
)
def test_what_is_no_token_demands_nothing(spoilt):
    with with_token(spoilt) as context:
        assert context.tokens == ()


@replicated
def test_a_token_ends(client: Client, lsn_replayed, replay_paused):
    """Its cookie goes with it; this client has kept it."""
    group()
    lsn_replayed()
    with replay_paused():
        group("mine")
        for age, shown in ((0, True), (config().TOKEN_LIFE + 1, False)):
            token = replace(primary_token(), issued=int(time.time() - age))
            client.cookies = SimpleCookie({token.cookie_name(): token.sign()})
            assert ("mine" in client.get(PAGE).text) is shown


# Threads, tasks, async ------------------------------------------------------------------------------------------------


@replicated
def test_a_thread_reads_what_its_starter_wrote(lsn_replayed, replay_paused):
    lsn_replayed()
    seen = []

    def work(token: str) -> None:
        try:
            with with_token(token):
                seen.append(Group.objects.get()._state.db)
            # Without a token there is no context, and without a context the primary.
            seen.append(Group.objects.get()._state.db)
        finally:
            connections.close_all()

    with replay_paused(), consistency_context():
        group()
        thread = threading.Thread(target=work, args=[current_token()])
        thread.start()
        thread.join()
    assert seen == ["default", "default"]


@replicated
def test_child_tasks_share_their_request_context(lsn_replayed):
    lsn_replayed()

    async def view() -> list[str]:
        with consistency_context():
            before = [await sync_to_async(lambda: Group.objects.all().db)()]
            await asyncio.gather(sync_to_async(group)(), asyncio.sleep(0))
            return [
                *before,
                *await asyncio.gather(*(sync_to_async(lambda: Group.objects.all().db)() for _ in range(3))),
            ]

    assert async_to_sync(view)() == ["replica", "default", "default", "default"]


@replicated
def test_a_task_that_is_run_at_once_writes_for_its_request(lsn_replayed):
    """Django's ImmediateBackend, for one: it has a context of its own, inside the request's."""
    lsn_replayed()
    with consistency_context() as request:
        assert Group.objects.all().db == "replica"
        with with_token(None):
            group()
        assert (request.wrote, Group.objects.all().db) == (True, "default")


@replicated
def test_what_names_a_replica_by_an_object_from_there_sees_the_write_too(lsn_replayed, replay_paused):
    entry = {"user": User.objects.create(username="ada"), "action_flag": ADDITION}
    first = LogEntry.objects.create(**entry)
    lsn_replayed()
    with consistency_context(), replay_paused():
        found = LogEntry.objects.get()
        assert found._state.db == "replica"
        second = LogEntry.objects.create(**entry)
        assert found.get_next_by_action_time() == second
        # Who says that it may be old, gets it.
        with use_replica(max_staleness=60):
            assert list(LogEntry.objects.all()) == [first]


# Pages ----------------------------------------------------------------------------------------------------------------


@replicated
def test_a_page_is_read_from_the_replica_and_a_post_is_not(client: Client, lsn_replayed):
    group()
    lsn_replayed()
    page = client.get(PAGE)
    assert page.status_code == 200
    assert databases_asked(page) == {"replica"}
    with CaptureQueriesContext(connections["replica"]) as on_replica:
        posted = client.post(PAGE, {"name": "c"})
    assert (posted.status_code, len(on_replica)) == (302, 0)
    assert Group.objects.count() == 2


@replicated
def test_the_same_under_asgi(lsn_replayed):
    group()
    lsn_replayed()
    page = async_to_sync(AsyncClient().get)(PAGE)
    assert page.status_code == 200
    assert databases_asked(page) == {"replica"}


@replicated
def test_the_page_after_a_post_shows_it(client: Client, lsn_replayed, replay_paused):
    group()
    lsn_replayed()
    with replay_paused():
        client.post(PAGE, {"name": "mine"})
        assert "mine" in client.get(PAGE).text
        assert "mine" not in Client().get(PAGE).text
    lsn_replayed()
    page = client.get(PAGE)
    assert ("mine" in page.text, databases_asked(page)) == (True, {"replica"})


@replicated
def test_the_same_under_asgi_after_a_post(lsn_replayed, replay_paused):
    client = AsyncClient()
    lsn_replayed()
    with replay_paused():
        posted = async_to_sync(client.post)(PAGE, {"name": "mine"})
        assert posted.status_code == 302
        assert "mine" in async_to_sync(client.get)(PAGE).text


@replicated
def test_a_client_without_cookies_carries_the_header(lsn_replayed, replay_paused):
    group()
    lsn_replayed()
    with replay_paused():
        posted = Client().post(PAGE, {"name": "mine"})
        token = posted.headers["Consistency-Token"]
        assert "mine" in Client().get(PAGE, headers={"Consistency-Token": token}).text


@replicated
def test_an_anonymous_reader_gets_no_token(client: Client, lsn_replayed):
    group()
    lsn_replayed()
    page = client.get(PAGE)
    assert not [name for name in page.cookies if name.startswith("dbrouting")]
    assert "Consistency-Token" not in page.headers


@replicated
def test_a_writer_gets_one_token_and_later_one_in_its_place(client: Client, lsn_replayed):
    group()
    for number in range(3):
        client.post(PAGE, {"name": f"{number}"})
        assert len(alive(client)) == 1
    lsn_replayed()
    before = alive(client)
    client.get(PAGE)
    pinned = alive(client)
    assert len(pinned) == 1
    assert pinned != before
    # Reading on changes nothing, so nothing is sent.
    page = client.get(PAGE)
    assert "Consistency-Token" not in page.headers
    assert alive(client) == pinned


@replicated
def test_an_answer_that_comes_late_does_not_undo_a_write(client: Client, lsn_replayed, replay_paused):
    """A reading request that began before the write, and whose answer is the last: it knows nothing of the write."""
    group()
    client.post(PAGE, {"name": "second"})
    lsn_replayed()
    slow = Client()
    slow.cookies = client.cookies.copy()
    with replay_paused():
        client.post(PAGE, {"name": "mine"})
        late = slow.get(PAGE)
        assert databases_asked(late) == {"replica"}
        client.cookies.update(late.cookies)
        assert "mine" in client.get(PAGE).text


def alive(client: Client) -> list[str]:
    return [morsel.value for name, morsel in client.cookies.items() if name.startswith("dbrouting-") and morsel.value]


@pytest.mark.django_db
def test_a_plain_test_case_needs_no_replica(client: Client):
    """Its transaction counts as an atomic block, so it sees its own rows, and only on the primary."""
    monitor.reset()
    group()
    client.post(PAGE, {"name": "c"})
    page = client.get(PAGE)
    assert page.status_code == 200
    assert databases_asked(page) == {"default"}
    # Nobody has even begun to ask the replica where it stands.
    assert monitor._nodes == {}


def test_the_context_ends_with_the_request(client: Client, db):
    client.get("/livez")
    assert current_context() is None


# Failures -------------------------------------------------------------------------------------------------------------


@replicated
def test_a_read_whose_backend_is_killed_is_run_on_the_primary(lsn_replayed, eventually):
    created = group()
    lsn_replayed()
    with consistency_context():
        assert Group.objects.get()._state.db == "replica"
        kill_backend_of("replica")
        assert Group.objects.filter(pk=created.pk).count() == 1
        assert Group.objects.all().db == "default"
    assert monitor.replica("replica").state is not State.UP
    eventually(lambda: monitor.replica("replica").state is State.UP)
    with consistency_context():
        assert Group.objects.get()._state.db == "replica"


@replicated
@pytest.mark.parametrize("shape", ["list", "iterator", "raw", "cursor", "aggregate"])
def test_every_kind_of_read_survives(lsn_replayed, eventually, shape: str):
    created = group()
    lsn_replayed()
    groups = Group.objects.using("replica")
    list(groups)
    kill_backend_of("replica")
    if shape == "list":
        assert [found.pk for found in groups] == [created.pk]
    elif shape == "iterator":
        assert [found.pk for found in groups.iterator()] == [created.pk]
    elif shape == "raw":
        assert [found.pk for found in groups.raw("WITH a AS (SELECT * FROM auth_group) SELECT * FROM a")] == [
            created.pk
        ]
    elif shape == "cursor":
        with connections["replica"].cursor() as cursor:
            cursor.execute("SELECT id FROM auth_group WHERE name = %s", ["first"])
            assert cursor.fetchall() == [(created.pk,)]
    else:
        assert groups.count() == 1
    eventually(lambda: monitor.replica("replica").state is State.UP)


@replicated
def test_a_replica_that_refuses_connections_fails_nobody(client: Client, lsn_replayed, replica_down):
    created = group()
    lsn_replayed()
    with replica_down():
        assert Group.objects.using("replica").get().pk == created.pk
        page = client.get("/from-replica/groups/")
        assert (page.status_code, databases_asked(page)) == (200, {"default"})
        with pytest.raises(OperationalError), transaction.atomic(using="replica"):
            Group.objects.using("replica").get()


@replicated
def test_a_replica_that_was_down_from_the_first_is_used_when_it_is_up(lsn_replayed, replica_down):
    """The first connection asks for the server's version, by a cursor of the connection that is being made."""
    group()
    lsn_replayed()
    with replica_down():
        pass
    connections["replica"].close()
    RAN_DB_VERSION_CHECK.discard("replica")
    connections["replica"].__dict__.pop("pg_version", None)
    connections["replica"]._connected_at = float("-inf")
    lsn_replayed()
    with consistency_context():
        assert Group.objects.get()._state.db == "replica"


@replicated
def test_what_a_replica_does_not_have_yet_is_read_on_the_primary(lsn_replayed, replay_paused):
    """A migration that it has not replayed."""
    lsn_replayed()
    with replay_paused(), connections["default"].cursor() as primary:
        primary.execute("CREATE TABLE added AS SELECT 1 AS one")
        with connections["replica"].cursor() as cursor:
            cursor.execute("SELECT one FROM added")
            assert cursor.fetchone() == (1,)
            # The cursor stays there, and may write no more than on a replica.
            with pytest.raises(InternalError, match="read-only transaction"):
                cursor.execute("DELETE FROM added")
        primary.execute("DROP TABLE added")
    assert monitor.replica("replica").state is State.UP


@replicated
def test_a_statement_that_cannot_be_sent_condemns_no_replica(lsn_replayed):
    """libpq has no SQLSTATE for it, as for a connection that breaks."""
    lsn_replayed()
    many = ", ".join(["%s"] * 70_000)
    with connections["replica"].cursor() as cursor:
        cursor.cursor = psycopg.Cursor(connections["replica"].connection)
        with pytest.raises(DatabaseError, match="parameters"):
            cursor.execute(f"SELECT 1 WHERE 1 IN ({many})", list(range(70_000)))
    assert monitor.replica("replica").state is State.UP


@replicated
def test_a_write_to_a_replica_that_is_away_is_done_nowhere(lsn_replayed, replica_down):
    lsn_replayed()
    with replica_down():
        with pytest.raises(InternalError, match="read-only transaction"):
            Group.objects.using("replica").create(name="x")
        with pytest.raises(InternalError, match="read-only transaction"), connections["replica"].cursor() as cursor:
            cursor.execute("WITH gone AS (DELETE FROM auth_group RETURNING id) SELECT count(*) FROM gone")
    assert not Group.objects.exists()


@replicated
def test_a_fallback_inside_an_open_transaction_leaves_it_writable(lsn_replayed, replica_down):
    lsn_replayed()
    with replica_down(), transaction.atomic():
        assert not Group.objects.using("replica").exists()
        group()
    assert Group.objects.count() == 1


@replicated
@pytest.mark.parametrize("statement", ["SELECT 1/0", "SELECT pg_sleep(5)"])
def test_an_error_that_is_the_statements_own_is_not_run_again(lsn_replayed, statement: str):
    lsn_replayed()
    before = sum(count for reason, count in monitor.counts.items() if reason.startswith("read again"))
    with connections["replica"].cursor() as cursor:
        cursor.execute("SET statement_timeout = '100ms'")
        with pytest.raises(Exception, match=r"division by zero|statement timeout"):
            cursor.execute(statement)
        cursor.execute("RESET statement_timeout")
    assert sum(count for reason, count in monitor.counts.items() if reason.startswith("read again")) == before
    assert monitor.replica("replica").state is State.UP


@replicated
def test_a_proof_that_has_expired_is_worth_nothing(lsn_replayed, monkeypatch):
    """The process was suspended during the read, for one: the replica may have been restarted meanwhile."""
    group()
    lsn_replayed()

    def expire(execute, *statement):
        monkeypatch.setattr(monitor.replica("replica"), "holds", lambda proof: False)
        return execute(*statement)

    again = decided("read again: the proof has expired")
    with consistency_context(), connections["replica"].execute_wrapper(expire):
        assert len(Group.objects.all()) == 1
    assert decided("read again: the proof has expired") == again + 1


def kill_backend_of(alias: str) -> None:
    """Of this thread's connection, by another one."""
    pid = connections[alias].connection.info.backend_pid
    with connect(alias) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


# Logged-in visitors ---------------------------------------------------------------------------------------------------


@pytest.fixture
def user(transactional_db) -> User:
    return User.objects.create_superuser("ada", password="analytical engine")


def log_in(client: Client) -> None:
    answer = client.post("/admin/login/", {"username": "ada", "password": "analytical engine", "next": "/admin/"})
    assert answer.status_code == 302


@replicated
def test_a_page_for_someone_logged_in_sends_nothing_to_the_primary(client: Client, user: User, lsn_replayed):
    group()
    log_in(client)
    lsn_replayed()
    client.get("/admin/")
    with CaptureQueriesContext(connections["default"]) as on_primary:
        page = client.get("/admin/auth/group/")
    assert (page.status_code, page.context["user"].username) == (200, "ada")
    assert on_primary.captured_queries == []


@replicated
def test_who_has_just_logged_in_stays_so(client: Client, user: User, lsn_replayed, replay_paused):
    lsn_replayed()
    with replay_paused():
        log_in(client)
        for _ in range(3):
            assert client.get("/admin/").status_code == 200
        # The client that dropped its token is looked up on the primary.
        for name in [name for name in client.cookies if name.startswith("dbrouting")]:
            del client.cookies[name]
        assert client.get("/admin/").status_code == 200


@replicated
def test_who_somebody_is_may_not_be_old(lsn_replayed, replay_paused):
    """Whatever a view allows its own reads to be."""
    lsn_replayed()
    with replay_paused(), consistency_context():
        session = SessionStore()
        session["key"] = "value"
        session.create()
        with use_replica(max_staleness=60):
            assert Group.objects.all().db == "replica"
            assert SessionStore(session.session_key)["key"] == "value"


@replicated
def test_a_session_that_no_replica_has_yet_can_be_deleted(lsn_replayed, replay_paused):
    """In a safe request, as the one that finds that the password has changed."""
    lsn_replayed()
    with replay_paused():
        session = SessionStore()
        session.create()
        with consistency_context():
            assert SessionStore().exists(session.session_key)
        with consistency_context():
            SessionStore(session.session_key).delete()
        assert not Session.objects.exists()


@replicated
def test_the_same_under_asgi_for_a_session(user: User, lsn_replayed, replay_paused):
    client = AsyncClient()
    lsn_replayed()
    with replay_paused():
        async_to_sync(client.alogin)(username="ada", password="analytical engine")
        for _ in range(3):
            assert async_to_sync(client.get)("/admin/").status_code == 200


@replicated
def test_a_logout_ends_a_session_that_no_replica_has_yet(client: Client, user: User, lsn_replayed, replay_paused):
    lsn_replayed()
    with replay_paused():
        log_in(client)
        assert Session.objects.count() == 1
        session = client.cookies["sessionid"].value
        assert client.post("/admin/logout/").status_code in (200, 302)
        assert Session.objects.count() == 0
        thief = Client()
        thief.cookies["sessionid"] = session
        assert thief.get("/admin/").status_code == 302


@replicated
def test_a_changed_password_keeps_its_owner_logged_in(client: Client, user: User, lsn_replayed, replay_paused):
    log_in(client)
    lsn_replayed()
    new = "difference engine"
    with replay_paused():
        form = {"old_password": "analytical engine", "new_password1": new, "new_password2": new}
        assert client.post("/admin/password_change/", form).status_code == 302
        assert client.get("/admin/").status_code == 200
