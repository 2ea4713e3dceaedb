"""What a notebook shows of a look."""

import pytest

from whatwhere.views.result import Look, figure_png


def test_a_look_shows_its_figure():
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(1, 1))
    look = Look("cat", 1.0, [], "cat", None, [], None, figure=figure)
    assert look._repr_png_().startswith(b"\x89PNG")
    assert figure_png(None) is None
