"""What the ops accept is the same on every backend, eager, compiled and exported."""

import pytest
import torch

import whatwhere as ww
from whatwhere import ops

pytest.importorskip("numba")
X = torch.randn(2, 20, 5, 6, generator=torch.Generator().manual_seed(0))

WRONG = {
    "channel": (
        lambda x: ops.apply_gates(x, x[:, :1]),
        r"channel has shape \(2, 1, 5, 6\).*\(N, C, 1, 1\), here \(2, 20, 1, 1\)",
    ),
    "channels": (lambda x: ops.apply_gates(x, x[:, :7, :1, :1]), r"channel has shape \(2, 7, 1, 1\)"),
    "spatial": (lambda x: ops.apply_gates(x, None, x[:, :1, :2]), r"spatial has shape \(2, 1, 2, 6\)"),
    "images": (lambda x: ops.apply_gates(x[:1], None, x[:, :1]), r"spatial has shape \(2, 1, 5, 6\)"),
    "full": (lambda x: ops.apply_gates(x, full=x[:, :7]), r"full has shape \(2, 7, 5, 6\)"),
    "residual": (lambda x: ops.apply_gates(x, residual=x[:, :7]), r"residual has shape \(2, 7, 5, 6\)"),
    "axes": (lambda x: ops.apply_gates(x, x[:, :, 0, 0]), r"channel has shape \(2, 20\)"),
    "map": (lambda x: ops.apply_gates(x[0], x[0]), r"a map is \(N, C, H, W\), got a tensor of shape \(20, 5, 6\)"),
    "space gate": (lambda x: ops.squeeze_space(x, ("avg",), x[:, :2]), r"spatial has shape \(2, 2, 5, 6\)"),
    "channel gate": (lambda x: ops.squeeze_channels(x, ("avg",), x[:, :, :2]), r"channel has shape \(2, 20, 2, 6\)"),
    "tail": (lambda x: ww.SE(20).attend(x, residual=x[:, :7]), r"residual has shape \(2, 7, 5, 6\)"),
    "pool": (
        lambda x: ops.squeeze_space(x, ("avg", "maxx")),
        "unknown pool 'maxx'.*avg, max, lp, lse; did you mean 'max'",
    ),
    "channel pool": (lambda x: ops.squeeze_channels(x, ("lp",)), "unknown pool 'lp'.*: any of avg, max"),
    "no pool": (lambda x: ops.squeeze_space(x, ()), r"pools=\(\): a sequence of at least one of avg"),
    "filter": (lambda x: ops.filter_maps(x[:, :2], torch.ones(1, 3, 3, 3)), r"weight has shape \(1, 3, 3, 3\).* P = 2"),
    "even filter": (lambda x: ops.filter_maps(x[:, :2], torch.ones(1, 2, 4, 4)), "odd k"),
    "device": (lambda x: ops.apply_gates(x, residual=x.to("meta")), "the map is on cpu and residual on meta"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_what_is_wrong_is_said(name, backend):
    call, says = WRONG[name]
    with ops.backend(backend), pytest.raises(ww.WhatwhereError, match=says):
        call(X)


class Excites(ww.GatedAttention):
    """Makes a channel gate of the shape of a spatial one."""

    def steps(self):
        return (ops.Step("channel", ("avg",), lambda squeezed: squeezed.new_ones(2, 1, 5, 6)),)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_gate_that_an_attention_makes_is_checked_too(backend):
    with ops.backend(backend), pytest.raises(ww.WhatwhereError, match=r"channel has shape \(2, 1, 5, 6\)"):
        Excites(20)(X)


def test_a_bare_word_is_no_sequence_of_pools():
    with pytest.raises(ww.WhatwhereError, match="pools='avg'"):
        ops.squeeze_space(X, "avg")


@pytest.mark.parametrize("name", ["channel", "pool", "residual"])
def test_the_same_words_come_while_compiling_and_exporting(name):
    call, says = WRONG[name]
    torch._dynamo.reset()
    with pytest.raises(ww.WhatwhereError, match=says):
        torch.compile(call, backend="eager")(X)
    with pytest.raises(Exception, match=r"(?s)has shape|unknown pool"):
        torch.compile(call, backend="eager", fullgraph=True)(X)

    class Module(torch.nn.Module):
        def forward(self, x):
            return call(x)

    with pytest.raises(ww.WhatwhereError, match=says):
        torch.export.export(Module(), (X,), strict=False)


def test_what_is_right_compiles_and_exports_for_any_batch():
    """The checks ask nothing that would fix the size of the batch."""

    class Module(torch.nn.Module):
        def forward(self, x):
            c, s = x.mean((2, 3), keepdim=True), x.mean(1, keepdim=True)
            return ops.apply_gates(x, c, s, residual=ops.squeeze_space(x, ("avg",), s)[:, 0, :, None, None])

    shapes = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(Module(), (X,), dynamic_shapes=shapes)
    several = torch.randn(7, 20, 5, 6)
    torch.testing.assert_close(program.module()(several), Module()(several))
    torch._dynamo.reset()
    compiled = torch.compile(Module(), backend="aot_eager", fullgraph=True, dynamic=True)
    for x in (X, several):
        torch.testing.assert_close(compiled(x), Module()(x))


def test_public_ops_speak_for_themselves():
    for name in ("squeeze_space", "squeeze_channels", "apply_gates", "filter_maps", "attend", "gates"):
        function = getattr(ops, name)
        assert not hasattr(function, "__wrapped__")
        assert "Example:" in function.__doc__
