"""Registering an attention: what is wrong is said at once and all together; constructor arguments are recorded."""

import copy
import pickle

import pytest
import torch

import whatwhere as ww
from whatwhere.layers import ATTENTIONS, Attention, GatedAttention, KeyMap, entry


def half(name="Half", module="somewhere"):
    class Half(Attention):
        def __init__(self, channels, *, identity=False, device=None, dtype=None):
            super().__init__(channels)

        def forward(self, x):
            return x / 2

    Half.__qualname__, Half.__module__ = name, module
    return Half


@pytest.fixture(autouse=True)
def clean():
    yield
    ATTENTIONS.discard("half")


def register(cls, name="half", **more):
    return ww.register(name, **{"title": "half", "formula": "x / 2", "kind": "residual", **more})(cls)


def test_a_reloaded_class_replaces_and_another_one_does_not():
    register(half())
    again = register(half())
    assert entry("half").cls is again
    with pytest.raises(ww.WhatwhereError, match=r"'half' is registered already: half \(somewhere.Half\)"):
        register(half(module="elsewhere"))
    with pytest.raises(ww.WhatwhereError, match="registered already"):
        register(half(), name="cbam")
    assert entry("cbam").cls is ww.CBAM


def test_every_fault_is_listed():
    class Wrong(GatedAttention):
        def __init__(self, c, size=3, *, identity, dtype=None):
            super().__init__(c)

    maps = (
        KeyMap("one", {"a": "b"}, "("),
        KeyMap("two", {}, "x"),
        KeyMap("three", {"fc1": "a", "fc2": "b"}, r"(?P<block>.+)\.se"),
    )
    with pytest.raises(ww.WhatwhereError) as caught:
        ww.register("half", title="", formula="x", kind="odd", min_channels=0, channel_divisor=1.5, key_maps=maps)(
            Wrong
        )

    class Bare(GatedAttention):
        def __init__(self):
            super().__init__(1)

    with pytest.raises(ww.WhatwhereError, match="first parameter must be channels, not missing"):
        ww.register("half", title="x", formula="x", kind="both")(Bare)
    for said in (
        "first parameter must be channels, not c",
        "keyword-only options; these are not: size",
        "must take the options device",
        "these have none: identity",
        "must define steps or gates",
        "title must not be empty",
        "kind='odd': must be one of channel, spatial, both",
        "min_channels must be a whole number of at least 1, not 0",
        "channel_divisor must be a whole number of at least 1, not 1.5",
        "'one' has unit='(', which is no regular expression",
        "'two' needs the group block in unit='x'",
        "'two' names no parts",
        "'three' has the names of \"timm's SE\"",
    ):
        assert said in str(caught.value)
    assert ATTENTIONS.find("half") is None


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (torch.nn.ReLU, "derives from whatwhere.Attention"),
        (3, "must be a class"),
        (type("Empty", (half(),), {"forward": Attention.forward}), "must define forward"),
    ],
    ids=["module", "number", "no forward"],
)
def test_what_is_no_attention(cls, says):
    with pytest.raises(ww.WhatwhereError, match=says):
        register(cls)


def test_a_name_that_cannot_be_written_on_a_command_line():
    with pytest.raises(ww.WhatwhereError, match="'Half:' is no name for an attention"):
        register(half(), name="Half:")


def test_only_the_outermost_call_is_recorded():
    class Narrow(ww.SE):
        def __init__(self, channels, *, width=3, identity=False, device=None, dtype=None):
            super().__init__(channels, hidden=width, gate="hard_sigmoid", identity=identity, device=device, dtype=dtype)

    class Mixin:
        pass

    class Inherits(Mixin, Narrow):
        pass

    assert Narrow(8, width=4).init_options == {"width": 4}
    assert Inherits(8, identity=True, device="cpu").init_options == {"identity": True}
    assert Narrow(8).settings() == {"width": 3, "identity": False, "pools": ("avg",)}


def test_what_is_recorded():
    made = ww.CBAM(16, pools=["max", "avg"], reduction=16, kernel_size=3, dtype=torch.float64)
    want = {"pools": ("max", "avg"), "kernel_size": 3}
    assert made.init_options == want
    assert made.channel.init_options["pools"] == ("max", "avg")
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other.init_options == want
    with pytest.raises(TypeError):
        ww.CBAM()
