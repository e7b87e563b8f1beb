"""The generated project without Docker: its own `make test`, and `manage.py devstack` as a person uses it."""

import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import requests
from selenium.webdriver.common.by import By

from tests.baking import bake, edit_env, free_port
from tests.devstack.devstack import browser, devstack, manage, servers


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = bake(
        tmp_path_factory.mktemp("devstack"), project_name="Dev & Stack", project_slug="dev_site", replicas="2"
    )
    edit_env(project, WEB_PORT=str(free_port()))
    subprocess.run(["make", ".venv/installed"], cwd=project, check=True, capture_output=True)
    return project


def test_the_projects_own_tests_pass(project: Path) -> None:
    """ruff, mypy --strict and pytest on a real primary and two real replicas."""
    done = subprocess.run(["make", "test"], cwd=project, capture_output=True, text=True)
    print(done.stdout[-5000:], done.stderr[-5000:])
    assert done.returncode == 0
    assert re.search(r"^\d+ passed", done.stdout, flags=re.MULTILINE)
    assert "Success: no issues found" in done.stdout


def test_it_serves_from_a_replica_and_stops_on_ctrl_c(project: Path) -> None:
    with devstack(project) as stack:
        assert "primary" in stack.output and stack.output.count(" ms ") == 2
        manage(project, "seed_articles", "--articles", "30", "--comments", "50")
        page = requests.get(stack.url + "/most-discussed/", timeout=10)
        deadline = time.monotonic() + 10
        # A process that has just begun asks the primary, until it knows where the replicas stand.
        while not ("/articles/" in page.text and "replica" in page.text[page.text.rindex("<footer") :]):
            assert time.monotonic() < deadline, page.text
            page = requests.get(stack.url + "/most-discussed/", timeout=10)
        assert page.status_code == 200
        assert "Dev &amp; Stack" in page.text
        ready = requests.get(stack.url + "/readyz", timeout=10).json()
        assert ready["status"] == "ok", ready
        assert servers(project)
        assert stack.ctrl_c() == 0
        assert "stopped; the data is in" in stack.output
    assert servers(project) == []
    assert not (project / ".devstack" / "env").exists()
    logs = (project / ".devstack" / "primary.log").read_text()
    assert "database system is shut down" in logs


def test_a_visitor_reads_and_comments_in_a_browser(project: Path) -> None:
    with devstack(project) as stack, browser() as visitor:
        visitor.get(stack.url + "/")
        visitor.find_element(By.CSS_SELECTOR, 'a[href^="/articles/"]').click()
        assert visitor.title.endswith("Dev & Stack")
        deadline = time.monotonic() + 10
        # A process that has just begun asks the primary, until it knows where the replicas stand.
        while not visitor.find_elements(By.CSS_SELECTOR, "footer .database.replica"):
            assert time.monotonic() < deadline
            visitor.refresh()
        assert visitor.find_element(By.CSS_SELECTOR, "footer .database.replica").is_displayed()
        visitor.find_element(By.NAME, "author_name").send_keys("Zoë")
        visitor.find_element(By.NAME, "body").send_keys("<b>from a browser</b>")
        visitor.find_element(By.NAME, "body").submit()
        assert "<b>from a browser</b>" in visitor.find_element(By.TAG_NAME, "main").text
        # Nothing is missing, refused or wider than the screen.
        assert [entry for entry in visitor.get_log("browser") if entry["level"] == "SEVERE"] == []
        widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
        content, window = visitor.execute_script(widths)
        assert content <= window


def test_the_next_start_finds_the_data(project: Path) -> None:
    with devstack(project):
        count = "from articles.models import Article; print(Article.objects.count())"
        assert manage(project, "shell", "--verbosity", "0", "-c", count).strip() == "30"


def test_it_leaves_other_servers_alone(project: Path, tmp_path: Path) -> None:
    """Two stacks at once: each on its own ports, and the end of one is not the end of the other."""
    other = bake(tmp_path, project_slug="other_site")
    (other / ".venv").symlink_to(project / ".venv")
    with devstack(project) as mine:
        with devstack(other) as theirs:
            assert mine.url != theirs.url
            assert requests.get(theirs.url + "/readyz", timeout=10).status_code == 200
        assert servers(other) == []
        assert requests.get(mine.url + "/readyz", timeout=10).json()["status"] == "ok"


def test_a_taken_port_is_left_to_its_owner(project: Path) -> None:
    wanted = re.search(r"^WEB_PORT=(\d+)$", (project / ".env").read_text(), flags=re.MULTILINE)
    assert wanted
    with socket.create_server(("127.0.0.1", int(wanted[1]))), devstack(project) as stack:
        assert not stack.url.endswith(f":{wanted[1]}")
        assert requests.get(stack.url + "/livez", timeout=10).status_code == 200


def test_a_second_start_on_the_same_data_is_refused_and_harmless(project: Path) -> None:
    with devstack(project) as stack:
        second = subprocess.run(
            [".venv/bin/python", "manage.py", "devstack"], cwd=project, capture_output=True, text=True
        )
        assert second.returncode != 0
        assert "primary ended" in second.stderr and "another server runs on" in second.stderr
        assert requests.get(stack.url + "/readyz", timeout=10).json()["status"] == "ok"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_it_as_cleanly(project: Path, number: int) -> None:
    with devstack(project) as stack:
        stack.process.send_signal(number)
        assert stack.process.wait(timeout=60) == 0
    assert servers(project) == []
    assert "database system is shut down" in (project / ".devstack" / "primary.log").read_text()


def test_a_command_ends_with_its_own_status(project: Path) -> None:
    command = [
        ".venv/bin/python",
        "manage.py",
        "devstack",
        "--for-tests",
        "--",
        "sh",
        "-c",
        "echo $DATABASE_URL; exit 7",
    ]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 7
    assert re.search(r"postgresql://owner@127\.0\.0\.1:\d+/dev_site", done.stdout)


def test_a_failed_start_leaves_nothing_running(project: Path) -> None:
    """With the log's last lines in the message, and not a traceback."""
    secret = project / "secrets" / "monitor_password"
    before = secret.read_text()
    secret.write_text("\n")
    try:
        done = subprocess.run(
            [".venv/bin/python", "manage.py", "devstack"], cwd=project, capture_output=True, text=True
        )
    finally:
        secret.write_text(before)
    assert done.returncode != 0
    assert "the secret monitor_password is empty" in done.stderr
    assert "Traceback" not in done.stderr
    assert servers(project) == []
