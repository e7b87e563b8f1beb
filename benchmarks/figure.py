"""What the reports share: a number with its spread, a figure of bars, and a place for a table in a page."""

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median

# An image in a page has its own style, which follows the reader's choice of light or dark.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .quiet { fill: #59636e }
.bar { fill: #8c959f } .ours { fill: #0969da } .spread { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9198a1 } .bar { fill: #6e7681 } .ours { fill: #4493f8 }
  .spread { stroke: #e6edf3 }
}
"""
ROW, BARS = 22, 200


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


def figure(title: str, panels: list[Panel], *, columns: int = 2, labels: int = 165) -> str:
    """An SVG. Panels that stand beside each other have as many rows.

    :param labels: room for them, in pixels
    """
    width = labels + BARS + 105
    heights = [len(panel.rows) * ROW + 40 for panel in panels[::columns]]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {sum(heights)}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
    ]
    for index, panel in enumerate(panels):
        left, top = index % columns * width, sum(heights[: index // columns])
        better = "more is better" if panel.more_is_better else "less is better"
        parts.append(
            f'<text class="title" x="{left}" y="{top + 16}">{escape(panel.title)}'
            f'<tspan class="quiet" font-weight="400" dx="8">{better}</tspan></text>'
        )
        longest = max(max(values) for _, values, _ in panel.rows) or 1
        for row, (label, values, ours) in enumerate(panel.rows):
            middle, low, high = (BARS * value / longest for value in (median(values), min(values), max(values)))
            y, zero = top + 26 + row * ROW, left + labels
            parts += [
                f'<text x="{zero - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>',
                f'<rect class="{"ours" if ours else "bar"}" x="{zero}" y="{y + 2}" width="{middle:.1f}" height="14"/>',
                f'<path class="spread" d="M{zero + low:.1f} {y + 9}H{zero + high:.1f}"/>',
                f'<text x="{zero + high + 6:.1f}" y="{y + 13}">{median(values):.{panel.digits}f}</text>',
            ]
    return "\n".join([*parts, "</svg>\n"])


def fill(readme: Path, name: str, text: str) -> None:
    """Puts the text between the page's marks of that name."""
    between = rf"(<!-- {name}:begin -->\n).*(<!-- {name}:end -->)"
    filled, count = re.subn(
        between, lambda found: f"{found[1]}\n{text}\n\n{found[2]}", readme.read_text(), flags=re.DOTALL
    )
    assert count == 1, f"{readme} has lost its marks {name}"
    readme.write_text(filled)
