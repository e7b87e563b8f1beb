import sys

import pytest

from ops.for_tests import run_inside_devstack

# Fixtures for tests that read replicas.
pytest_plugins = ["dbrouting.pytest_plugin"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.collectonly:
        # As an editor does to list the tests. It needs no database.
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        # What runs instead of this prints to the terminal.
        capture.suspend_global_capture(in_=True)
    # Not resumed: pytest does that around each test, and its own report is made with what stdout is now.
    run_inside_devstack([sys.executable, "-m", "pytest", *config.invocation_params.args])
