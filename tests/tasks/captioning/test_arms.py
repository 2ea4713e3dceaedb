import pytest

from whatwhere.errors import WhatwhereError
from whatwhere.networks.captioning.attention import KINDS
from whatwhere.tasks.captioning.arms import CaptionArm


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_one_map_unless_more_are_asked_for(kind: str) -> None:
    assert CaptionArm.parse(kind) == CaptionArm.parse(f"{kind}:layers=1") == CaptionArm(kind, 1)
    assert CaptionArm.parse(kind).title == KINDS[kind].title
    if KINDS[kind].several:
        assert CaptionArm.parse(f"{kind}:layers=12") == CaptionArm(kind, 12)
        assert CaptionArm.parse(f"{kind}:layers=3").title == f"{KINDS[kind].title}, 3 maps"
    else:
        message = f"{kind}:layers=2': '{kind}' looks at one map only: take '{kind}', or another"
        with pytest.raises(WhatwhereError, match=message):
            CaptionArm.parse(f"{kind}:layers=2")


@pytest.mark.parametrize("text", ["", "cbam", "C-S", "c_s", " c-s", "layers=2"])
def test_other_kinds_are_refused(text: str) -> None:
    kinds = "none, soft, s, c, s-c, c-s"
    with pytest.raises(WhatwhereError, match=f"unknown attention '{text}' of a captioner: must be one of {kinds}"):
        CaptionArm.parse(text)


@pytest.mark.parametrize(
    "option",
    ["", "2", "layers", "layers=", "layers=0", "layers=02", "layers=-1", "layers=1.5", "layers=2:layers=2", "maps=2"],
)
def test_other_options_are_refused(option: str) -> None:
    message = rf"^'c-s:{option}': after the kind only its number of maps may follow, at least 1, such as c-s:layers=2$"
    with pytest.raises(WhatwhereError, match=message):
        CaptionArm.parse(f"c-s:{option}")
