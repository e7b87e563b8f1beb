"""What the reports share: a number with its spread, a table, a figure of bars, and a place for them in a page."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median

from matplotlib import rc_context
from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent / "results"
# Text, quiet text, a bar, a bar of ours: on a page's background, which the figure lets through.
THEMES = {
    "light": ("#1f2328", "#59636e", "#8c959f", "#218bff"),
    "dark": ("#e6edf3", "#9198a1", "#6e7681", "#1f6feb"),
}


@dataclass(frozen=True)
class Panel:
    """Bars below each other: the median of their values, with a line from the lowest to the highest.

    :param note: what the numbers are, or which are better
    :param rows: label, values, whether it is ours
    """

    title: str
    note: str
    rows: list[tuple[str, list[float], bool]]
    digits: int = 0


def spread(values: list[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Nothing, if nothing of it was measured."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if len(lines) > 2 else ""


def figure(name: str, panels: list[Panel], directory: Path, *, columns: int = 2) -> None:
    """NAME-light.svg and NAME-dark.svg. Panels that stand beside each other have as many rows."""
    heights = [len(panel.rows) + 3 for panel in panels[::columns]]
    for theme, (ink, quiet, bar, ours) in THEMES.items():
        # Text stays text, and the same data gives the same file.
        fixed = {"svg.fonttype": "none", "svg.hashsalt": name, "font.sans-serif": "DejaVu Sans", "font.size": 9}
        colours = {"text.color": ink, "axes.titlecolor": ink, "ytick.color": ink, "axes.labelcolor": quiet}
        with rc_context(fixed | colours):
            page = Figure(figsize=(11, sum(heights) * 0.2), layout="constrained")
            grid = page.add_gridspec(len(heights), columns, height_ratios=heights)
            for place, panel in zip(grid, panels, strict=False):
                axes = page.add_subplot(place, frame_on=False)
                axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
                axes.set_xlabel(panel.note, loc="left", fontsize=8, labelpad=0)
                axes.tick_params(left=False, bottom=False, labelbottom=False)
                for row, (_, values, is_ours) in enumerate(panel.rows):
                    middle, low, high = median(values), min(values), max(values)
                    axes.barh(row, middle, height=0.7, color=ours if is_ours else bar)
                    axes.plot([low, high], [row, row], color=ink)
                    label = f"{middle:.{panel.digits}f}"
                    axes.annotate(label, (high, row), (5, 0), textcoords="offset points", va="center")
                axes.set_yticks(range(len(panel.rows)), [label for label, _, _ in panel.rows])
                axes.set_ylim(len(panel.rows) - 0.5, -0.5)
                axes.set_xlim(0, max(1e-9, *(1.1 * max(values) for _, values, _ in panel.rows)))
            drawn = StringIO()
            page.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
            (directory / f"{name}-{theme}.svg").write_text(" ".join(drawn.getvalue().split()) + "\n")


def fill(readme: Path, name: str, text: str) -> None:
    """Puts the text between the page's marks of that name."""
    between = rf"(<!-- {name}:begin -->\n).*(<!-- {name}:end -->)"
    filled, count = re.subn(
        between, lambda found: f"{found[1]}\n{text}\n\n{found[2]}", readme.read_text(), flags=re.DOTALL
    )
    assert count == 1, f"{readme} has lost its marks {name}"
    readme.write_text(filled)
