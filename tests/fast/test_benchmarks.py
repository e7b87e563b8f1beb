"""What is published is what was measured: tables and figures follow from the samples beside them."""

import re
import shutil
from itertools import groupby
from pathlib import Path

import pytest

from benchmarks.pooling import plan
from benchmarks.pooling import report as pooling
from benchmarks.publish import RESULTS, THEMES
from benchmarks.race import report as race

PUBLISHED = {
    "pooling": (pooling, RESULTS.parent / "pooling" / "README.md"),
    "race": (race, RESULTS.parent / "README.md"),
}


def numbers(figure: Path) -> list[str]:
    """All that a figure says. How it is drawn may differ between versions of the library."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", figure.read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_and_figure_follow_from_the_samples(name: str, tmp_path: Path) -> None:
    report, readme = PUBLISHED[name]
    again = tmp_path / "README.md"
    shutil.copy(readme, again)
    report.write((RESULTS / f"{name}.jsonl").read_text(), tmp_path, again)
    assert again.read_text() == readme.read_text()
    for theme in THEMES:
        drawn = numbers(tmp_path / f"{name}-{theme}.svg")
        assert len(drawn) > 50
        assert drawn == numbers(RESULTS / f"{name}-{theme}.svg")


def test_each_figure_of_the_guide_is_one_of_the_tables() -> None:
    guide = (RESULTS.parent.parent / "docs" / "pooling.md").read_text()
    tables = PUBLISHED["pooling"][1].read_text()
    figures = re.findall(r"[\d.,]+ \([\d.,]+–[\d.,]+\)", guide)
    assert len(figures) > 20
    assert [figure for figure in figures if figure not in tables] == []


@pytest.mark.parametrize("one", plan.SETS.values(), ids=plan.SETS)
def test_each_site_of_a_set_has_a_row_of_its_own_and_something_to_be_compared_with(one: plan.Set) -> None:
    names = [site.name for site in one.sites]
    assert len(names) == len(set(names))
    assert one.base in names


@pytest.mark.parametrize("one", plan.SETS.values(), ids=plan.SETS)
def test_what_is_compared_is_measured_one_after_the_other_and_in_another_order_each_round(one: plan.Set) -> None:
    turns = list(one.turns(5))
    cells = [cell for cell, _ in groupby(turns, key=lambda turn: (turn.round, turn.work, turn.clients))]
    assert len(cells) == len(set(cells)) == 5 * len(one.cells)
    orders = {
        tuple(turn.site.name for turn in turns if (turn.round, turn.work) == (number, one.cells[0][0]))
        for number in range(5)
    }
    assert len(orders) == 5
