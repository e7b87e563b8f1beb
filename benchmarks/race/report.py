"""From the samples to the table in README.md and the figure: medians over the rounds, with the lowest and the highest.

Again, without another race: python -m benchmarks.race.report
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figure import Panel, figure, fill, spread

ROUTERS = {
    "naive": "random replica",
    "multidb": "django-multidb-router",
    "replicated": "django-replicated",
    "dbrouting": "dbrouting",
}
OURS = "dbrouting"
Sample = dict[str, Any]


def share(part: str, *whole: str) -> Callable[[Sample], float]:
    """Per cent."""
    return lambda sample: 100 * sample[part] / (sum(sample[name] for name in whole) or 1)


@dataclass(frozen=True)
class Measure:
    title: str
    unit: str
    phase: str
    of: Callable[[Sample], float]
    more_is_better: bool = False
    digits: int = 0

    @property
    def name(self) -> str:
        return f"{self.title}, {self.unit}" + ("" if self.phase == "decision" else f" ({self.phase})")


STALE = ("own comment missing", "%", share("stale", "own_reads"))
LOGGED_OUT = ("logged out", "%", share("logged_out", "logged_in_views"))
FAILED = ("failed requests", "%", share("failed", "requests"))
PER_SECOND = ("pages", "per second", lambda sample: (sample["requests"] - sample["failed"]) / sample["seconds"])
P99 = ("99th percentile of waiting", "ms", lambda sample: sample["p99_ms"])
CPU = ("processor time of a page", "ms", lambda sample: sample["cpu_ms"] / sample["requests"])
ON_REPLICAS = ("reads served by replicas", "%", share("reads_replicas", "reads_replicas", "reads_primary"))
DECISION = ("routing decision", "µs", lambda sample: sample["microseconds"])


def measure(kind: tuple[str, str, Callable[[Sample], float]], phase: str, **how: Any) -> Measure:
    title, unit, of = kind
    return Measure(title, unit, phase, of, **how)


PHASES = ("healthy", "lagging", "faults")
MEASURES = [
    *(measure(STALE, phase, digits=1) for phase in PHASES),
    *(measure(LOGGED_OUT, phase, digits=1) for phase in PHASES),
    *(measure(FAILED, phase, digits=1) for phase in PHASES),
    *(measure(PER_SECOND, phase, more_is_better=True) for phase in PHASES),
    *(measure(P99, phase) for phase in PHASES),
    *(measure(CPU, phase, digits=2) for phase in ("healthy", "lagging")),
    *(measure(ON_REPLICAS, phase, more_is_better=True) for phase in PHASES),
    measure(DECISION, "decision", digits=2),
]
FIGURE = [
    measure(STALE, "lagging", digits=1),
    measure(LOGGED_OUT, "lagging", digits=1),
    measure(FAILED, "faults", digits=1),
    measure(P99, "faults"),
    measure(PER_SECOND, "healthy", more_is_better=True),
    measure(ON_REPLICAS, "healthy", more_is_better=True),
    measure(CPU, "healthy", digits=2),
    measure(DECISION, "decision", digits=2),
]


class Results:
    """:param text: lines of JSON, the first about the machine"""

    def __init__(self, text: str) -> None:
        self.machine, *self.samples = map(json.loads, text.splitlines())

    def values(self, measure: Measure, router: str) -> list[float]:
        """One for each round, in their order."""
        return [
            measure.of(sample)
            for sample in self.samples
            if (sample["router"], sample["phase"]) == (router, measure.phase)
        ]

    def best(self, measure: Measure) -> float:
        medians = (self.median(measure, router) for router in ROUTERS)
        return max(medians) if measure.more_is_better else min(medians)

    def median(self, measure: Measure, router: str) -> float:
        # As it is shown: what looks equal is equal.
        return round(median(self.values(measure, router)), measure.digits)

    def total(self, router: str, part: str, whole: str) -> str:
        ours = [sample for sample in self.samples if sample["router"] == router and whole in sample]
        return f"{sum(sample[part] for sample in ours):,} of {sum(sample[whole] for sample in ours):,}"


def markdown(results: Results) -> str:
    machine = results.machine
    head = f"| {{}} | {' | '.join(ROUTERS.values())} |\n| --- | {' | '.join('---:' for _ in ROUTERS)} |"
    lines = [
        "{cores} cores, shared with other work; Python {python}, Django {django}, PostgreSQL {postgresql}; rounds: "
        "{rounds}. Median over the rounds (lowest–highest); the best of a row is bold, unless all are equal.\n".format(
            **machine
        ),
        head.format("measure (phase)"),
    ]
    for measure in MEASURES:
        cells = []
        differ = len({results.median(measure, router) for router in ROUTERS}) > 1
        for router in ROUTERS:
            cell = spread(results.values(measure, router), measure.digits)
            best = differ and results.median(measure, router) == results.best(measure)
            cells.append(f"**{cell}**" if best else cell)
        lines.append(f"| {measure.name} | {' | '.join(cells)} |")
    lines += ["", head.format("all phases of all rounds")]
    for title, part, whole in (
        ("own comment missing", "stale", "own_reads"),
        ("logged out", "logged_out", "logged_in_views"),
        ("failed requests", "failed", "requests"),
    ):
        lines.append(f"| {title} | {' | '.join(results.total(router, part, whole) for router in ROUTERS)} |")
    lines += [
        "",
        "Where dbrouting is not the best; the ratio is taken within each round, then the median of these:",
        "",
    ]
    for measure in MEASURES:
        best = results.best(measure)
        if results.median(measure, OURS) == best:
            continue
        winner = next(router for router in ROUTERS if results.median(measure, router) == best)
        pairs = zip(results.values(measure, OURS), results.values(measure, winner), strict=True)
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        times = f"{spread(ratios, 2)} times that of {ROUTERS[winner]}" if ratios else f"{ROUTERS[winner]} has {best:g}"
        lines.append(f"- {measure.name}: {times}")
    return "\n".join(lines)


def svg(results: Results) -> str:
    panels = []
    for measure in FIGURE:
        rows = [(label, results.values(measure, router), router == OURS) for router, label in ROUTERS.items()]
        panels.append(Panel(measure.name, measure.more_is_better, rows, measure.digits))
    return figure(
        f"Four routers, the same site, load and faults: medians of {results.machine['rounds']} rounds, "
        "with the lowest and the highest",
        panels,
    )


def write(text: str, directory: Path, readme: Path) -> None:
    results = Results(text)
    directory.mkdir(exist_ok=True)
    (directory / "race.jsonl").write_text(text)
    (directory / "race.svg").write_text(svg(results))
    fill(readme, "race", markdown(results))
    print(f"written: {directory}/race.jsonl, {directory}/race.svg, and the table in {readme}")


if __name__ == "__main__":
    home = Path(__file__).resolve().parent.parent
    write((home / "results" / "race.jsonl").read_text(), home / "results", home / "README.md")
