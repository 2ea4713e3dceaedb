"""Boxes over an image: names inside it and not on each other, kinds that differ without colour, all sizes."""

import itertools

import numpy as np
import pytest
from PIL import Image

from whatwhere.views.boxes import STYLES, Drawn, count_words, describe, draw_image, shorten

figure_module = pytest.importorskip("matplotlib.figure")
Bbox = pytest.importorskip("matplotlib.transforms").Bbox
LONG = "a class with a very long name indeed"


def scattered(count, width, height, text=LONG):
    rng = np.random.default_rng(count)
    kinds = itertools.cycle(("hit", "false alarm", "miss"))
    found = []
    for number, kind in zip(range(count), kinds, strict=False):
        x, y = rng.uniform(0, 0.8, 2) * (width, height)
        end_x, end_y = x + rng.uniform(0.02, 0.2) * width, y + rng.uniform(0.02, 0.2) * height
        name = text if number % 2 else "dog"
        found.append(Drawn((x, y, end_x, end_y), name if kind == "miss" else f"{name} 0.{number:02d}", kind))
    return found


def names(axes):
    return [text for text in axes.texts if text.get_text()]


@pytest.mark.parametrize("size", [(96, 96), (640, 480), (80, 600)], ids=str)
@pytest.mark.parametrize("count", [7, 40])
def test_names_are_inside_the_image_and_not_on_each_other(count, size):
    """Also where the figure is saved with another resolution than the one at which the names were placed."""
    boxes = scattered(count, *size)
    figure = draw_image(np.zeros((size[1], size[0], 3), np.uint8), boxes, {"hit": count})
    (axes,) = figure.axes
    for dpi in (100, 130, 250):
        figure.set_dpi(dpi)
        figure.draw_without_rendering()
        areas = [text.get_window_extent() for text in names(axes)]
        assert areas
        slack = dpi / 50
        for area in areas:
            assert axes.bbox.x0 - slack <= area.x0 <= area.x1 <= axes.bbox.x1 + slack
            assert axes.bbox.y0 - slack <= area.y0 <= area.y1 <= axes.bbox.y1 + slack
        for one, other in itertools.combinations(areas, 2):
            common = Bbox.intersection(one, other)
            assert common is None or min(common.width, common.height) < slack


@pytest.mark.parametrize("box", [(0, 0, 9, 9), (87, 0, 96, 9), (0, 87, 9, 96), (87, 87, 96, 96), (0, 0, 96, 96)])
def test_a_lone_box_has_its_name_wherever_it_is(box):
    figure = draw_image(np.zeros((96, 96, 3), np.uint8), [Drawn(box, f"{LONG} 0.93", "found")], {"found": 1})
    (name,) = names(figure.axes[0])
    assert name.get_text().endswith("0.93")


def test_the_most_important_box_keeps_its_name():
    boxes = [Drawn((10, 10, 60, 60), f"dog 0.{n}", "found") for n in range(10, 30)]
    figure = draw_image(np.zeros((96, 96, 3), np.uint8), boxes, {"found": 20})
    written = [text.get_text() for text in names(figure.axes[0])]
    assert written[0] == "dog 0.29"
    assert 1 < len(written) < 20


def test_many_boxes_are_drawn_without_names():
    figure = draw_image(np.zeros((480, 640, 3), np.uint8), scattered(100, 640, 480), {"found": 100})
    assert len(figure.axes[0].patches) == 100
    assert names(figure.axes[0]) == []


def test_white_lies_below_every_line():
    axes = draw_image(np.zeros((96, 96, 3), np.uint8), scattered(5, 96, 96), {"hit": 5}).axes[0]
    (white,) = axes.collections
    drawn = axes.get_children()
    assert all(white.zorder <= frame.zorder and drawn.index(white) < drawn.index(frame) for frame in axes.patches)


def test_kinds_differ_by_line_and_by_lightness():
    kinds = [STYLES[kind] for kind in ("hit", "false alarm", "miss")]
    assert len({style.line for style in kinds}) == len({style.colour for style in kinds}) == 3
    axes = draw_image(np.zeros((60, 60, 3), np.uint8), [], {"hit": 0, "miss": 2, "false alarm": 1}).axes[0]
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["0 hits", "2 misses", "1 false alarm"]
    assert len({line.get_linestyle() for line in legend.get_lines()}) == 3


@pytest.mark.parametrize("shape", [(40, 4000), (4000, 40), (1, 1)], ids=str)
def test_a_figure_has_a_bounded_size(shape, tmp_path):
    figure = draw_image(np.zeros((*shape, 3), np.uint8), [], {"found": 0})
    assert max(figure.get_size_inches()) < 10
    figure.savefig(tmp_path / "a.png", dpi=60)
    assert Image.open(tmp_path / "a.png").width == 384


@pytest.mark.parametrize(
    ("words", "end"), [(f"{LONG} 0.93", "… 0.93"), (f"{LONG} × 12", "… × 12"), (LONG, "…"), ("2 0.93", "2 0.93")]
)
def test_a_name_is_cut_and_its_number_stays(words, end):
    text = figure_module.Figure(dpi=100).text(0, 0, "", size=8)
    shorten(text, words, 90)
    assert text.get_text().endswith(end)
    assert text.get_window_extent().width <= 90
    shorten(text, words, 9000)
    assert text.get_text() == words


@pytest.mark.parametrize("rows", [1, 8, 9, 30])
def test_the_list_of_classes(rows):
    axes = figure_module.Figure().add_axes((0, 0, 0.2, 0.4))
    describe(axes, [(f"{LONG} {n}", n + 1, 0.9) for n in range(rows)], 0.3)
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == 2 * min(rows, 8) + (rows > 8)
    if rows > 8:
        assert texts[-1] == f"and {rows - 8} more class{'es' if rows > 9 else ''}"


def test_words():
    axes = figure_module.Figure().add_axes((0, 0, 0.2, 0.4))
    describe(axes, [], 0.3)
    assert axes.texts[0].get_text().replace("\n", " ") == "no object with a score of at least 0.3"
    assert [count_words(n, "false alarm") for n in (0, 1)] == ["0 false alarms", "1 false alarm"]
