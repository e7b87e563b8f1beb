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
    run_inside_devstack([sys.executable, "-m", "pytest", *config.invocation_params.args])
    if capture is not None:
        capture.resume_global_capture()
