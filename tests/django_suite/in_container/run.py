"""usage: run.py NAME [LABEL]…   Django's own tests. The environment holds the choices. It writes
each test's outcome to /tmp/NAME.json."""

import faulthandler
import os
import runpy
import sys

if os.environ.get("WEB_WORKER") == "gevent":
    from gevent import monkey

    monkey.patch_all()

    import unittest

    from asgiref.sync import AsyncToSync

    def left_out(*_: object, **__: object) -> None:
        """It would wait for ever; gunicorn's gevent worker serves no coroutine."""
        raise unittest.SkipTest("left out: asyncio under gevent")

    AsyncToSync.__call__ = left_out

TESTS = "/django/tests"
# A run takes a quarter of it. One that hangs says where.
faulthandler.dump_traceback_later(3600, exit=True)
name, *labels = sys.argv[1:]
os.environ["SUITE_NAME"] = name
# The databases are thrown away with their server. To drop one, PgBouncer would have to let go of it first; for the same
# reason no process has a copy of its own.
sys.argv = [f"{TESTS}/runtests.py", "--settings=suite_settings", "--parallel=1", "--keepdb", "--noinput", *labels]
sys.path[0] = TESTS
runpy.run_path(sys.argv[0], run_name="__main__")
