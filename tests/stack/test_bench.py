"""No figure of benchmarks/pooling outlives its code: each kind of site, step and client is measured again, for a second."""

import json
import secrets
from collections.abc import Iterator

import pytest

from benchmarks.pooling import report
from benchmarks.pooling.__main__ import Bench, bench
from benchmarks.pooling.plan import DEFAULT, SETS

# Between them: each site that a figure compares, each worker, strategy and way, TLS, and both distances.
SITES = {
    "default-0": [DEFAULT],
    "default-1": [site.name for site in SETS["default-1"].sites],
    "page": [DEFAULT],
    "distance-5": ["gthread, per-request, statement", "gevent, pool, session", "asgi, pool, transaction"],
    "tls": ["gthread, persistent, direct, TLS", "gthread, pool, transaction, TLS"],
}


pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("bench"), slug=f"pgstack_bench_{secrets.token_hex(3)}") as started:
        yield started


@pytest.mark.parametrize("name", SITES)
def test_each_site_answers_each_work_and_has_a_rate(running: Bench, name: str) -> None:
    # Longer, where so much else is at work that a second is not enough for an answer.
    for seconds in (1, 5, 25):
        samples = list(running.turns(name, rounds=1, seconds=seconds, sites=SITES[name]))
        if all(sample["requests"] for sample in samples):
            break
        print(f"no answer within {seconds} s for each site: longer")
    assert not any(sample["refused"] for sample in samples), samples
    results = report.Results("\n".join(map(json.dumps, ({}, *samples))))
    sites = [site for site in SETS[name].sites if site.name in SITES[name]]
    assert len(sites) == len(SITES[name])
    for site in sites:
        for cell in SETS[name].cells:
            assert cell[0] not in site.works or results.ratios(name, site.name, site.name, cell) == [1.0], (site, cell)


def test_single_steps_memory_and_a_crowd_have_their_numbers(running: Bench) -> None:
    """Last: the crowd takes the other connections from PostgreSQL."""
    samples = [*running.micro(rounds=1), *running.memory(), *running.crowd(rounds=1, crowds=(100,))]
    *steps, backend, client, alone, pooled = samples
    assert all(step["microseconds"] > 0 for step in steps if "processor time" not in step["what"]), steps
    assert {step["what"] for step in steps} == published("micro")
    assert backend["bytes"] > 0 and client["bytes"] > 0
    assert {backend["what"], client["what"]} == published("memory")
    # 97, unless somebody else of the node's has a connection just then.
    assert alone["refused"] >= 3 and (alone["admitted"] + alone["refused"], alone["failed"]) == (100, 0), alone
    assert (pooled["admitted"], pooled["refused"], pooled["failed"]) == (100, 0, 0), pooled


def published(name: str) -> set[str]:
    return {sample["what"] for sample in report.Results((report.RESULTS / "pooling.jsonl").read_text()).of(name)}
