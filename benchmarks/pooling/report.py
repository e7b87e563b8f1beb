"""From the samples to the tables in README.md and the figure: medians over the rounds, with the lowest and the highest.

Again, without another run: python -m benchmarks.pooling.report
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pooling.plan import CROWDS, DEFAULT, FEW, KEPT, PER_REQUEST, SETS, SIZES, Set
from benchmarks.publish import RESULTS, Panel, figure, fill, spread, table

Sample = dict[str, Any]
Cell = tuple[str, int]
READ = ("read", 64)
# The generated one, where a table has every choice.
GENERATED = "gthread, persistent, transaction"
DEFAULTS = ("default-0", "default-1", "apart", "page")
ABOUT = ("set", "site", "work", "clients", "what", "host")


def packed(samples: Iterable[Sample]) -> Iterator[Sample]:
    """One for all that are about the same, with lists of what was measured."""
    groups: dict[tuple[Any, ...], Sample] = {}
    for sample in samples:
        about = {name: sample[name] for name in ABOUT if name in sample}
        group = groups.setdefault(tuple(about.items()), about)
        for name in sample.keys() - about.keys():
            group.setdefault(name, []).append(sample[name])
    for group in groups.values():
        yield dict(sorted(group.items(), key=lambda field: (field[0] not in ABOUT, field[0])))


def unpacked(group: Sample) -> Iterator[Sample]:
    """A sample as it was measured is its own group."""
    lists = {name: values for name, values in group.items() if isinstance(values, list)}
    if not lists:
        yield group
    for values in zip(*lists.values(), strict=True):
        yield {**group, **dict(zip(lists, values, strict=True))}


class Results:
    """:param text: lines of JSON, the first about the machine"""

    def __init__(self, text: str) -> None:
        self.machine, *groups = map(json.loads, text.splitlines())
        self.samples = [sample for group in groups for sample in unpacked(group)]
        # Of each set, site, work and number of clients: round, and its passes.
        self.turns: dict[tuple[str, str, Cell], dict[int, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        for sample in self.samples:
            if "site" in sample:
                key = (sample["set"], sample["site"], (sample["work"], sample["clients"]))
                self.turns[key][sample["round"]].append(sample)

    def rates(self, name: str, site: str, cell: Cell) -> dict[int, float]:
        """Round: requests a second that were answered well."""
        return {
            number: sum(one["requests"] - one["refused"] for one in passes) / sum(one["seconds"] for one in passes)
            for number, passes in self.turns.get((name, site, cell), {}).items()
        }

    def ratios(self, name: str, site: str, base: str, cell: Cell) -> list[float]:
        """Of both rates, in the rounds that have both, and in which the base answered anything."""
        ours, theirs = self.rates(name, site, cell), self.rates(name, base, cell)
        return [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys()) if theirs[number]]

    def passes(self, name: str, site: str, cell: Cell) -> list[Sample]:
        return [one for passes in self.turns.get((name, site, cell), {}).values() for one in passes]

    def of(self, name: str, **fields: Any) -> list[Sample]:
        wanted = {"set": name, **fields}
        return [sample for sample in self.samples if wanted.items() <= sample.items()]


def verdict(ratios: list[float]) -> str:
    """A ranking counts only if it holds in every one of at least five rounds."""
    if len(ratios) < 5:
        return "too few rounds to tell"
    if all(ratio > 1 for ratio in ratios):
        return "more"
    return "less" if all(ratio < 1 for ratio in ratios) else "no difference"


def grid(
    results: Results, head: str, sets: Iterable[str], sites: Iterable[str], show: Callable[[Set, str, Cell], str]
) -> str:
    """A row for each site, a column for each cell that was measured; nothing, if none was."""
    measured = {(name, cell) for name, _, cell in results.turns}
    columns = [(SETS[name], cell) for name in sets for cell in SETS[name].cells if (name, cell) in measured]
    rows = []
    for site in sites:
        row = [f"**{site}**" if site in (DEFAULT, GENERATED) else site]
        for plan, cell in columns:
            failed = sum(one["refused"] + one["broken"] for one in results.passes(plan.name, site, cell))
            row.append(show(plan, site, cell) + (f", {failed:,} failed" if failed else ""))
        rows.append(row)
    names = [f"{work}, {clients} clients{plan.place}" for plan, (work, clients) in columns]
    return table([head, *names], rows) if columns else ""


def measured(results: Results, plan: Set) -> str:
    """Requests a second, how many times those of the base, and the 99th percentile of waiting."""

    def show(plan: Set, site: str, cell: Cell) -> str:
        if not (ratios := results.ratios(plan.name, site, plan.base, cell)):
            return ""
        rate = median(results.rates(plan.name, site, cell).values())
        p99 = median(one["p99_ms"] for one in results.passes(plan.name, site, cell))
        return f"{rate:,.0f}/s, {spread(ratios, 1)}, {p99:,.0f} ms"

    return grid(results, plan.title, [plan.name], [site.name for site in plan.sites], show)


def defaults(results: Results) -> str:
    return "\n\n".join(filter(None, (measured(results, SETS[of]) for of in DEFAULTS)))


def against(results: Results) -> str:
    """The generated default in relation to each other one, within the round."""

    def show(plan: Set, site: str, cell: Cell) -> str:
        ratios = results.ratios(plan.name, DEFAULT, site, cell)
        return f"{spread(ratios, 2)}, {verdict(ratios)}" if ratios else ""

    others = [site.name for site in SETS["default-0"].sites if site.name != DEFAULT]
    return grid(results, "the default, in relation to", DEFAULTS, others, show)


def matrix(results: Results) -> str:
    """Every choice. The best of a column is bold; ≈ marks who was level with it in at least one round."""
    names = [site.name for site in SETS["choices"].sites]

    def show(plan: Set, site: str, cell: Cell) -> str:
        all_of_them = {name: results.ratios(plan.name, name, plan.base, cell) for name in names}
        best = max(names, key=lambda name: median(all_of_them[name] or [0]))
        shown = spread(all_of_them[site], 1) if all_of_them[site] else ""
        if site == best:
            return f"**{shown}**"
        return shown + (" ≈" if shown and max(results.ratios(plan.name, site, best, cell)) >= 1 else "")

    return grid(results, "worker, strategy, way", ("choices", "distance-5"), names, show)


def pairs(results: Results, of: str, choices: Iterable[tuple[str, str, str]], without: str, with_: str) -> str:
    rows = []
    for choice in map(", ".join, choices):
        if ratios := results.ratios(of, f"{choice}, {with_}", f"{choice}, {without}", READ):
            rows.append([choice, spread(ratios, 2), verdict(ratios)])
    return table(["worker, strategy, way", f"{with_} in relation to {without}", ""], rows)


def threads(results: Results) -> str:
    rows = []
    for name in (f"{worker}, {rtt} ms" for worker in ("gthread", "gevent", "asgi") for rtt in (0, 5)):
        ratios = [results.ratios("threads", f"{name}, {size}", f"{name}, 4", READ) for size in SIZES]
        if all(ratios):
            rows.append([name, *(spread(one, 2) for one in ratios)])
    return table(["in relation to 4", *map(str, SIZES)], rows)


def micro(results: Results) -> str:
    values: dict[str, list[float]] = defaultdict(list)
    for sample in results.of("micro"):
        values[sample["what"]].append(sample["microseconds"])
    rows = [[what, spread(took, 0 if median(took) > 50 else 1)] for what, took in values.items()]
    rows += [[f"memory of an idle {one['what']}", f"{one['bytes'] / 1000:,.1f} kB"] for one in results.of("memory")]
    return table(["what", "µs"], rows)


def crowd(results: Results) -> str:
    rows = []
    for clients in CROWDS:
        for host, way in (("primary", "PostgreSQL alone"), ("pgbouncer-crowd", "PgBouncer")):
            if turns := results.of("crowd", clients=clients, host=host):
                sums = [f"{sum(turn[what] for turn in turns):,}" for what in ("admitted", "refused", "failed")]
                rows.append([f"{len(turns)} × {clients:,}", way, *sums])
    errors = sorted({error for turn in results.of("crowd") for error in turn["errors"]})
    said = "What was said to those who were refused: " + "; ".join(f"`{one}`" for one in errors)
    return table(["clients", "by way of", "admitted", "refused", "failed"], rows) + f"\n\n{said}" if rows else ""


def about(results: Results) -> str:
    return (
        "{cores} cores, shared with other work; PostgreSQL {postgresql}, PgBouncer {pgbouncer}, Python {python}, Django "
        "{django}, psycopg {psycopg}, gunicorn {gunicorn}. Medians of {rounds} rounds (lowest–highest); a ratio is taken within "
        "a round.".format(**results.machine)
    )


PARTS = {
    "about": about,
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


def markdown(results: Results) -> str:
    """Of what was measured."""
    return "\n\n".join(filter(None, (part(results) for part in PARTS.values())))


def panel(results: Results, of: str, cell: Cell, title: str, only: str = "") -> Panel:
    plan = SETS[of]
    sites = [site.name for site in plan.sites if cell[0] in site.works and site.name.startswith(only)]
    rows = [
        (site.removeprefix(only), results.ratios(of, site, plan.base, cell), site in (DEFAULT, GENERATED))
        for site in sites
    ]
    base = "Django’s default" if plan.base == PER_REQUEST else plan.base
    return Panel(title, f"times {base}", rows, 1)


def write(samples: str, directory: Path, readme: Path) -> None:
    """:param samples: as they were measured, or as they are published"""
    machine, *_ = samples.splitlines()
    lines = [machine, *(json.dumps(group) for group in packed(Results(samples).samples))]
    text = "".join(f"{line}\n" for line in lines)
    results = Results(text)
    (directory / "pooling.jsonl").write_text(text)
    panels = [
        panel(results, "default-0", READ, "A row by its index, loopback"),
        panel(results, "default-1", READ, "The same, 1 ms away"),
        panel(results, "default-0", ("atomic", 64), "Three reads in atomic()"),
        panel(results, "default-0", ("write", 64), "One INSERT"),
        panel(results, "apart", READ, "PgBouncer and databases apart"),
        panel(results, "page", ("page", 64), "A whole page"),
    ]
    for worker in ("gthread", "gevent", "asgi"):
        panels.append(panel(results, "choices", READ, f"{worker}, loopback", f"{worker}, "))
        panels.append(panel(results, "distance-5", READ, f"{worker}, 5 ms away", f"{worker}, "))
    # A machine with one processor has nothing apart.
    figure("pooling", [one for one in panels if all(values for _, values, _ in one.rows)], directory)
    for name, part in PARTS.items():
        fill(readme, name, part(results))
    print(f"written: {directory}/pooling.jsonl, the figure beside it, and the tables in {readme}")


if __name__ == "__main__":
    write((RESULTS / "pooling.jsonl").read_text(), RESULTS, Path(__file__).resolve().parent / "README.md")
