"""A caption as a page: one word at a time, in one HTML file that needs nothing beside it."""

import base64
import io
import json
import math
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import need
from . import panels
from .caption_gates import END, CaptionGates, GateScale, Rise, write_rises

MILLISECONDS = 1300
"""How long a word is shown while the page plays."""
SHARP = 128
"""An image narrower than this is enlarged without smoothing, as in figures."""


def make_page(found: CaptionGates) -> str:
    """Return the page as HTML.

    The image and the gates are inside it; it asks for nothing from a network and may not. It plays by itself, except
    where the reader prefers reduced motion or opens it at a word, as in ``page.html#word=3``.

    Raises:
        MissingExtra: Pillow or matplotlib is not installed.

    Example:
        >>> from whatwhere.views.caption_gates import WordGates
        >>> words = (WordGates("a", -0.1, (), ()), WordGates("<b>", -0.5, (), ()))
        >>> page = make_page(CaptionGates(np.zeros((40, 60, 3), np.uint8), words, ()))
        >>> page.startswith("<!doctype html>"), "<b>" in page
        (True, False)
    """
    height, width = found.image.shape[:2]
    title = found.title or "What the captioner looked at, word by word"
    template = resources.files(__package__).joinpath("caption_page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": escape(title),
        "CAPTION": escape(found.caption),
        "ALT": escape(f"The image that was described: {found.caption}"),
        "IMAGE": _image(found.image),
        "WIDTH": str(width),
        "HEIGHT": str(height),
        "RATIO": f"{width / height:.4f}",
        "PIXELS": "image-rendering: pixelated;" if width < SHARP else "",
        "OVER": str(round(100 * panels.OVER)),
        "DATA": _json(_data(found)),
    }
    return _fill(template, parts)


def _fill(template: str, parts: Mapping[str, str]) -> str:
    """Put all parts into the template at once, so that a part may contain what looks like the name of another."""
    return re.sub("@@([A-Z]+)@@", lambda match: parts[match[1]], template)


def _json(data: Any) -> str:
    """Write JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(found: CaptionGates) -> dict[str, Any]:
    """Return what the page shows, as its script takes it."""
    words: list[dict[str, Any]] = []
    for word in found.words:
        chance = math.exp(min(0.0, word.log_probability))
        logarithm = f"{word.log_probability:.2f}".replace("-", "−")
        words.append(
            {
                "word": word.word,
                "end": word.word == END,
                "chance": round(chance, 5),
                "probability": f"probability {panels.percent(chance)}, its logarithm {logarithm}",
                "spatial": [],
                "rises": [],
                "against": [],
            }
        )
    layers = []
    for number, name in enumerate(found.layers):
        scale, gates, rises = found.scale(number), found.spatial(number), found.rises(number)
        most = max((one.by for word_rises in rises for one in word_rises or ()), default=1.0)
        rows, columns = next((gate.shape for gate in gates if gate is not None), (0, 0))
        marks = [] if scale is None else [(round(_share(scale, at), 4), label) for at, label in scale.marks]
        layers.append(
            {"name": name, "rows": rows, "columns": columns, "marks": marks, "channels": found.channels(number)}
        )
        for before, entry in zip((None, *rises), words, strict=False):
            entry["against"].append("1, the mean" if before is None else "the word before")
        for entry, gate, risen, labels in zip(words, gates, rises, write_rises(rises), strict=True):
            entry["spatial"].append(None if gate is None or scale is None else _gate(gate, scale))
            entry["rises"].append(
                None if risen is None else [_rise(one, label, most) for one, label in zip(risen, labels, strict=True)]
            )
    return {
        "words": words,
        "layers": layers,
        "references": list(found.references),
        "palette": _base64((panels._diverging()(np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)),
        "milliseconds": MILLISECONDS,
    }


def _share(scale: GateScale, position: Any) -> Any:
    """Return where a position stands between the ends of a scale, from 0 to 1."""
    low, high = scale.ends
    return (position - low) / (high - low)


def _gate(gate: NDArray[Any], scale: GateScale) -> dict[str, str]:
    """Return a gate as colours' numbers, one byte a position, and in words."""
    values = (255 * _share(scale, scale.position(gate))).round().astype(np.uint8)
    least, most = (scale.write(float(scale.position(end))) for end in (gate.min(), gate.max()))
    if least == most:
        return {"values": _base64(values), "where": f"every position counts the same, ×\N{NO-BREAK SPACE}{most}"}
    return {
        "values": _base64(values),
        "where": f"strongest {_region(gate)}, ×\N{NO-BREAK SPACE}{most}; weakest ×\N{NO-BREAK SPACE}{least}",
    }


def _region(gate: NDArray[Any]) -> str:
    """Return in which part of the image the largest gate is.

    Example:
        >>> _region(np.eye(3)[:, ::-1] * [[1], [1], [5]]), _region(np.array([[1.0, 2.0, 1.0]]))
        ('at the lower left', 'in the centre')
    """
    row, column = np.unravel_index(int(gate.argmax()), gate.shape)
    part = [int(3 * (2 * int(at) + 1) / (2 * size)) for at, size in zip((row, column), gate.shape, strict=True)]
    if part == [1, 1]:
        return "in the centre"
    across = ("left", "", "right")[part[1]]
    if part[0] == 1:
        return f"at the {across}"
    return (
        f"at the {('upper', '', 'lower')[part[0]]} {across}" if across else f"at the {('top', '', 'bottom')[part[0]]}"
    )


def _rise(one: Rise, label: str, most: float) -> dict[str, Any]:
    """Return a rise as the page shows it: the channel, the length of its bar, and its gates before and now."""
    digits = len(label.partition(".")[2])
    change = f"{one.before:.{digits}f} → {one.now:.{digits}f}"
    return {"channel": one.channel, "share": round(one.by / most, 4), "change": change}


def _image(image: NDArray[np.uint8]) -> str:
    """Return the image as a data URI: PNG, or JPEG where that is less than half as large."""
    images = need("PIL.Image", "look")
    written = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 92, "subsampling": 0})):
        content = io.BytesIO()
        images.fromarray(image).save(content, kind, **options)
        written[kind] = content.getvalue()
    kind = "jpeg" if 2 * len(written["jpeg"]) < len(written["png"]) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(written[kind]).decode()}"


def _base64(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()
