"""From the samples to the table in README.md and the figure: medians over the rounds, with the lowest and the highest.

Again, without another race: python -m benchmarks.race.report
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.publish import RESULTS, Panel, figure, fill, spread, table

ROUTERS = {
    "naive": "random replica",
    "multidb": "django-multidb-router",
    "replicated": "django-replicated",
    "dbrouting": "dbrouting",
}
OURS = "dbrouting"
Sample = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """:param shown: whether it is in the figure"""

    title: str
    phase: str
    of: Callable[[Sample], float]
    shown: bool
    digits: int
    more_is_better: bool

    @property
    def name(self) -> str:
        return self.title + ("" if self.phase == "alone" else f" ({self.phase})")


def share(part: str, *whole: str) -> Callable[[Sample], float]:
    """Per cent; of nothing, it is not a number."""

    def of(sample: Sample) -> float:
        total = sum(sample[name] for name in whole)
        return 100 * sample[part] / total if total else nan

    return of


def each(
    title: str, of: Callable[[Sample], float], phases: str, shown: str = "", *, digits: int = 0, more: bool = False
) -> list[Measure]:
    return [Measure(title, phase, of, phase == shown, digits, more) for phase in phases.split()]


def pages(sample: Sample) -> float:
    return (sample["requests"] - sample["failed"]) / sample["seconds"]


def cpu(sample: Sample) -> float:
    return sample["cpu_ms"] / sample["requests"] if sample["requests"] else nan


LOADED = "healthy lagging faults"
ON_REPLICAS = share("reads_replicas", "reads_replicas", "reads_primary")
MEASURES = [
    *each("own comment missing, %", share("stale", "own_reads"), LOADED, "lagging", digits=1),
    *each("logged out, %", share("logged_out", "logged_in_views"), LOADED, "lagging", digits=1),
    *each("failed requests, %", share("failed", "requests"), LOADED, "faults", digits=1),
    *each("99th percentile of waiting, ms", lambda sample: sample["p99_ms"], LOADED, "faults"),
    *each("pages per second", pages, LOADED, "healthy", more=True),
    *each("processor time of a page, ms", cpu, "healthy lagging",
          "healthy", digits=2),
    *each("reads served by replicas, %", ON_REPLICAS, LOADED, "healthy", more=True),
    *each("statements on the primary: a page of a logged-in reader", lambda sample: sample["page_statements"], "alone",
          digits=2),
    *each("statements on the primary: a request that writes a comment", lambda sample: sample["write_statements"],
          "alone", digits=2),
    *each("statements on the primary, a second, while nobody asks", lambda sample: sample["idle_statements"], "alone",
          digits=1),
    *each("routing decision, µs", lambda sample: sample["microseconds"], "alone", "alone", digits=2),
]  # fmt: skip


class Results:
    """:param text: lines of JSON, the first about the machine"""

    def __init__(self, text: str) -> None:
        self.machine, *self.samples = map(json.loads, text.splitlines())

    def values(self, measure: Measure, router: str) -> list[float]:
        """One for each round, in their order."""
        wanted = (router, measure.phase)
        return [measure.of(sample) for sample in self.samples if (sample["router"], sample["phase"]) == wanted]

    def medians(self, measure: Measure) -> dict[str, float]:
        # As they are shown: what looks equal is equal.
        return {router: round(median(self.values(measure, router)), measure.digits) for router in ROUTERS}

    def best(self, measure: Measure) -> float:
        return (max if measure.more_is_better else min)(self.medians(measure).values())

    def total(self, router: str, part: str, whole: str) -> str:
        ours = [sample for sample in self.samples if sample["router"] == router and whole in sample]
        return f"{sum(sample[part] for sample in ours):,} of {sum(sample[whole] for sample in ours):,}"


def row(results: Results, measure: Measure) -> list[str]:
    medians, best = results.medians(measure), results.best(measure)
    differ = len(set(medians.values())) > 1
    cells = {router: spread(results.values(measure, router), measure.digits) for router in ROUTERS}
    return [measure.name, *(f"**{cell}**" if differ and medians[of] == best else cell for of, cell in cells.items())]


def behind(results: Results, measure: Measure) -> str:
    """How far ours is from the best; nothing, if it is the best."""
    medians, best = results.medians(measure), results.best(measure)
    if medians[OURS] == best:
        return ""
    winner = next(router for router in ROUTERS if medians[router] == best)
    pairs = zip(results.values(measure, OURS), results.values(measure, winner), strict=True)
    ratios = [ours / theirs for ours, theirs in pairs if theirs]
    times = f"{spread(ratios, 2)} times that of {ROUTERS[winner]}" if ratios else f"{ROUTERS[winner]} has {best:g}"
    return f"- {measure.name}: {times}"


def markdown(results: Results) -> str:
    about = (
        "{cores} cores, shared with other work; Python {python}, Django {django}, PostgreSQL {postgresql}; rounds: "
        "{rounds}. Median over the rounds (lowest–highest); the best of a row is bold, unless all are equal.{note}"
    )
    totals = {
        "own comment missing": ("stale", "own_reads"),
        "logged out": ("logged_out", "logged_in_views"),
        "failed requests": ("failed", "requests"),
    }
    parts = [
        about.format(**{"note": "", **results.machine}),
        table(["measure (phase)", *ROUTERS.values()], (row(results, measure) for measure in MEASURES)),
        table(
            ["all phases of all rounds", *ROUTERS.values()],
            ([title, *(results.total(router, *of) for router in ROUTERS)] for title, of in totals.items()),
        ),
        "Where dbrouting is not the best; the ratio is taken within each round, then the median of these:",
        "\n".join(filter(None, (behind(results, measure) for measure in MEASURES))),
    ]
    return "\n\n".join(parts)


def write(text: str, directory: Path, readme: Path) -> None:
    results = Results(text)
    (directory / "race.jsonl").write_text(text)
    panels = [
        Panel(
            measure.name,
            "more is better" if measure.more_is_better else "less is better",
            [(label, results.values(measure, router), router == OURS) for router, label in ROUTERS.items()],
            measure.digits,
        )
        for measure in MEASURES
        if measure.shown
    ]
    figure("race", panels, directory)
    fill(readme, "race", markdown(results))
    print(f"written: {directory}/race.jsonl, the figure beside it, and the table in {readme}")


if __name__ == "__main__":
    write((RESULTS / "race.jsonl").read_text(), RESULTS, RESULTS.parent / "README.md")
