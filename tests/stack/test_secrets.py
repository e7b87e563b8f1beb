"""A password or a key changes: by rotation, by accident."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.stack.stack import Stack
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("the_row_survives")


@pytest.fixture
def stack(lived_in_stack: Stack) -> Stack:
    return lived_in_stack


def renew(stack: Stack, *names: str) -> None:
    """New values, made the way the messages and the README tell."""
    for name in names:
        (stack.project / "secrets" / name).unlink()
    subprocess.run(["python3", "ops/setup.py"], cwd=stack.project, check=True)


@pytest.fixture
def short_start_period(stack: Stack) -> Iterator[None]:
    """Docker reports what is wrong with a primary after its start period of two minutes. Here it is ten seconds."""
    compose = stack.project / "compose.yaml"
    before = compose.read_text()
    compose.write_text(before.replace("retries: 3, start_period: 2m", "retries: 3, interval: 2s, start_period: 10s"))
    assert compose.read_text() != before
    yield
    compose.write_text(before)
    stack.up()


@pytest.mark.parametrize("roles", [["app"], ["owner", "replicator", "monitor"]])
def test_a_changed_password_is_a_clear_error_with_its_remedy(
    stack: Stack, short_start_period: None, roles: list[str]
) -> None:
    renew(stack, *(f"{role}_password" for role in roles))
    assert "primary-1 is unhealthy" in stack.refuses_up()
    message = f"secrets/ does not hold the password that this volume has for: {' '.join(roles)}."

    def told() -> str:
        checks = stack.inspect("primary")["State"]["Health"]["Log"]
        return next((check["Output"] for check in checks if message in check["Output"]), "")

    said = eventually(told)
    assert message in stack.logs("primary")
    # Compose brings PgBouncer back after its primary, which is not to be had.
    assert "primary-1 is unhealthy" in stack.compose("restart", "primary", check=False).stderr

    # The remedy, as the message gives it.
    remedy = re.search(r"docker compose exec (primary \S+ --adopt-passwords) && docker compose (restart)", said)
    assert remedy
    stack.compose("exec", "-T", *remedy[1].split())
    stack.compose(remedy[2])
    stack.up()


def test_an_empty_password_file_is_told(stack: Stack, short_start_period: None) -> None:
    path = stack.project / "secrets" / "app_password"
    before = path.read_text()
    path.write_text("")
    stack.refuses_up("--force-recreate", "primary")
    told = stack.logs("primary")
    assert "the secret app_password is empty or has characters other than" in told
    assert "Delete the file. Run: python ops/setup.py && docker compose restart primary" in told
    path.write_text(before)
    stack.compose("restart", "primary")
    stack.up()


def test_a_new_secret_key_ends_sessions_and_fails_no_visitor(stack: Stack) -> None:
    """A token that the old key has signed is none: its visitor reads as a stranger does."""
    visitor = stack.comment("before the new key")
    stack.manage(
        "createsuperuser", "--noinput", "--username=ada", "--email=a@example.org", DJANGO_SUPERUSER_PASSWORD="engine"
    )
    login = stack.url("/admin/login/")
    form = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', visitor.get(login).text)
    assert form
    fields = {"csrfmiddlewaretoken": form[1], "username": "ada", "password": "engine"}
    visitor.post(login, fields, headers={"Referer": login})
    admin = stack.url("/admin/")
    assert visitor.get(admin, allow_redirects=False).status_code == 200
    renew(stack, "secret_key")
    stack.compose("restart", "web")
    stack.up()
    assert visitor.get(admin, allow_redirects=False).status_code == 302
    page = stack.url(stack.an_article())
    # A stranger's page is at most MAX_STALENESS old.
    assert visitor.get(page).status_code == 200
    eventually(lambda: "before the new key" in visitor.get(page).text)
    stack.psql("primary", "DELETE FROM users_user; DELETE FROM django_session")
