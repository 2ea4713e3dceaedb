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
            self.identity = identity

        def forward(self, x):
            return x if self.identity else x / 2

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


class Careless(GatedAttention):
    def __init__(self, channels, *, act=torch.nn.ReLU, identity=False, device=None, dtype=None):
        super().__init__(8)
        self.fc = torch.nn.Linear(channels, channels, bias=False)

    def gates(self, x):
        return self.fc(x.mean((2, 3)))[:, :, None, None]


class Unready(Attention):
    def __init__(self, channels, *, identity=False, device=None, dtype=None):
        self.fc = torch.nn.Linear(channels, channels)

    def forward(self):
        return None


class Shrinks(Attention):
    def __init__(self, channels, *, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.conv = torch.nn.Conv2d(channels, channels, 3, device=device, dtype=dtype)

    def forward(self, x):
        return self.conv(x)


class Inexact(GatedAttention):
    def __init__(self, channels, *, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.identity = identity
        self.s = torch.nn.Parameter(torch.zeros(1, channels, 1, 1, device=device, dtype=dtype))

    def gates(self, x):
        return ww.Gates(channel=self.s.sigmoid())


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (
            Careless,
            (
                "must pass the channels on: super().__init__(channels)",
                "self.identity = identity",
                "on device=; these are not: fc.weight",
                "of dtype=; these are not: fc.weight",
                "which a file can keep; these are not: act",
                "gates must return whatwhere.Gates(channel=…, spatial=… or full=…), not a Tensor",
            ),
        ),
        (
            Unready,
            (
                "forward must be a method (self, x), not (self)",
                "raises AttributeError: cannot assign module before Module.__init__() call",
            ),
        ),
        (Shrinks, ("(2, 64, 8, 12) became (2, 64, 6, 10)", "a map of one pixel fails", "any_size=False")),
        (
            Inexact,
            (
                "must return the map unchanged at the start, and changes it by up to",
                "the channel gate for (2, 64, 8, 12) must be (2, 64, 1, 1), not (1, 64, 1, 1)",
            ),
        ),
    ],
)
def test_it_is_tried_out(cls, says):
    with pytest.raises(ww.WhatwhereError) as caught:
        register(cls)
    for line in says:
        assert line in str(caught.value)
    assert ATTENTIONS.find("half") is None


def test_trying_out_leaves_no_trace():
    torch.manual_seed(0)
    want = torch.rand(1)
    torch.manual_seed(0)
    register(half())
    assert torch.equal(torch.rand(1), want)
