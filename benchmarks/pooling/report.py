"""From the samples to the tables in README.md and the figure: medians over the rounds, with the lowest and the highest.

Again, without another run: python -m benchmarks.pooling.report
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figure import Panel, figure, fill, spread
from benchmarks.pooling.plan import CROWDS, DEFAULT, FEW, FIRST, KEPT, PER_REQUEST, SETS, SIZES, Set, Site

Cell = tuple[str, int]
# The generated one, where a table has every choice.
GENERATED = "gthread, persistent, transaction"
DEFAULTS = ("default-0", "default-1", "apart", "page")


class Results:
    """:param text: lines of JSON, the first about the machine"""

    def __init__(self, text: str) -> None:
        self.machine, *self.samples = map(json.loads, text.splitlines())
        # Of each site, work and number of clients: round, and its passes.
        self._turns: dict[tuple[str, str, Cell], dict[int, list[dict[str, Any]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for sample in self.samples:
            if "site" in sample:
                key = (sample["set"], sample["site"], (sample["work"], sample["clients"]))
                self._turns[key][sample["round"]].append(sample)

    def has(self, name: str, cell: Cell) -> bool:
        return any((of, asked) == (name, cell) for of, _, asked in self._turns)

    def rates(self, name: str, site: str, cell: Cell) -> dict[int, float]:
        """Round: requests a second that were answered well."""
        return {
            number: sum(one["requests"] - one["refused"] for one in passes) / sum(one["seconds"] for one in passes)
            for number, passes in self._turns.get((name, site, cell), {}).items()
        }

    def ratios(self, name: str, site: str, base: str, cell: Cell) -> list[float]:
        """Of both rates, in the rounds that have both, and in which the base answered anything."""
        ours, theirs = self.rates(name, site, cell), self.rates(name, base, cell)
        return [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys()) if theirs[number]]

    def p99(self, name: str, site: str, cell: Cell) -> float:
        """Milliseconds: the median of the turns."""
        rounds = self._turns.get((name, site, cell), {}).values()
        return median(one["p99_ms"] for passes in rounds for one in passes) if rounds else 0.0

    def failed(self, name: str, site: str, cell: Cell) -> int:
        rounds = self._turns.get((name, site, cell), {}).values()
        return sum(one["refused"] + one["broken"] for passes in rounds for one in passes)

    def of(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        return [
            sample
            for sample in self.samples
            if sample["set"] == name and all(sample[field] == value for field, value in fields.items())
        ]


def verdict(ratios: list[float]) -> str:
    """A ranking counts only if it holds in every one of at least five rounds."""
    if len(ratios) < 5:
        return "too few rounds to tell"
    if all(ratio > 1 for ratio in ratios):
        return "more"
    return "less" if all(ratio < 1 for ratio in ratios) else "no difference"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Nothing, if nothing of it was measured."""
    head, rows = list(head), list(rows)
    if not rows or len(head) == 1:
        return ""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def name(cell: Cell) -> str:
    return f"{cell[0]}, {cell[1]} clients"


def place(plan: Set) -> str:
    return {"default-1": ", 1 ms", "distance-5": ", 5 ms", "apart": ", apart"}.get(plan.name, "")


def failures(results: Results, plan: Set, site: Site, cell: Cell) -> str:
    failed = results.failed(plan.name, site.name, cell)
    return f", {failed:,} failed" if failed else ""


def measured(results: Results, plan: Set) -> str:
    """Requests a second, how many times those of the base, and the 99th percentile of waiting."""
    columns = [cell for cell in plan.cells if results.has(plan.name, cell)]
    rows = []
    for site in plan.sites:
        row = [f"**{site.name}**" if site.name in (DEFAULT, GENERATED) else site.name]
        for cell in columns:
            ratios = results.ratios(plan.name, site.name, plan.base, cell)
            rate = results.rates(plan.name, site.name, cell).values()
            p99 = results.p99(plan.name, site.name, cell)
            shown = f"{median(rate):,.0f}/s, {spread(ratios, 1)}, {p99:,.0f} ms" if ratios else ""
            row.append(shown + failures(results, plan, site, cell))
        rows.append(row)
    return table([plan.title, *map(name, columns)], rows)


def defaults(results: Results) -> str:
    return "\n\n".join(filter(None, (measured(results, SETS[of]) for of in DEFAULTS)))


def against(results: Results) -> str:
    """The generated default in relation to each other one, within the round."""
    columns = [(SETS[of], cell) for of in DEFAULTS for cell in SETS[of].cells if results.has(of, cell)]
    rows = []
    for other in (site.name for site in SETS["default-0"].sites if site.name != DEFAULT):
        row = [other]
        for plan, cell in columns:
            ratios = results.ratios(plan.name, DEFAULT, other, cell)
            row.append(f"{spread(ratios, 2)}, {verdict(ratios)}" if ratios else "")
        rows.append(row)
    return table(["the default, in relation to", *(name(cell) + place(plan) for plan, cell in columns)], rows)


def matrix(results: Results) -> str:
    """Every choice. The best of a column is bold; ≈ marks who was level with it in at least one round."""
    columns = [(SETS[of], cell) for of in ("choices", "distance-5") for cell in SETS[of].cells if results.has(of, cell)]
    names = [site.name for site in SETS["choices"].sites]
    best = {
        (plan.name, cell): max(names, key=lambda site: median(results.ratios(plan.name, site, plan.base, cell) or [0]))
        for plan, cell in columns
    }
    rows = []
    for site in SETS["choices"].sites:
        row = [f"**{site.name}**" if site.name == GENERATED else site.name]
        for plan, cell in columns:
            ratios = results.ratios(plan.name, site.name, plan.base, cell)
            winner = best[plan.name, cell]
            shown = spread(ratios, 1) if ratios else ""
            if site.name == winner:
                shown = f"**{shown}**"
            elif ratios and max(results.ratios(plan.name, site.name, winner, cell)) >= 1:
                shown += " ≈"
            row.append(shown + failures(results, plan, site, cell))
        rows.append(row)
    head = ["worker, strategy, way", *(name(cell) + place(plan) for plan, cell in columns)]
    return table(head, rows)


def pairs(results: Results, of: str, choices: Iterable[tuple[str, str, str]], without: str, with_: str) -> str:
    cell = ("read", 64)
    rows = []
    for choice in map(", ".join, choices):
        ratios = results.ratios(of, f"{choice}, {with_}", f"{choice}, {without}", cell)
        if ratios:
            rows.append([choice, spread(ratios, 2), verdict(ratios)])
    return table(["worker, strategy, way", f"{with_} in relation to {without}", ""], rows)


def threads(results: Results) -> str:
    if not results.of("threads"):
        return ""
    rows = []
    for worker in ("gthread", "gevent", "asgi"):
        for rtt in (0, 5):
            row = [f"{worker}, {rtt} ms"]
            for size in SIZES:
                ratios = results.ratios("threads", f"{row[0]}, {size}", f"{row[0]}, 4", ("read", 64))
                row.append(spread(ratios, 2) if ratios else "")
            rows.append(row)
    return table(["in relation to 4", *map(str, SIZES)], rows)


def micro(results: Results) -> str:
    values: dict[str, list[float]] = defaultdict(list)
    for sample in results.of("micro"):
        values[sample["what"]].append(sample["microseconds"])
    rows = [[what, spread(took, 0 if median(took) > 50 else 1)] for what, took in values.items()]
    rows += [[f"memory of an idle {one['what']}", f"{one['bytes'] / 1000:,.1f} kB"] for one in results.of("memory")]
    return table(["what", "µs"], rows)


def crowd(results: Results) -> str:
    head = ["clients", "by way of", "admitted", "refused", "failed", "p50, ms", "p99, ms", "all at once: p99, ms"]
    head.append("of that, waiting for a server: mean, ms")
    rows = []
    for clients in CROWDS:
        for host, way in (("primary", "PostgreSQL alone"), ("pgbouncer-crowd", "PgBouncer")):
            turns = results.of("crowd", clients=clients, host=host)
            if not turns:
                continue
            sums = [f"{sum(turn[what] for turn in turns):,}" for what in ("admitted", "refused", "failed")]
            times = [spread([turn[what] for turn in turns], 1) for what in ("p50_ms", "p99_ms", "burst_p99_ms")]
            waited = spread([turn["burst_waited_ms"] for turn in turns], 1) if way == "PgBouncer" else ""
            rows.append([f"{len(turns)} × {clients:,}", way, *sums, *times, waited])
    errors = sorted({error for turn in results.of("crowd") for error in turn["errors"]})
    said = "What was said to those who were refused: " + "; ".join(f"`{one}`" for one in errors)
    return f"{table(head, rows)}\n\n{said}" if rows else ""


PARTS = {
    "default": defaults,
    "against": against,
    "choices": matrix,
    "clients": lambda results: measured(results, SETS["clients"]),
    "prepared": lambda results: pairs(results, "prepared", KEPT, "off", "on"),
    "tls": lambda results: pairs(results, "tls", FEW[:5], "plain", "TLS"),
    "threads": threads,
    "micro": micro,
    "crowd": crowd,
}


def about(results: Results) -> str:
    return (
        "{cores} cores, shared with other work; PostgreSQL {postgresql}, PgBouncer {pgbouncer}, Python {python}, Django "
        "{django}, psycopg {psycopg}, gunicorn {gunicorn}. Medians of {rounds} rounds (lowest–highest); a ratio is taken within "
        "a round.".format(**results.machine)
    )


def markdown(results: Results) -> str:
    """Of what was measured."""
    return "\n\n".join(filter(None, [about(results), *(part(results) for part in PARTS.values())]))


def panel(results: Results, of: str, cell: Cell, title: str, only: str = "") -> Panel:
    plan = SETS[of]
    sites = [site.name for site in plan.sites if cell[0] in site.works and site.name.startswith(only)]
    return Panel(
        f"{title}: times {'Django’s default' if plan.base == PER_REQUEST else FIRST}",
        True,
        [
            (site.removeprefix(only), results.ratios(of, site, plan.base, cell), site in (DEFAULT, GENERATED))
            for site in sites
        ],
        1,
    )


def svg(results: Results) -> str:
    read, atomic, write = ("read", 64), ("atomic", 64), ("write", 64)
    panels = [
        panel(results, "default-0", read, "A row by its index, loopback"),
        panel(results, "default-1", read, "The same, 1 ms away"),
        panel(results, "default-0", atomic, "Three reads in atomic()"),
        panel(results, "default-0", write, "One INSERT"),
        panel(results, "apart", read, "PgBouncer and databases apart"),
        panel(results, "page", ("page", 64), "A whole page"),
    ]
    for worker in ("gthread", "gevent", "asgi"):
        panels.append(panel(results, "choices", read, f"{worker}, loopback", f"{worker}, "))
        panels.append(panel(results, "distance-5", read, f"{worker}, 5 ms away", f"{worker}, "))
    title = f"Requests a second in relation to a connection for each: medians of {results.machine['rounds']} rounds, 64 clients"
    return figure(title, [panel for panel in panels if any(values for _, values, _ in panel.rows)], labels=300)


def write(text: str, directory: Path, readme: Path) -> None:
    results = Results(text)
    (directory / "pooling.jsonl").write_text(text)
    (directory / "pooling.svg").write_text(svg(results))
    fill(readme, "about", about(results))
    for name, part in PARTS.items():
        fill(readme, name, part(results))
    print(f"written: {directory}/pooling.jsonl, {directory}/pooling.svg, and the tables in {readme}")


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    results = here.parent / "results"
    write((results / "pooling.jsonl").read_text(), results, here / "README.md")
