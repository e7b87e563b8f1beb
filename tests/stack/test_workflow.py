"""What GitHub runs for a generated project."""

from tests.conftest import MakeStack
from tests.workflow import run_job


def test_the_job_that_builds_the_images_asks_the_site(make_stack: MakeStack) -> None:
    with make_stack() as stack:
        assert '"status": "ok"' in run_job(stack.project, "stack")
