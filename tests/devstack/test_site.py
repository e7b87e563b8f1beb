"""A running devstack: its pages, and other starts beside it."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from axe_core_python.selenium import Axe
from selenium.webdriver.common.by import By

from tests.baking import edit_env
from tests.browser import browser, leads_on
from tests.devstack.devstack import MANAGE, Devstack, devstack, manage, servers, sql
from tests.waiting import eventually


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Path]) -> Path:
    return make_project("dev_site", project_name="Dev & Stack", replicas="2")


@pytest.fixture(scope="module")
def running(project: Path) -> Iterator[Devstack]:
    with devstack(project) as stack:
        manage(project, "seed_articles", "--articles", "30", "--comments", "50")
        yield stack


def assert_ready(stack: Devstack) -> None:
    """A process that has just begun needs a moment to know its databases."""
    eventually(lambda: requests.get(stack.url + "/readyz", timeout=30).json()["status"] == "ok")


def test_it_serves_from_a_replica(running: Devstack) -> None:
    assert "primary" in running.output
    eventually(lambda: manage(running.project, "topology").count(" ms ") == 2)
    # Its workers ask the replicas before anybody visits.
    running.wait_for(r"(replica_2 is up \(before: unknown\))")

    # A replica that has not replayed the tables yet leaves its visitors to the primary.
    def from_a_replica() -> str:
        page = requests.get(running.url + "/most-discussed/", timeout=30)
        assert page.status_code == 200
        return page.text if "/articles/" in page.text and 'class="database replica"' in page.text else ""

    assert "Dev &amp; Stack" in eventually(from_a_replica)
    assert_ready(running)


def test_a_visitor_reads_and_comments_in_a_browser(running: Devstack) -> None:
    with browser() as visitor:
        visitor.get(running.url + "/")
        leads_on(visitor.find_element(By.CSS_SELECTOR, 'a[href^="/articles/"]'))
        assert visitor.title.endswith("Dev & Stack")

        def served_by_a_replica() -> bool:
            visitor.refresh()
            return (
                visitor.find_element(By.CSS_SELECTOR, "footer .database").get_attribute("class") == "database replica"
            )

        eventually(served_by_a_replica)
        assert visitor.find_element(By.CSS_SELECTOR, "footer .database.replica").is_displayed()
        visitor.find_element(By.NAME, "author_name").send_keys("Zoë")
        visitor.find_element(By.NAME, "body").send_keys("<b>from a browser</b>")
        leads_on(visitor.find_element(By.CSS_SELECTOR, "main form [type=submit]"))
        assert "<b>from a browser</b>" in visitor.find_element(By.TAG_NAME, "main").text
        # Nothing is missing, refused or wider than the screen.
        assert [entry for entry in visitor.get_log("browser") if entry["level"] == "SEVERE"] == []
        widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
        content, window = visitor.execute_script(widths)
        assert content <= window


@pytest.mark.parametrize("width", [380, 1200])
def test_axe_finds_nothing_on_the_pages(running: Devstack, width: int) -> None:
    """The project's own: the admin's are Django's."""
    with browser() as visitor:
        visitor.set_window_size(width, 900)
        visitor.get(running.url + "/")
        article = visitor.find_element(By.CSS_SELECTOR, 'a[href^="/articles/"]').get_attribute("href")
        pages = [
            f"{running.url}/",
            article,
            *(f"{running.url}/{page}/" for page in ("most-discussed", "from-replica", "404")),
        ]
        for page in pages:
            visitor.get(page)
            found = Axe().run(visitor)
            assert len(found["passes"]) > 20
            assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == [], page


def test_it_says_what_the_machine_lacks(running: Devstack) -> None:
    (names,) = sql(running.project, "primary", "SELECT array_agg(name) FROM pg_available_extensions")[0]
    said = re.search(r"This PostgreSQL lacks what the images have: (.*?)\. If", running.output)
    for name in ("pgcrypto", "uuid-ossp", "hstore"):
        assert (name in names) != (name in (said[1] if said else ""))
    pooled = "PgBouncer's pools" in running.output
    assert pooled != ("apt-get install pgbouncer" in running.output)


def test_a_second_start_on_the_same_data_is_refused_and_harmless(project: Path, running: Devstack) -> None:
    second = subprocess.run([*MANAGE, "devstack"], cwd=project, capture_output=True, text=True)
    assert second.returncode != 0
    assert "Another devstack runs on" in second.stderr and "Traceback" not in second.stderr
    assert_ready(running)


def test_two_stacks_leave_each_other_alone(project: Path, running: Devstack, make_project: Callable[..., Path]) -> None:
    """Each on its own ports, also if both were to take the same; and the end of one is not the end of the other."""
    other = make_project("other_site")
    edit_env(other, WEB_PORT=running.url.rsplit(":")[-1])
    with devstack(other) as theirs:
        assert theirs.url != running.url
        port = running.url.rsplit(":")[-1]
        assert f"Port {port} is not free" in theirs.output and "set WEB_PORT in .env" in theirs.output
        assert_ready(theirs)
        assert_ready(running)
    eventually(lambda: not servers(other))
    assert_ready(running)
