"""The generated project's own tests, inside its own image: Django 6.1 on Python 3.14."""

from collections.abc import Callable


def test_the_projects_tests_pass_in_its_image(make_stack: Callable) -> None:
    with make_stack() as stack:
        versions = "import sys, django; print(sys.version_info[:2], django.VERSION[:2])"
        stack.compose("build", "web", "test")
        found = stack.compose("run", "--rm", "--no-deps", "test", "python", "-c", versions).stdout
        assert found == "(3, 14) (6, 1)\n"
        done = stack.compose("run", "--rm", "test", check=False)
        print(done.stdout[-10_000:], done.stderr[-5_000:])
        assert done.returncode == 0
        assert " passed" in done.stdout and "failed" not in done.stdout
