"""Where queries go, on real streaming replication."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import InternalError, connections, transaction
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from articles.models import Article, Comment
from dbrouting.context import consistency_context, current_context
from dbrouting.routers import ReadWriteRouter

replicated = pytest.mark.django_db(transaction=True, databases=["default", "replica"])


def article(slug: str = "first") -> Article:
    return Article.objects.create(
        title=slug, slug=slug, body="…", author_name="a", published_at=timezone.now() - timedelta(days=1)
    )


def databases_asked(page) -> set[str]:
    return {query.alias for query in page.context["query_log"].queries}


@pytest.fixture(autouse=True)
def one_replica(settings):
    if not settings.DBROUTING["REPLICAS"]:
        pytest.skip("REPLICAS=0: there is nothing to route")
    settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": ["replica"]}


@replicated
def test_the_replica_is_a_standby_of_the_primary():
    with connections["replica"].cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_wal_receiver)")
        assert cursor.fetchone() == (True, 1)


@replicated
def test_a_row_reaches_the_replica(eventually):
    created = article()
    eventually(Article.objects.using("replica").filter(pk=created.pk).exists)


@replicated
def test_the_replica_refuses_writes(lsn_replayed):
    lsn_replayed()
    with pytest.raises(InternalError, match="read-only transaction"):
        Article.objects.using("replica").create(title="x", slug="x", body="x", author_name="x")


@replicated
def test_a_safe_request_reads_from_a_replica(lsn_replayed):
    article()
    lsn_replayed()
    with consistency_context(safe=True):
        assert Article.objects.get()._state.db == "replica"


@replicated
def test_after_a_write_the_context_reads_the_primary():
    with consistency_context(safe=True):
        assert Article.objects.all().db == "replica"
        article()
        assert Article.objects.all().db == "default"


@replicated
def test_an_unsafe_method_reads_the_primary():
    with consistency_context(safe=False):
        assert Article.objects.all().db == "default"


@replicated
def test_an_atomic_block_reads_the_primary():
    with consistency_context(safe=True):
        with transaction.atomic():
            assert Article.objects.all().db == "default"
        assert Article.objects.all().db == "replica"


@replicated
@pytest.mark.parametrize("model", [Session, User])
def test_primary_only_apps_read_the_primary(model):
    with consistency_context(safe=True):
        assert model.objects.all().db == "default"


def test_outside_a_request_everything_is_on_the_primary():
    assert current_context() is None
    assert Article.objects.all().db == "default"


def test_without_replicas_everything_is_on_the_primary(settings):
    settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": []}
    with consistency_context(safe=True):
        assert ReadWriteRouter().db_for_read(Article) == "default"


@replicated
def test_one_context_stays_on_one_replica(settings):
    settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": ["replica", "replica_2", "replica_3"]}
    for _ in range(20):
        with consistency_context(safe=True):
            assert len({ReadWriteRouter().db_for_read(Article) for _ in range(20)}) == 1


def test_migrations_run_where_writes_arrive():
    router = ReadWriteRouter()
    assert router.allow_migrate("replica", "articles") is False
    # None leaves it to the next router, and to Django, which allows it.
    assert [router.allow_migrate(alias, "articles") for alias in ("default", "direct", "another")] == [None] * 3


def test_objects_of_the_same_database_may_be_related_and_of_others_not():
    stranger, replicated, new = Article(), Article(), Article()
    stranger._state.db, replicated._state.db = "another", "replica"
    assert ReadWriteRouter().allow_relation(replicated, new) is True
    assert ReadWriteRouter().allow_relation(replicated, stranger) is None


@replicated
def test_a_page_is_read_from_the_replica_and_a_post_is_not(client: Client, lsn_replayed):
    created = article()
    lsn_replayed()
    page = client.get(created.get_absolute_url())
    assert page.status_code == 200
    assert databases_asked(page) == {"replica"}
    with CaptureQueriesContext(connections["replica"]) as on_replica:
        posted = client.post(created.get_absolute_url(), {"author_name": "b", "body": "c"})
    assert (posted.status_code, len(on_replica)) == (302, 0)
    assert Comment.objects.count() == 1


@replicated
def test_the_same_under_asgi(lsn_replayed):
    created = article()
    lsn_replayed()
    page = async_to_sync(AsyncClient().get)(created.get_absolute_url())
    assert page.status_code == 200
    assert databases_asked(page) == {"replica"}


@pytest.mark.django_db
def test_a_plain_test_case_needs_no_replica(client: Client):
    """Its transaction counts as an atomic block, so it sees its own rows, and only on the primary."""
    created = article()
    page = client.get(created.get_absolute_url())
    assert page.status_code == 200
    assert databases_asked(page) == {"default"}


def test_the_context_ends_with_the_request(client: Client, db):
    client.get("/livez")
    assert current_context() is None
