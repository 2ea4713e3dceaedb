import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from whatwhere.errors import WhatwhereError

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")
from PIL import Image

from whatwhere.views import caption_frames
from whatwhere.views.caption import CaptionLook, WordGates
from whatwhere.views.caption_gates import GateScale, Rise, write_rises

LAYERS = ("layer3", "layer4")


def blob(side, at):
    """A spatial gate whose peak is at a part of the width."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    gate = torch.exp(-((x - at) ** 2 + (y - 0.5) ** 2) / 0.05) + 0.1
    return gate / gate.mean()


def made(sentence="a dog runs <end>", sides=(14, 7), channels=(16, 32), references=("A dog is running .",), title=None):
    words = sentence.split()
    found = []
    for i, word in enumerate(words):
        spatial = tuple(None if side is None else blob(side, i / max(1, len(words) - 1)) for side in sides)
        what = []
        for count in channels:
            gate = None if count is None else torch.ones(count)
            if gate is not None:
                gate[i % count] += 1.0
            what.append(None if gate is None else gate / gate.mean())
        found.append(WordGates(word, -0.5 - 0.1 * i, spatial, tuple(what)))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return CaptionLook(image, tuple(found), LAYERS[: len(sides)], references, title)


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in (*axes.texts, *axes.get_yticklabels())]
    return found


def boxes_of_texts(figure):
    figure.canvas.draw()
    return {text: text.get_window_extent() for text in figure.texts if text.get_text()}


def test_the_caption_is_the_sentence_without_its_end():
    assert made().caption == "a dog runs"
    assert made("<end>").caption == ""
    assert made().log_probability == pytest.approx(-0.5 - 0.6 - 0.7 - 0.8)


def test_what_the_figure_has():
    found = made(title="dog_1.jpg")
    figure = found.figure
    assert found.figure is figure, "it is made once"
    written = texts(figure)
    for text in ("dog_1.jpg", "a dog runs", "A dog is running .", "a", "dog", "runs", "<end>", "log p −0.50", *LAYERS):
        assert text in written, text
    # The image, 4 words' probabilities, and for each layer 4 gates, a colour scale and 4 words' channels.
    assert len(figure.axes) == 1 + 4 + 2 * (4 + 1 + 4)
    assert written.count("× 1 (mean)") == 2
    assert "where: 14 × 14 positions" in written
    assert "what: the channels of 32 that rose the most" in written


def test_a_layer_has_one_scale_for_all_words():
    figure = made(channels=(None, None)).figure
    gates = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    assert len(gates) == 8
    assert len({gate.get_clim() for gate in gates[:4]}) == 1
    assert all(gate.get_interpolation() == "bilinear" for gate in gates)
    assert all(tuple(gate.get_extent()) == (0, 64, 48, 0) for gate in gates), "as large as the image"


@pytest.mark.parametrize(
    ("sides", "channels", "axes"),
    [
        ((None,), (16,), 1 + 4 + 4),
        ((7,), (None,), 1 + 4 + 5),
        ((None,), (None,), 1 + 4),
        ((), (), 1 + 4),
    ],
)
def test_networks_without_some_gates(sides, channels, axes, tmp_path):
    found = made(sides=sides, channels=channels)
    assert len(found.figure.axes) == axes
    assert {"a dog runs", "dog", "log p −0.60"} <= set(texts(found.figure))
    for suffix in ("png", "gif", "html"):
        assert found.save(tmp_path / f"a.{suffix}", **({"dpi": 50} if suffix == "png" else {})).stat().st_size > 100


def test_one_word_may_lack_a_gate():
    found = made(sides=(7,), channels=(16,))
    words = [replace(word, spatial=(None,), channel=(None,)) if word.word == "dog" else word for word in found.words]
    found = replace(found, words=tuple(words))
    assert texts(found.figure).count("no gate") == 1
    assert texts(found.figure).count("no gates") == 1
    assert found.rises(0)[2][0].before == 1, "the word after it is compared with 1"


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
def test_nothing_overlaps_or_is_cut_however_many_words(count):
    words = ["a", "extraordinarily_long_word", "dog", "on", "$x$"]
    sentence = " ".join([*(words * 4)[: count - 1], "<end>"])
    references = ("a " * 120, "Dog & ball <3", *"123456")
    figure = made(sentence, references=references, title="a very long title " * 12).figure
    boxes = list(boxes_of_texts(figure).values())
    assert figure.get_size_inches()[0] <= 9.4
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not box.count_overlaps([other.padded(-1) for other in boxes[i + 1 :]])
    assert "and 3 more" in texts(figure)


def test_the_channels_that_rose():
    before, after = torch.ones(8), torch.tensor([1.0, 1.5, 0.2, 1.1, 1.0, 1.2, 1.0, 1.0])
    gates = [before, after, after, before]
    words = tuple(WordGates(f"w{i}", -1.0, (None,), (gate,)) for i, gate in enumerate(gates))
    found = CaptionLook(np.zeros((8, 8, 3), np.uint8), words, ("layer4",))
    first, second, third, fourth = found.rises(0)
    assert first == third == []
    assert [one.channel for one in second] == [1, 5, 3]
    assert second[0].by == pytest.approx(0.5)
    assert [one.channel for one in fourth] == [2], "only those that rose"
    assert texts(found.figure).count("none rose") == 2
    assert "+0.80" in texts(found.figure)
    many = torch.arange(1.0, 21.0)
    words = (WordGates("w", -1.0, (None,), (many,)),)
    assert [one.channel for one in replace(found, words=words).rises(0)[0]] == [19, 18, 17, 16, 15]
    assert write_rises([[Rise(0, 1.0, 1.0004)], None, []]) == [["+0.00040"], [], []]


def test_the_scale_shows_both_sides_whatever_the_range():
    near = GateScale.of([np.array([0.9, 1.1])])
    assert near.ends == pytest.approx((0.9, 1.1))
    assert near.marks[1] == (1.0, "× 1 (mean)")
    far = GateScale.of([np.array([0.0, 0.5, 1.0, 10.0])])
    assert far.ends == (0, 2)
    assert far.position(np.array([0.0, 0.5, 1.0, 5.5, 10.0])) == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert [label for _, label in far.marks] == ["× 0", "× 1 (mean)", "× 10"]
    assert far.write(1.5) == "5.50"
    assert GateScale.of([np.ones(3)]).ends == pytest.approx((0.99, 1.01)), "a gate that does nothing is white"
    assert far.position(np.array([-3.0])) == 0


def words_with(**changes):
    return (WordGates("a", -0.1, (torch.ones(7, 7),), (torch.ones(4),)), WordGates("b", **{**good(), **changes}))


def good():
    return {"log_probability": -0.2, "spatial": (torch.ones(7, 7),), "channel": (torch.ones(4),)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spatial": ()}, "word 2, 'b': spatial has one entry per attended layer .layer4., 1 in all, got 0"),
        ({"channel": (None, None)}, "channel has one entry per attended layer .*got 2"),
        ({"channel": torch.ones(1, 4)}, "got a Tensor"),
        ({"spatial": (torch.ones(1, 7, 7),)}, r"the spatial gate of layer4 is a tensor \(h, w\), got \(1, 7, 7\)"),
        ({"spatial": (torch.ones(0, 7),)}, r"got \(0, 7\)"),
        ({"channel": (torch.ones(4, 1, 1),)}, r"the channel gate of layer4 is a tensor \(C,\), got \(4, 1, 1\)"),
        ({"channel": (torch.tensor([1.0, math.nan, math.inf, 1.0]),)}, "2 of 4 entries that are not finite"),
        ({"spatial": (np.ones((7, 7)),)}, r"tensor \(h, w\) or None, got ndarray"),
        ({"spatial": (torch.ones(6, 7),)}, r"\(7, 7\), got \(6, 7\)"),
        ({"channel": (torch.ones(5),)}, r"\(4,\), got \(5,\)"),
        ({"log_probability": math.nan}, "log-probability is nan"),
    ],
)
def test_wrong_gates(changes, says):
    with pytest.raises(WhatwhereError, match=says):
        CaptionLook(np.zeros((8, 8, 3), np.uint8), words_with(**changes), ("layer4",))


def test_wrong_images_and_words():
    CaptionLook(np.zeros((8, 8, 3), np.uint8), words_with(), ("layer4",))
    with pytest.raises(WhatwhereError, match=r"uint8 \(H, W, 3\), got float64 \(8, 8, 3\)"):
        CaptionLook(np.zeros((8, 8, 3)), words_with(), ("layer4",))
    with pytest.raises(WhatwhereError, match=r"got uint8 \(8, 8\)"):
        CaptionLook(np.zeros((8, 8), np.uint8), words_with(), ("layer4",))
    with pytest.raises(WhatwhereError, match="at least one pixel"):
        CaptionLook(np.zeros((0, 8, 3), np.uint8), words_with(), ("layer4",))
    with pytest.raises(WhatwhereError, match="at least one word"):
        CaptionLook(np.zeros((8, 8, 3), np.uint8), (), ("layer4",))
    with pytest.raises(WhatwhereError, match="a tuple of strings"):
        CaptionLook(np.zeros((8, 8, 3), np.uint8), words_with(), "l")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gates_of_any_precision_with_a_gradient(dtype):
    gates = (torch.ones(7, 7, dtype=dtype, requires_grad=True),), (torch.ones(4, dtype=dtype, requires_grad=True),)
    found = CaptionLook(np.zeros((8, 8, 3), np.uint8), (WordGates("a", -0.1, *gates),), ("layer4",))
    assert len(found.figure.axes) == 1 + 1 + 3


def test_each_file_is_what_its_suffix_says(tmp_path):
    found = made()
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml", "html": b"<!doctype html>", "gif": b"GIF89a"}
    for suffix, start in starts.items():
        path = found.save(tmp_path / "new" / f"a.{suffix}", dpi=60)
        assert path == tmp_path / "new" / f"a.{suffix}"
        assert path.read_bytes().startswith(start)
        first = path.read_bytes()
        assert found.save(str(path).replace("a.", "A."), dpi=60).read_bytes() == first, "the same every time"
    assert found.save(tmp_path / "B.GIF").exists()


def test_the_gif_has_a_frame_a_word_and_goes_on(tmp_path):
    found = made("the the the <end>", sides=(), channels=())
    with Image.open(found.save(tmp_path / "a.gif")) as gif:
        assert gif.n_frames == 4, "frames of the same word stay apart"
        assert gif.info["loop"] == 0
        assert max(gif.size) <= caption_frames.LONGEST
        assert gif.info["duration"] >= 1000


@pytest.mark.parametrize("size", [(20, 400), (400, 20), (600, 800), (8, 8)])
@pytest.mark.parametrize("sides", [(), (7,), (7, 7)])
def test_frames_are_not_too_large(size, sides):
    found = replace(made("a <end>", sides=sides, channels=(None,) * len(sides)), image=np.zeros((*size, 3), np.uint8))
    frame = caption_frames.draw_frame(found, 0)
    assert max(frame.shape[:2]) <= caption_frames.LONGEST
    assert frame.shape[1] >= caption_frames.LEAST


def test_another_suffix(tmp_path):
    for name in ("a.jpg", "a", "gif"):
        with pytest.raises(WhatwhereError, match=r"\.png, \.pdf, \.svg, \.html, \.gif, got "):
            made().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["png", "html", "gif"])
def test_no_part_of_a_file_after_a_failure(suffix, tmp_path, monkeypatch):
    target = tmp_path / f"a.{suffix}"
    target.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(WhatwhereError, match=r"cannot be written: no space left"):
        made(sides=(), channels=()).save(target)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "old"
