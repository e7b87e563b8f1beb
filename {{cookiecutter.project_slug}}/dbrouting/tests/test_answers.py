"""A page says at its end which databases have answered, and why those."""

import pytest
from django.contrib.auth.models import Group

pytestmark = [
    pytest.mark.urls("dbrouting.tests.pages"),
    pytest.mark.django_db(transaction=True, databases=["default", "replica"]),
]
PAGE = "/groups/"


@pytest.fixture(autouse=True)
def there_is_a_replica(settings):
    if not settings.REPLICAS:
        pytest.skip("REPLICAS=0: the primary answers everything")


def said(page) -> list[tuple[str, str]]:
    return [(answers.alias, answers.why) for answers in page.context["routing"].answers.values() if answers.count]


def test_a_replica_without_a_token(client, lsn_replayed):
    lsn_replayed()
    page = client.get(PAGE)
    assert said(page) == [("replica", "no token")]
    assert '<span class="database replica">replica</span> 1 query<span class="quiet">, no token' in page.text


def test_a_replica_that_has_what_the_visitor_wrote_and_one_that_has_not(client, lsn_replayed, replay_paused):
    lsn_replayed()
    with replay_paused():
        client.post(PAGE, {"name": "mine"})
        page = client.get(PAGE)
        assert "mine" in page.text
        assert said(page) == [("default", "no replica is as far as the token")]
        assert '<span class="database primary">default</span> 1 query' in page.text
    lsn_replayed()
    assert said(client.get(PAGE)) == [("replica", "token satisfied")]


def test_an_alias_that_the_code_names(client, lsn_replayed):
    Group.objects.create(name="first")
    lsn_replayed()
    page = client.get(f"/from-replica{PAGE}")
    assert said(page) == [("replica", "")]
    assert "named in the code" in page.text


def test_the_page_hides_it_from_visitors(client, settings):
    settings.SHOW_ROUTING = False
    page = client.get(PAGE)
    assert page.context["routing"] is None
    assert "database" not in page.text
