import base64
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")
from PIL import Image

from whatwhere.views.caption import CaptionLook, WordGates
from whatwhere.views.caption_page import _region, make_page

EVIL = '</script><img src=x onerror="alert(1)">&amp;<b>@@DATA@@'


def made(sentence="a dog runs <end>", sides=(14, 7), channels=(16, 32), references=("A dog is running .",), title=None):
    """A caption whose spatial gates move from left to right, and of whose channels one rises for each word."""
    words = sentence.split()
    found = []
    for i, word in enumerate(words):
        spatial = []
        for side in sides:
            y, x = np.mgrid[:side, :side] / (side - 1) if side else (0, 0)
            gate = np.exp(-((x - i / (len(words) - 1)) ** 2 + (y - 0.5) ** 2) / 0.05) + 0.1
            spatial.append(torch.tensor(gate / gate.mean()) if side else None)
        channel = tuple(torch.ones(count) + torch.eye(count)[i] for count in channels)
        found.append(WordGates(word, -0.5 - 0.1 * i, tuple(spatial), channel))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return CaptionLook(image, tuple(found), ("layer3", "layer4")[: len(sides)], references, title)


class Parsed(HTMLParser):
    """A page's elements with their attributes, its data, and its text outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.inside, self.scripts, self.open, self.text = [], None, [], [], ""
        self.feed(page)
        self.close()
        assert self.open == [], "every element is closed"
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = tag
            self.scripts += [""] if tag == "script" else []
        if tag not in ("meta", "input", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.inside = None
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside is None:
            self.text += data

    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]


def test_the_page_needs_nothing_beside_it():
    page = make_page(made(title="dog"))
    parsed = Parsed(page)
    sources = [value for _, attrs in parsed.elements for name, value in attrs.items() if name in ("src", "href")]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/")
    assert "http" not in page.replace("http-equiv", "")
    assert "@@" not in page
    assert any(attrs.get("content", "").startswith("default-src 'none'") for _, attrs in parsed.elements)


def test_what_a_reader_of_the_page_is_told():
    parsed = Parsed(make_page(made(title="dog")))
    assert len(set(parsed.ids())) == len(parsed.ids())
    images = [attrs for tag, attrs in parsed.elements if tag == "img"]
    assert images[0]["alt"] == "The image that was described: a dog runs"
    for tag, attrs in parsed.elements:
        if tag in ("canvas", "ol", "input") and attrs.get("id") not in ("rises", "opacity"):
            assert "aria-label" in attrs, attrs
    used = set(re.findall(r'\$\("(\w+)"\)', parsed.scripts[1]))
    assert used <= set(parsed.ids()), "the script asks for what is there"


def test_what_the_page_knows_of_each_word():
    found = made()
    data = Parsed(make_page(found)).data
    assert [word["word"] for word in data["words"]] == ["a", "dog", "runs", "<end>"]
    assert [word["end"] for word in data["words"]] == [False] * 3 + [True]
    assert data["words"][0]["probability"] == "probability 60.7 %, its logarithm −0.50"
    assert [(one["rows"], one["columns"], one["channels"]) for one in data["layers"]] == [(14, 14, 16), (7, 7, 32)]
    gate = data["words"][0]["spatial"][1]
    values = np.frombuffer(base64.b64decode(gate["values"]), np.uint8).reshape(7, 7)
    scale, gates = found.scale(1), found.spatial(1)[0]
    low, high = scale.ends
    assert np.abs(values / 255 - (scale.position(gates) - low) / (high - low)).max() < 0.003
    assert gate["where"].startswith("strongest at the left, ×")
    assert data["words"][1]["rises"][1][0]["channel"] == 1
    assert data["words"][1]["rises"][1][0]["share"] <= 1
    assert [word["against"][0] for word in data["words"]] == ["1, the mean"] + ["the word before"] * 3
    assert len(base64.b64decode(data["palette"])) == 768
    assert data["references"] == ["A dog is running ."]


def test_the_image_is_the_image():
    for size in ((48, 64), (300, 400)):
        image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        found = replace(made(), image=image)
        uri = next(attrs["src"] for tag, attrs in Parsed(make_page(found)).elements if tag == "img")
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))
        assert shown.shape == image.shape
        assert np.abs(shown.astype(int) - image).mean() < 12
        assert (uri.startswith("data:image/png")) == (shown == image).all()


def test_texts_are_not_markup():
    found = made(title=EVIL, references=(EVIL,))
    words = tuple(replace(word, word=EVIL) for word in found.words)
    page = make_page(replace(found, words=words, layers=(EVIL, "b")))
    parsed, plain = Parsed(page), Parsed(make_page(made()))
    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in plain.elements]
    assert parsed.data["words"][0]["word"] == parsed.data["references"][0] == parsed.data["layers"][0]["name"] == EVIL
    assert EVIL in parsed.text
    assert EVIL not in page


def test_parts_of_the_image():
    spot = np.zeros((7, 7))
    names = {(0, 0): "at the upper left", (3, 0): "at the left", (6, 3): "at the bottom", (3, 3): "in the centre"}
    for at, name in names.items():
        gate = spot.copy()
        gate[at] = 1
        assert _region(gate) == name
    assert _region(np.ones((1, 1))) == "in the centre"


# What a reader does, one after the other; the page stands in a frame as wide as a phone.
STEPS = """
const page = frame.contentDocument, seen = {};
const $ = id => page.getElementById(id);
const current = () => [...page.querySelectorAll("#sentence button")].findIndex(b => b.hasAttribute("aria-current"));
const press = (key, on) => (on || page.body).dispatchEvent(
  new frame.contentWindow.KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const note = name => seen[name] = [current(), $("word").textContent, $("play").textContent];
const overflow = () => page.documentElement.scrollWidth - page.documentElement.clientWidth;
note("start");
seen.width = [page.documentElement.clientWidth, overflow()];
$("next").click(); note("next");
press("ArrowRight"); note("right");
press("ArrowLeft"); note("left");
press("End"); note("end");
press("ArrowRight"); note("around");
$("previous").click(); note("previous");
page.querySelectorAll("#sentence button")[1].click(); note("word");
seen.gate = [$("gate").hidden, $("gate").getAttribute("aria-label"), $("gate").width, $("gate").style.opacity];
seen.pixel = [...$("gate").getContext("2d").getImageData(4, 7, 1, 1).data];
seen.rises = [...page.querySelectorAll("#rises .number")].map(n => n.textContent);
$("slider").value = 3; $("slider").dispatchEvent(new Event("input")); note("slider");
$("opacity").value = 0; $("opacity").dispatchEvent(new Event("input"));
seen.clear = [$("gate").style.opacity, $("frame").classList.contains("gated")];
press("ArrowRight", $("slider")); note("own keys");
page.querySelectorAll("#layers input")[1].click(); seen.layer = $("gate").width;
$("play").click(); note("played");
press(" "); note("paused");
seen.markup = page.querySelectorAll("b, img").length;
document.getElementById("seen").textContent = JSON.stringify(seen);
"""


def drive(browser, page, tmp_path, reduced=True, steps=STEPS, width=390):
    """Open the page in a frame, do the steps, and return what they saw."""
    said = f"<head><script>window.matchMedia = () => ({{matches: {json.dumps(reduced)}}});</script>"
    inner = html.escape(page.replace("<head>", said, 1))
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<!doctype html><pre id="seen"></pre><script>function go(frame) {{ {steps} }}</script>'
        f'<iframe width="{width}" height="3000" style="border:0" onload="go(this)" srcdoc="{inner}"></iframe>',
        encoding="utf-8",
    )
    dom = browser(outer)
    return json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)[1]))


@pytest.mark.slow
def test_in_a_browser(browser, tmp_path):
    found = made("a <b>dog</b> runs <end>", title="a_title_without_a_space" * 4, references=("reference" * 20,))
    seen = drive(browser, make_page(found), tmp_path)
    assert seen["start"] == [0, "a", "Play"], "it does not play where the reader prefers reduced motion"
    assert seen["width"] == [390, 0]
    assert seen["next"][0] == seen["left"][0] == 1
    assert seen["right"] == [2, "runs", "Play"]
    assert seen["end"][:2] == [3, "end of the sentence"]
    assert (seen["around"][0], seen["previous"][0]) == (0, 3)
    assert seen["word"][:2] == [1, "<b>dog</b>"]
    assert seen["gate"][0] is False
    assert re.match("Spatial gate of layer3 for “<b>dog</b>”: strongest at the left", seen["gate"][1])
    assert seen["gate"][2:] == [14, "0.7"]
    red, _, blue, alpha = seen["pixel"]
    assert red > blue
    assert alpha == 255, "the gate is above 1 at its peak"
    assert seen["rises"] == ["1"]
    assert seen["slider"][0] == seen["own keys"][0] == 2
    assert seen["clear"] == ["0", False], "without the gate the image has its colours"
    assert seen["layer"] == 7
    assert (seen["played"][2], seen["paused"][2]) == ("Pause", "Play")
    assert seen["markup"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(), (None,), (7,)])
def test_it_plays_by_itself_where_motion_is_welcome(browser, tmp_path, sides):
    look = 'document.getElementById("seen").textContent = JSON.stringify(['
    look += '...["play", "scale", "what", "layers", "gate"].map(id => frame.contentDocument.getElementById(id))]'
    look += ".map(e => e.id === 'play' ? e.textContent : e.hidden));"
    found = made(sides=sides, channels=tuple(16 for _ in sides))
    seen = drive(browser, make_page(found), tmp_path, reduced=False, steps=look)
    assert seen == ["Pause", sides != (7,), sides == (), True, sides != (7,)]


@pytest.mark.slow
def test_an_image_of_the_page(browser, tmp_path):
    page, shot = made().save(tmp_path / "a.html"), tmp_path / "shot.png"
    browser(page, screenshot=shot, height=900)
    assert len(Image.open(shot).convert("RGB").getcolors(1 << 24)) > 500
