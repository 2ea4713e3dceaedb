"""Ghost convolutions: equal to their formula and to the official form, as many maps as asked for, wrong numbers."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whatwhere as ww
from whatwhere.cost import count_multiply_adds, count_parameters
from whatwhere.layers.ghost_conv import GhostConv


def correlate(x, weight, stride, dilation):
    """The convolution of a padded map, summed up tap by tap."""
    height = (x.shape[2] - dilation[0] * (weight.shape[2] - 1) - 1) // stride[0] + 1
    width = (x.shape[3] - dilation[1] * (weight.shape[3] - 1) - 1) // stride[1] + 1
    total = 0
    for a in range(weight.shape[2]):
        for b in range(weight.shape[3]):
            top, left = a * dilation[0], b * dilation[1]
            rows = slice(top, top + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (width - 1) * stride[1] + 1, stride[1])
            total = total + torch.einsum("nchw,oc->nohw", x[:, :, rows, columns], weight[:, :, a, b])
    return total


def written_down(conv, x, ratio, order, options):
    """p = f(x), and g(p) map by map; then the order."""
    w = dict(conv.named_parameters())
    size = w["conv1.weight"].shape[2:]
    stride, dilation, padding = (options.get(k, d) for k, d in (("stride", 1), ("dilation", 1), ("padding", 0)))
    stride, dilation = ((v, v) if isinstance(v, int) else v for v in (stride, dilation))
    if padding == "same":
        margins = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
        padding = (margins[1] // 2, margins[1] - margins[1] // 2, margins[0] // 2, margins[0] - margins[0] // 2)
    else:
        padding = (padding,) * 4
    mode = options.get("padding_mode", "zeros")
    padded = F.pad(x, padding, mode={"zeros": "constant"}.get(mode, mode))
    primary = correlate(padded, w["conv1.weight"], stride, dilation)
    if "conv1.bias" in w:
        primary = primary + w["conv1.bias"][:, None, None]
    kernel = w["conv2.weight"]
    around = F.pad(primary, (kernel.shape[2] // 2,) * 4)
    cheap = []
    for number in range(len(kernel)):
        source = number // (ratio - 1)
        made = correlate(around[:, source : source + 1], kernel[number : number + 1], (1, 1), (1, 1))
        cheap.append(made + w["conv2.bias"][number])
    maps = torch.cat([primary, *cheap], 1)
    return torch.stack([maps[:, i] for i in order], 1)


OPTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1, "bias": True},
    {"kernel_size": (3, 1), "stride": (2, 1), "padding": "valid"},
    {"kernel_size": 3, "stride": 2, "padding": 1, "cheap_kernel_size": 1},
    {"kernel_size": 3, "dilation": 2, "padding": 2, "padding_mode": "reflect", "bias": True},
    {"kernel_size": 5, "padding": 2, "padding_mode": "circular", "cheap_kernel_size": 5},
    {"kernel_size": (2, 3), "padding": "same", "padding_mode": "replicate"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("outputs", "ratio"), [(6, 2), (7, 2), (7, 3), (9, 4), (4, 4)])
@pytest.mark.parametrize("ordered", [False, True])
def test_equals_the_formula(options, outputs, ratio, ordered):
    torch.manual_seed(0)
    conv = GhostConv(5, outputs, ratio=ratio, ordered=ordered, dtype=torch.float64, **options)
    assert conv.conv1.out_channels == math.ceil(outputs / ratio)
    order = list(range(outputs))
    if ordered:
        order = torch.randperm(conv.conv1.out_channels * ratio)[:outputs].tolist()
        conv.order.copy_(torch.tensor(order))
    x = torch.randn(2, 5, 9, 8, dtype=torch.float64, requires_grad=True)
    plain = {k: 0 if v == "valid" else v for k, v in options.items()}
    want = written_down(conv, x, ratio, order, plain)
    got = conv(x)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(want)
    leaves = [x, *conv.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), leaves) for y in (got, want)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-11)


class Official(nn.Module):
    """As the official module for ResNet: two biases, the maps of both convolutions beside each other, cut to n."""

    def __init__(self, inputs, outputs, kernel_size, ratio, cheap, stride, padding, dilation):
        super().__init__()
        made = math.ceil(outputs / ratio)
        self.outputs = outputs
        self.conv1 = nn.Conv2d(inputs, made, kernel_size, stride, padding, dilation, bias=True)
        self.conv2 = nn.Conv2d(made, made * (ratio - 1), cheap, 1, (cheap - 1) // 2, groups=made, bias=True)

    def forward(self, x):
        x1 = self.conv1(x)
        x2 = self.conv2(x1)
        return torch.cat((x1, x2), 1)[:, : self.outputs, :, :]


@pytest.mark.parametrize(("outputs", "ratio"), [(8, 2), (7, 2), (10, 3)])
@pytest.mark.parametrize(("kernel_size", "stride", "padding", "dilation"), [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2)])
def test_equals_the_official_form(outputs, ratio, kernel_size, stride, padding, dilation):
    theirs = Official(5, outputs, kernel_size, ratio, 3, stride, padding, dilation).double()
    ours = GhostConv.like(nn.Conv2d(5, outputs, kernel_size, stride, padding, dilation).double(), ratio)
    assert ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 9, 8, dtype=torch.float64)
    assert torch.equal(ours(x), theirs(x))


def test_cost_is_about_the_share_of_the_ratio():
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    for ratio in (2, 4):
        ghost = GhostConv.like(conv, ratio)
        m = 64 // ratio
        assert count_parameters(ghost) == 64 * 9 * m + (64 - m) * (9 + 1)
        assert count_multiply_adds(ghost, (64, 10, 12)) == (64 * 9 * m + (64 - m) * 9) * 120


def test_device_dtype_copies_and_keys():
    conv = nn.Conv2d(3, 8, 3, bias=False, device="meta", dtype=torch.bfloat16)
    ghost = GhostConv.like(conv, 2, ordered=True)
    assert {(t.device.type, t.dtype) for t in ghost.parameters()} == {("meta", torch.bfloat16)}
    assert ghost.order.is_meta
    ghost = GhostConv(3, 8, ordered=True)
    assert list(ghost.state_dict()) == ["order", "conv1.weight", "conv2.weight", "conv2.bias"]
    assert copy.deepcopy(ghost).double().order.dtype == torch.int64
    assert repr(ghost).startswith("GhostConv(\n  3, 8, ratio=2, ordered=True")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GhostConv(8, 4, ratio=5), "ratio=5 is more than the 4 output maps"),
        (lambda: GhostConv(8, 4, ratio=1), "at least 2, got 1"),
        (lambda: GhostConv(8, 4, ratio=True), "at least 2, got True"),
        (lambda: GhostConv(8, 4, ratio=2.5), "at least 2, got 2.5"),
        (lambda: GhostConv(8, 4, cheap_kernel_size=2), "must be odd"),
        (lambda: GhostConv(8, 4, cheap_kernel_size=-1), "at least 1"),
        (lambda: GhostConv(8, 4, cheap_kernel_size=3.0), "at least 1"),
        (lambda: GhostConv.like(nn.Conv2d(4, 4, 3, groups=2), 2), "in 2 groups"),
    ],
)
def test_mistakes(make, says):
    with pytest.raises(ww.WhatwhereError, match=says):
        make()


@pytest.mark.parametrize("shape", [(2, 6, 5, 7), (0, 6, 5, 7), (2, 6, 1, 1)])
def test_ordered_maps_in_channels_last_memory_are_the_same(shape):
    torch.manual_seed(0)
    conv = GhostConv(6, 9, 3, ratio=2, padding=1, ordered=True)
    conv.order.copy_(torch.randperm(9))
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        x = x.contiguous(memory_format=memory_format).requires_grad_()
        y = conv.to(memory_format=memory_format)(x)
        y.square().sum().backward()
        found.append((y, x.grad))
    for got, want in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(got, want)
    assert not shape[0] or found[1][0].is_contiguous(memory_format=torch.channels_last)
