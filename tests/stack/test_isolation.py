"""What nobody may see, reach or do."""

import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.stack.stack import ComposeError, Stack, docker, run

SECRETS = ("app_password", "owner_password", "replicator_password", "monitor_password", "cache_password", "secret_key")


@pytest.fixture(scope="module")
def stack(default_stack: Stack) -> Stack:
    """Each node has started a second time, on data that is there, and the site has written."""
    default_stack.comment("for the logs")
    default_stack.compose("restart")
    default_stack.up()
    return default_stack


def services(stack: Stack) -> list[str]:
    return ["primary", *stack.replicas, "pgbouncer", "migrate", "web"]


def as_role(stack: Stack, role: str, *statements: str) -> "subprocess.CompletedProcess[str]":
    """psql over TCP from the pgbouncer container: the one place that reaches both networks and has psql."""
    commands = " ".join(f'-c "{sql}"' for sql in statements)
    target = f"user={role} host=127.0.0.1 dbname={stack.slug} connect_timeout=3"
    script = f'PGPASSWORD=$(cat) psql -XAtq "{target}" {commands}'
    return stack.attempt("pgbouncer", "sh", "-c", script, stdin=stack.secret(f"{role}_password"))


def test_inspect_shows_no_secret(stack: Stack) -> None:
    for service in services(stack):
        shown = json.dumps(stack.inspect(service))
        assert not [name for name in SECRETS if stack.secret(name) in shown], service


def test_images_hold_no_secret(stack: Stack) -> None:
    wanted = [option for name in SECRETS for option in ("-e", stack.secret(name))]
    # From the directory that holds these secrets.
    stack.compose("build", "web", "pgbouncer")
    for service, known in (("web", "ReadWriteRouter"), ("pgbouncer", "server_login_retry")):
        image = f"{stack.slug}-{service}"
        shown = docker("inspect", image) + docker("history", "--no-trunc", image)
        assert not [name for name in SECRETS if stack.secret(name) in shown]

        def files_with(*patterns: str, image: str = image) -> list[str]:
            grep = ["run", "--rm", "--user", "0", "--entrypoint", "grep", image, "-rlF", *patterns]
            return docker(*grep, "/app", "/etc", "/usr/local", "/home", "/root", check=False).split()

        assert files_with("-e", known), "the search itself finds nothing"
        assert files_with(*wanted) == []
    listing = ["run", "--rm", "--user", "0", "--entrypoint", "ls", f"{stack.slug}-web", "-A", "/app"]
    names = docker(*listing).split()
    assert "manage.py" in names and not {"secrets", ".env", ".git"} & set(names)


def test_logs_and_statistics_hold_no_secret(stack: Stack) -> None:
    """Even though roles are made with these passwords, and every statement over 100 ms is logged."""
    shown = stack.logs() + stack.psql("primary", "SELECT query FROM pg_stat_statements")
    assert "ALTER ROLE" not in shown
    assert not [name for name in SECRETS if stack.secret(name) in shown]


def test_data_directories_hold_no_password(stack: Stack) -> None:
    """pg_basebackup -R would have written it into postgresql.auto.conf."""
    for node in ("primary", *stack.replicas):
        configuration = stack.exec(node, "bash", "-c", 'cat "$PGDATA"/*.conf "$PGDATA"/postmaster.*')
        assert "primary_conninfo" in configuration or node == "primary"
        assert not [name for name in SECRETS if stack.secret(name) in configuration], node


def test_processes_show_no_secret(stack: Stack) -> None:
    for service, known in (("primary", "cluster_name=primary"), ("pgbouncer", "pgbouncer.ini"), ("web", "gunicorn")):
        # A process may end between the listing and the reading of it.
        shown = stack.exec(service, "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/1/environ 2>&1; true")
        assert known in shown
        assert not [name for name in SECRETS if stack.secret(name) in shown], service


def test_only_the_site_is_published_and_only_on_loopback(stack: Stack) -> None:
    published = {service: stack.inspect(service)["HostConfig"]["PortBindings"] or {} for service in services(stack)}
    assert published.pop("web") == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]}
    assert not any(published.values())


def test_two_networks(stack: Stack) -> None:
    def networks(service: str) -> list[str]:
        return sorted(stack.inspect(service)["NetworkSettings"]["Networks"])

    database, web = f"{stack.slug}_database", f"{stack.slug}_web"
    expected = {service: [database] for service in ("primary", *stack.replicas, "migrate")}
    expected |= {"pgbouncer": [database, web], "web": [web]}
    assert {service: networks(service) for service in services(stack)} == expected


def test_the_web_container_reaches_no_node(stack: Stack) -> None:
    """Neither by name nor by address."""
    for node in ("primary", *stack.replicas):
        for host in (node, stack.address(node)):
            code = f"import socket; socket.create_connection(('{host}', 5432), timeout=2)"
            with pytest.raises(ComposeError, match=r"timed out|Name or service not known|unreachable|name resolution"):
                stack.exec("web", "python", "-c", code)
    stack.exec("web", "python", "-c", "import socket; socket.create_connection(('pgbouncer', 5432), timeout=2)")


def test_containers_are_hardened(stack: Stack) -> None:
    for service in services(stack):
        found = stack.inspect(service)
        config = found["HostConfig"]
        assert config["ReadonlyRootfs"] is True, service
        assert config["CapDrop"] == ["ALL"], service
        assert not config["CapAdd"], service
        assert "no-new-privileges:true" in config["SecurityOpt"], service
        assert found["Config"]["User"] not in ("", "root", "0"), service
        assert config["Memory"] > 0 and config["PidsLimit"] > 0, service


def test_app_reads_and_writes_rows_and_nothing_else(stack: Stack) -> None:
    assert as_role(stack, "app", "SELECT count(*) > 0 FROM articles_comment").stdout == "t\n"
    forbidden = {
        "CREATE TABLE mine (x int)": "permission denied for schema public",
        "CREATE TEMPORARY TABLE mine (x int)": "permission denied to create temporary tables",
        "CREATE SCHEMA mine": "permission denied for database",
        "DROP TABLE articles_comment": "must be owner of table articles_comment",
        "TRUNCATE articles_comment": "permission denied for table articles_comment",
        "SELECT rolpassword FROM pg_authid": "permission denied for table pg_authid",
        "SELECT passwd FROM pg_shadow": "permission denied for view pg_shadow",
        "CREATE ROLE mine": "permission denied to create role",
        "SELECT pg_read_file('postgresql.auto.conf')": "permission denied for function pg_read_file",
        "COPY articles_comment TO PROGRAM 'cat'": "permission denied to COPY to or from an external program",
        "SET ROLE owner": "permission denied to set role",
        "SELECT pg_promote()": "permission denied for function pg_promote",
    }
    refusals = [line for line in as_role(stack, "app", *forbidden).stderr.splitlines() if line.startswith("ERROR:")]
    assert len(refusals) == len(forbidden), refusals
    assert [
        (sql, refusal) for (sql, says), refusal in zip(forbidden.items(), refusals, strict=True) if says not in refusal
    ] == []


def test_pgbouncer_knows_only_the_sites_roles(stack: Stack) -> None:
    for role in ("owner", "replicator"):
        done = as_role(stack, role, "SELECT 1")
        assert done.returncode != 0
        assert "SASL authentication failed" in done.stderr or "no such user" in done.stderr, done.stderr
    for role in ("app", "monitor"):
        assert as_role(stack, role, "SELECT 1").returncode == 0


def test_the_superuser_comes_in_nowhere(stack: Stack) -> None:
    for node in ("primary", *stack.replicas):
        done = stack.attempt("pgbouncer", "psql", "-XAtqw", "-h", node, "-U", "postgres", "-c", "SELECT 1")
        assert done.returncode != 0
        assert "no pg_hba.conf entry for host" in done.stderr
    assert stack.psql("primary", "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'postgres'") == "t"


def test_passwords_are_stored_as_scram(stack: Stack) -> None:
    stored = stack.psql("primary", "SELECT DISTINCT left(rolpassword, 14) FROM pg_authid WHERE rolpassword IS NOT NULL")
    assert stored == "SCRAM-SHA-256$"


@contextmanager
def misrouted(stack: Stack, node: str) -> Iterator[tuple[str, str]]:
    """Routes the web network into a node's network namespace, as a mistake in the network could: yields the gateway's
    address on the web network, which clients then come from, and the node's address."""

    networks = json.loads(docker("network", "inspect", f"{stack.slug}_web", f"{stack.slug}_database"))
    web = networks[0]["IPAM"]["Config"][0]
    bridge = "br-" + networks[1]["Id"][:12]
    found, address = stack.inspect(node), stack.address(node)
    via = json.loads(run("ip", "-j", "-4", "addr", "show", bridge).stdout)[0]["addr_info"][0]["local"]
    inside = ["nsenter", "--target", str(found["State"]["Pid"]), "--net", "ip", "route"]
    # Docker would hide the address behind the database network's gateway.
    unmasked = ["POSTROUTING", "--source", web["Gateway"], "--out-interface", bridge, "--jump", "ACCEPT"]
    run(*inside, "add", web["Subnet"], "via", via)
    run("iptables", "--table", "nat", "--insert", *unmasked)
    try:
        yield web["Gateway"], address
    finally:
        run("iptables", "--table", "nat", "--delete", *unmasked)
        run(*inside, "del", web["Subnet"])


def test_pg_hba_refuses_replication_from_the_web_network(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Were the web network ever routed to a node, with the right password in the wrong hands."""
    if os.geteuid() != 0:
        skip = pytest.fail if os.environ.get("REQUIRE_DOCKER") else pytest.skip
        skip("needs root, to route one network into another")
    with misrouted(stack, "primary") as (source, address):
        startup = b"user\0replicator\0replication\0true\0\0"
        with socket.create_connection((address, 5432), timeout=5, source_address=(source, 0)) as client:
            client.sendall(struct.pack("!II", len(startup) + 8, 196608) + startup)
            answer = client.recv(4096)
        assert answer[:1] == b"E"
        assert (
            f'no pg_hba.conf entry for replication connection from host "{source}", user "replicator"'.encode()
            in answer
        )
        # And not because nothing gets through: from the database network the same login is asked for its password.
    target = "host=primary user=replicator replication=true"
    assert (
        "no password supplied" in stack.attempt("pgbouncer", "psql", "-XAtqw", target, "-c", "IDENTIFY_SYSTEM").stderr
    )


def test_secrets_are_private_on_the_host_and_in_the_containers(stack: Stack) -> None:
    assert (stack.project / "secrets").stat().st_mode & 0o777 == 0o700
    for service, path in (("pgbouncer", "/run/pgbouncer/userlist.txt"), ("primary", "/var/run/postgresql/pgpass")):
        assert stack.exec(service, "stat", "-c", "%a", path) == "600"
