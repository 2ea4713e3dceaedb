"""The charts show the tables of the documents, and the sentences beside them say what the tables say."""

import statistics

import pytest

from benchmarks import charts


def test_families_sentences_are_the_tables():
    text = " ".join((charts.DOCS / "families.md").read_text(encoding="utf-8").split())
    costs = charts.family_costs()
    kinds = [kinds for _, kinds, _, _ in costs]
    said = f"residual branches in {kinds.count('residual')} of them, to the ends of the stages in"
    assert f"{said} {kinds.count('stage')}, and to both in {kinds.count('residual and stage')}." in text
    assert f"all {len(costs)} architectures" in text
    for column, what in ((2, "parameters"), (3, "multiply-adds")):
        added = [row[column] for row in costs]
        assert f"{statistics.median(added):.2f} % of the {what} in the median and {max(added):.2f} % at most" in text


def test_performance_reads_the_tables():
    maps, times = charts.layer_times()
    assert len(maps) == len(times["ours-cbam"]) == 5
    assert times["timm-cbam"][1] == 76.2
    assert charts.step_ratios()["ours-cbam+fuse"] == 1.07


def test_what_is_no_table_raises():
    with pytest.raises(ValueError, match="has no"):
        charts.table_after(charts.DOCS / "families.md", "no such words")
    with pytest.raises(ValueError, match="no number"):
        charts.number("–")


@pytest.mark.parametrize("draw", [charts.draw_performance, charts.draw_families])
def test_charts_are_drawn(draw):
    pytest.importorskip("matplotlib")
    assert draw().axes
