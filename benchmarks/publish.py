"""What the reports share: a number with its spread, a table, a figure of bars, and a place for them in a page."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib import rc_context
from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent / "results"
# Text, quiet text, a bar, a bar of ours: on a page's background, which the figure lets through.
THEMES = {
    "light": ("#1f2328", "#59636e", "#afb8c1", "#54aeff"),
    "dark": ("#e6edf3", "#9198a1", "#57606a", "#1f6feb"),
}


@dataclass(frozen=True)
class Panel:
    """Bars below each other: the median of their values, with a line from the lowest to the highest.

    :param rows: label, values, whether it is ours
    """

    title: str
    more_is_better: bool
    rows: list[tuple[str, list[float], bool]]
    digits: int = 0


def spread(values: list[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(name: str, panels: list[Panel], directory: Path, *, columns: int = 2) -> None:
    """NAME-light.svg and NAME-dark.svg. Panels that stand beside each other have as many rows."""
    heights = [len(panel.rows) + 2 for panel in panels[::columns]]
    for theme, (ink, quiet, bar, ours) in THEMES.items():
        # Text stays text, and the same data gives the same file.
        fixed = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9, "axes.titlesize": 9}
        colours = {"text.color": ink, "axes.titlecolor": ink, "ytick.color": ink}
        with rc_context(fixed | colours):
            page = Figure(figsize=(11, sum(heights) * 0.21), layout="constrained")
            grid = page.add_gridspec(len(heights), columns, height_ratios=heights)
            for place, panel in zip(grid, panels, strict=False):
                axes = page.add_subplot(place, frame_on=False)
                axes.set_title(panel.title, loc="left", fontweight="bold")
                axes.set_title("more is better" if panel.more_is_better else "less is better", loc="right", color=quiet)
                labels, values, is_ours = zip(*panel.rows, strict=True)
                middles, highest = [median(one) for one in values], [max(one) for one in values]
                around = [[max(0, m - min(one)) for m, one in zip(middles, values, strict=True)],
                          [high - m for m, high in zip(middles, highest, strict=True)]]  # fmt: skip
                axes.barh(range(len(labels)), middles, xerr=around, height=0.7, ecolor=ink,
                          color=[ours if one else bar for one in is_ours])  # fmt: skip
                axes.set_yticks(range(len(labels)), labels)
                axes.invert_yaxis()
                axes.tick_params(left=False, bottom=False, labelbottom=False)
                axes.set_xlim(0, 1.1 * max(highest) or 1)
                for row, (middle, high) in enumerate(zip(middles, highest, strict=True)):
                    axes.annotate(
                        f"{middle:.{panel.digits}f}", (high, row), (5, 0), textcoords="offset points", va="center"
                    )
            page.savefig(directory / f"{name}-{theme}.svg", transparent=True, metadata={"Date": None})


def fill(readme: Path, name: str, text: str) -> None:
    """Puts the text between the page's marks of that name."""
    between = rf"(<!-- {name}:begin -->\n).*(<!-- {name}:end -->)"
    filled, count = re.subn(
        between, lambda found: f"{found[1]}\n{text}\n\n{found[2]}", readme.read_text(), flags=re.DOTALL
    )
    assert count == 1, f"{readme} has lost its marks {name}"
    readme.write_text(filled)
