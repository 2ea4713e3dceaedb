import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from whatwhere.errors import WhatwhereError
from whatwhere.layers import CBAM
from whatwhere.placement import sites
from whatwhere.surgery import insert, remove

IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def resnet_sites(*blocks, last):
    return [f"layer{stage}.{block}.{last}" for stage, n in enumerate(blocks, 1) for block in range(n)]


@functools.cache
def network(source, name, device="cpu"):
    torch.manual_seed(0)
    with torch.device(device):
        return make(source, name)


def make(source, name):
    if source == "timm":
        return pytest.importorskip("timm").create_model(name)
    return getattr(pytest.importorskip("torchvision").models, name)(weights=None)


# Worked out by hand from each network's table of blocks: a shortcut where the stride is 1 and the channels stay.
EXPECTED = {
    ("torchvision", "resnet18"): resnet_sites(2, 2, 2, 2, last="bn2"),
    ("torchvision", "resnet50"): resnet_sites(3, 4, 6, 3, last="bn3"),
    ("torchvision", "resnext50_32x4d"): resnet_sites(3, 4, 6, 3, last="bn3"),
    ("torchvision", "wide_resnet50_2"): resnet_sites(3, 4, 6, 3, last="bn3"),
    ("timm", "resnet18"): resnet_sites(2, 2, 2, 2, last="bn2"),
    ("timm", "resnet50"): resnet_sites(3, 4, 6, 3, last="bn3"),
    ("timm", "resnext50_32x4d"): resnet_sites(3, 4, 6, 3, last="bn3"),
    ("timm", "wide_resnet50_2"): resnet_sites(3, 4, 6, 3, last="bn3"),
    ("timm", "seresnet50"): resnet_sites(3, 4, 6, 3, last="se"),
    ("timm", "res2net50_26w_4s"): resnet_sites(3, 4, 6, 3, last="bn3"),
    ("torchvision", "mobilenet_v2"): [f"features.{i}.conv.3" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)],
    ("timm", "mobilenetv2_100"): [
        f"blocks.{s}.{b}.bn3"
        for s, b in ((1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2), (5, 1), (5, 2))
    ],
    ("torchvision", "mobilenet_v3_small"): ["features.3.block.2.1"]
    + [f"features.{i}.block.3.1" for i in (5, 6, 8, 10, 11)],
    ("torchvision", "mobilenet_v3_large"): [
        f"features.{i}.block.{j}.1"
        for i, j in ((1, 1), (3, 2), (5, 3), (6, 3), (8, 2), (9, 2), (10, 2), (12, 3), (14, 3), (15, 3))
    ],
    ("timm", "mobilenetv3_small_100"): [
        f"blocks.{s}.{b}.bn3" for s, b in ((1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2))
    ],
    ("timm", "mobilenetv3_large_100"): ["blocks.0.0.bn2"]
    + [f"blocks.{s}.{b}.bn3" for s, b in ((1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 1), (5, 1), (5, 2))],
    ("torchvision", "efficientnet_b0"): [
        f"features.{s}.{b}.block.3.1"
        for s, b in ((2, 1), (3, 1), (4, 1), (4, 2), (5, 1), (5, 2), (6, 1), (6, 2), (6, 3))
    ],
    ("timm", "efficientnet_b0"): [
        f"blocks.{s}.{b}.bn3" for s, b in ((1, 1), (2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (5, 1), (5, 2), (5, 3))
    ],
    ("timm", "tf_efficientnet_lite0"): [
        f"blocks.{s}.{b}.bn3" for s, b in ((1, 1), (2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (5, 1), (5, 2), (5, 3))
    ],
    ("torchvision", "convnext_tiny"): [
        f"features.{stage}.{block}.block.6" for stage, n in ((1, 3), (3, 3), (5, 9), (7, 3)) for block in range(n)
    ],
    ("timm", "convnext_tiny"): [
        f"stages.{stage}.blocks.{block}.mlp.fc2" for stage, n in enumerate((3, 3, 9, 3)) for block in range(n)
    ],
    ("torchvision", "regnet_y_400mf"): [
        f"trunk_output.block{stage}.block{stage}-{block}.f.c.1"
        for stage, n in enumerate((1, 3, 6, 6), 1)
        for block in range(n)
    ],
    ("timm", "regnety_002"): [
        f"s{stage}.b{block}.conv3.bn" for stage, n in enumerate((1, 1, 4, 7), 1) for block in range(1, n + 1)
    ],
    ("torchvision", "densenet121"): [f"features.transition{i}.conv" for i in (1, 2, 3)] + ["features.norm5"],
    ("timm", "densenet121"): [f"features.transition{i}.conv" for i in (1, 2, 3)] + ["features.norm5.act"],
    ("torchvision", "vgg16_bn"): [f"features.{i}" for i in (5, 12, 22, 32, 42)],
    ("timm", "vgg16_bn"): [f"features.{i}" for i in (5, 12, 22, 32, 42)],
    ("timm", "mobilenetv1_100"): [f"blocks.{s}.{b}.bn2.act" for s, b in ((0, 0), (1, 1), (2, 1), (3, 5), (4, 1))],
}


@pytest.mark.parametrize(("source", "name"), EXPECTED)
def test_sites_of_known_networks(source, name):
    device = "cpu" if name == "regnet_y_400mf" else "meta"  # torchvision computes RegNet's widths with tensors
    found = sites(network(source, name, device), IMAGE.to(device))
    assert [site.module for site in found] == EXPECTED[source, name]
    stages = name.startswith(("densenet", "vgg", "mobilenetv1"))
    assert {site.kind for site in found} == {"stage" if stages else "residual"}
    channels_last = (source, name) == ("timm", "convnext_tiny")  # the last layer before its layer scale
    assert {site.side for site in found} == {"nhwc" if channels_last else "output"}


def test_a_site_says_what_it_is():
    first, *_, last = sites(network("torchvision", "resnet50", "meta"), IMAGE.to("meta"))
    assert (first.channels, first.size, last.channels, last.size) == (256, (16, 16), 2048, (2, 2))
    assert first.why == "last layer of a residual branch, before the add with layer1.0.downsample"
    assert "layer4.1" in last.why


def test_the_usual_image_size_is_the_default():
    assert sites(network("torchvision", "resnet18", "meta"))[0].size == (56, 56)
    assert sites(network("timm", "tf_efficientnet_lite0", "meta"))[-1].size == (7, 7)


class DropPath(nn.Module):
    """Drops whole samples in training; in evaluation returns what it is given."""

    def forward(self, x):
        if not self.training:
            return x
        return x * (torch.rand(x.shape[0], 1, 1, 1) > 0.5)


class Scale(nn.Module):
    """A layer scale that is a module."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), 0.5))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    """A residual block by hand; ``kind`` says how its branch ends and how it is added."""

    def __init__(self, channels, kind):
        super().__init__()
        self.kind = kind
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.drop = DropPath()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), 0.5))
        self.attn = CBAM(channels) if kind == "attended" else None
        self.scale = Scale(channels) if kind.startswith("scale-module") else None
        self.mlp = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels))

    def forward(self, x):
        y = self.second(self.relu(self.first(x)))
        if self.kind == "in-place":
            y += x
            return functional.relu_(y)
        if self.kind == "scale":
            return self.gamma * y + x
        if self.kind == "drop":
            return x + self.drop(y)
        if self.kind == "scale-drop":
            return torch.add(x, self.drop(y.mul(self.gamma)))
        if self.kind == "scale-module":
            return x + self.scale(y)
        if self.kind == "scale-module-functions":
            return x + self.scale(y - x)
        if self.kind == "channels-last":
            return x + self.drop(self.mlp(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        if self.kind == "channels-last-function":
            return x + self.mlp(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.kind == "channels-last-scale":
            return x + self.drop((self.mlp(y.permute(0, 2, 3, 1)) * self.gamma.flatten()).permute(0, 3, 1, 2))
        if self.kind == "channels-last-scale-after":
            return x + self.drop(self.mlp(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).mul(self.gamma))
        if self.kind == "scale-functions":
            return x + self.drop((y - x).mul(self.gamma))
        if self.kind == "sliced":
            return torch.cat([x[:, :4] + y[:, :4], y[:, 4:]], dim=1)
        if self.kind == "attended":
            return self.attn(y) + x
        if self.kind == "shared-relu":
            return self.relu(y) + x
        return functional.dropout(y, 0.5, self.training).clone().contiguous() + x


def by_hand(*blocks, channels=6):
    torch.manual_seed(0)
    stem = nn.Conv2d(3, channels, 3, padding=1)
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)).eval()


@pytest.mark.parametrize(
    ("kind", "module", "side"),
    [
        ("in-place", "second", "output"),
        ("scale", "second", "output"),
        ("drop", "second", "output"),
        ("scale-drop", "second", "output"),
        ("scale-module", "second", "output"),
        ("scale-functions", "drop", "input"),
        ("scale-module-functions", "scale", "input"),
        ("channels-last", "drop", "input"),
        ("channels-last-function", "mlp.1", "nhwc"),
        ("channels-last-scale", "mlp.1", "nhwc"),
        ("channels-last-scale-after", "mlp.1", "nhwc"),
        ("sliced", "second", "output"),
        ("attended", "second", "output"),
        ("shared-relu", "second", "output"),
        ("functions", "second", "output"),
    ],
)
def test_sites_of_a_network_by_hand(kind, module, side):
    model = by_hand(Block(6, kind), Block(6, kind))
    found = sites(model, IMAGE)
    assert [(site.module, site.side) for site in found] == [(f"1.{module}", side), (f"2.{module}", side)]
    assert all(site.size == (64, 64) and site.channels == 6 for site in found)
    expected = model(IMAGE)
    insert(model, "cbam", example=IMAGE)
    torch.testing.assert_close(model(IMAGE), expected, rtol=1e-5, atol=1e-6)


def test_attention_on_channels_last_maps_is_the_same_attention():
    """Its gates are those for the map in the usual order; compile, export and remove know it."""
    model = by_hand(Block(6, "channels-last-function"))
    plain = model(IMAGE)
    insert(model, "cbam", identity=False, example=IMAGE)
    attention = model[1].mlp[1].attention
    y = model(IMAGE)
    branch = remove_and_run_by_hand(model, attention)
    torch.testing.assert_close(y, branch)
    torch.testing.assert_close(torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True)(IMAGE), y)
    program = torch.export.export(model, (IMAGE,))
    torch.testing.assert_close(program.module()(IMAGE), y)
    assert remove(model) == 1
    assert torch.equal(model(IMAGE), plain)


def remove_and_run_by_hand(model, attention):
    stem, block, *rest = copy.deepcopy(model)
    remove(block)
    x = stem(IMAGE)
    y = block.second(block.relu(block.first(x)))
    y = x + attention(block.mlp(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    return nn.Sequential(*rest)(y)


class Parallel(nn.Module):
    """RepVGG's block: parallel linear branches, which are no residual branches."""

    def __init__(self, channels):
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)
        self.same = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.wide(x) + self.narrow(x) + self.same(x))


def test_parallel_branches_are_not_residual():
    found = sites(by_hand(Parallel(6), Parallel(6)), IMAGE)
    assert [(site.module, site.kind) for site in found] == [("2.act", "stage")]


class Pyramid(nn.Module):
    """A top-down sum as in a feature pyramid."""

    def __init__(self):
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
        self.high = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        )
        self.lateral = nn.Conv2d(6, 6, 1)
        self.up = nn.Upsample(scale_factor=2)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        low = self.low(x)
        return self.head(self.lateral(low) + self.up(self.high(low)))


def test_a_feature_pyramid_is_not_residual():
    assert {site.kind for site in sites(Pyramid(), IMAGE)} == {"stage"}


class Patches(nn.Module):
    """A residual block of 1×1 convolutions on patches, (N, C, sites in a patch, patches)."""

    def __init__(self, channels):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        n, c, h, w = x.shape
        patches = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, c, 4, h * w // 4)
        patches = patches + self.branch(patches)
        return patches.reshape(n, c, 2, 2, h // 2, w // 2).permute(0, 1, 4, 2, 5, 3).reshape(n, c, h, w)


def test_patches_are_no_maps():
    found = sites(by_hand(Block(6, "drop"), Patches(6), nn.Conv2d(6, 6, 3, padding=1)), IMAGE)
    assert [site.module for site in found] == ["1.second"]


def convolve_twice(inputs, outputs):
    first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class UNet(nn.Module):
    """Two levels down, two up, with skip connections and without residual adds."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = convolve_twice(3, 6), convolve_twice(6, 6), convolve_twice(6, 6)
        self.up2, self.up1, self.head = convolve_twice(12, 6), convolve_twice(12, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(functional.max_pool2d(one, 2))
        deep = self.bottom(functional.max_pool2d(two, 2))
        up = self.up2(torch.cat([two, functional.interpolate(deep, scale_factor=2)], dim=1))
        return self.head(self.up1(torch.cat([one, functional.interpolate(up, scale_factor=2)], dim=1)))


def test_an_encoder_and_its_decoder_have_stages():
    found = sites(UNet(), IMAGE)
    assert [site.module for site in found] == ["down1.3", "down2.3", "bottom.3", "up2.3", "up1.3"]
    assert [site.stage for site in found] == [0, 1, 2, 1, 0]


class Coarse(nn.Module):
    """A gate that looks at a coarser map on the side, with one convolution there."""

    def __init__(self, channels):
        super().__init__()
        self.side, self.back = nn.Conv2d(channels, channels, 2, stride=2), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.back(x * torch.sigmoid(functional.interpolate(self.side(x), scale_factor=2)))


def test_a_look_at_a_coarser_map_does_not_cut_a_stage():
    model = by_hand(nn.Conv2d(6, 6, 3, padding=1), Coarse(6), nn.MaxPool2d(2), convolve_twice(6, 6))
    assert [site.module for site in sites(model, IMAGE)] == ["2.back", "4.3"]


class Narrowing(nn.Module):
    """An inverted residual that halves the map: its expansion is still at the old resolution."""

    def __init__(self):
        super().__init__()
        self.expand, self.act = nn.Conv2d(6, 12, 1), nn.ReLU()
        self.reduce, self.project = nn.Conv2d(12, 12, 3, stride=2, padding=1), nn.Conv2d(12, 6, 1)

    def forward(self, x):
        return self.project(self.reduce(self.act(self.expand(x))))


def test_a_stage_ends_before_the_block_that_leaves_it():
    model = by_hand(convolve_twice(6, 6), Narrowing(), convolve_twice(6, 6))
    assert [site.module for site in sites(model, IMAGE)] == ["1.3", "3.3"]


def test_stages_without_residual_adds_are_served_where_most_have_none():
    parts = [convolve_twice(6, 6), nn.MaxPool2d(2), convolve_twice(6, 6), nn.MaxPool2d(2), Block(6, "drop")]
    found = sites(by_hand(*parts), IMAGE)
    assert [(site.module, site.kind, site.stage) for site in found] == [
        ("1.3", "stage", 0),
        ("3.3", "stage", 1),
        ("5.second", "residual", 2),
    ]
    served = sites(by_hand(*parts[2:], nn.MaxPool2d(2), Block(6, "drop")), IMAGE)
    assert {site.kind for site in served} == {"residual"}


def convolve_once(inputs, outputs, kernel=3):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)
    )


class DarknetReference(nn.Module):
    """Darknet's reference network: one convolution a resolution, then the class scores by a convolution."""

    def __init__(self, widths=(4, 6, 8, 10)):
        super().__init__()
        self.stages, before = nn.ModuleList(), 3
        for width in widths:
            self.stages.append(convolve_once(before, width))
            before = width
        self.pool, self.classify = nn.MaxPool2d(2), nn.Conv2d(before, 5, 1)

    def forward(self, x):
        for number, stage in enumerate(self.stages):
            x = stage(self.pool(x) if number else x)
        return functional.leaky_relu(self.classify(x)).mean((2, 3))


class TwoStreams(nn.Module):
    """A unit of ResNet in ResNet (arXiv 1603.08029): a residual and a transient stream, one convolution each way, and
    adds.
    """

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()

        def convolve(kernel=3):
            return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)

        self.residual_pass, self.transient_pass, self.residual_cross, self.transient_cross = (
            convolve() for _ in "1234"
        )
        self.shortcut = convolve(1) if (inputs, stride) != (outputs, 1) else nn.Identity()
        self.residual_norm, self.transient_norm = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, residual, transient):
        new = self.residual_pass(residual) + self.shortcut(residual) + self.transient_cross(transient)
        transient = self.transient_pass(transient) + self.residual_cross(residual)
        return functional.relu(self.residual_norm(new)), functional.relu(self.transient_norm(transient))


class ResNetInResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.residual, self.transient = convolve_once(3, 4), convolve_once(3, 4)
        units = [TwoStreams(4, 4), TwoStreams(4, 4), TwoStreams(4, 8, 2), TwoStreams(8, 8)]
        self.units, self.classify = nn.ModuleList(units), convolve_once(16, 5, 1)

    def forward(self, x):
        streams = self.residual(x), self.transient(x)
        for unit in self.units:
            streams = unit(*streams)
        return self.classify(torch.cat(streams, 1)).mean((2, 3))


SINGLE = {
    DarknetReference: ("stage", [f"stages.{n}.2" for n in range(4)]),
    ResNetInResNet: ("residual", [f"units.{n}.residual_pass" for n in (0, 1, 3)]),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_one_convolution_is_enough_where_nothing_else_is_found(kind):
    torch.manual_seed(0)
    model = kind().eval()
    want, (what, names) = model(IMAGE), SINGLE[kind]
    found = sites(model, IMAGE)
    assert [(site.module, site.kind) for site in found] == [(name, what) for name in names]
    assert sites(model, IMAGE, at=what) == found
    assert sites(model, IMAGE, at=found) == found
    insert(model, "cbam", example=IMAGE)
    assert torch.equal(model(IMAGE), want)
    assert [site.module for site in sites(model, IMAGE)] == names
    remove(model)
    insert(model, "cbam", example=IMAGE, identity=False)
    assert not torch.allclose(model(IMAGE), want)


def test_one_convolution_is_not_enough_where_a_stage_has_two():
    parts = [nn.MaxPool2d(2), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), convolve_twice(6, 6)]
    assert [site.module for site in sites(by_hand(*parts), IMAGE)] == ["5.3"]


def test_a_stage_end_that_has_attention_is_the_same_site():
    model = by_hand(convolve_twice(6, 6), nn.MaxPool2d(2), convolve_twice(6, 6))
    before = sites(model, IMAGE)
    insert(model, "cbam", example=IMAGE)
    assert sites(model, IMAGE) == before
    with pytest.raises(WhatwhereError, match=r"there is attention already at 1\.3, 3\.3"):
        insert(model, "se", example=IMAGE)


def test_a_module_that_runs_twice_is_no_site():
    block = Block(6, "drop")
    model = by_hand(block, block)
    with pytest.raises(WhatwhereError, match="no site for attention"):
        sites(model, IMAGE)


def test_a_network_served_in_part_says_so():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 6, 3, 3))

        def forward(self, x):
            y = functional.conv2d(functional.relu(x), self.weight, padding=1)
            return x + functional.conv2d(functional.relu(y), self.weight, padding=1)

    with pytest.warns(UserWarning, match="1 of 2 residual adds"):
        found = sites(by_hand(Block(6, "drop"), Functional()), IMAGE)
    assert [site.module for site in found] == ["1.second"]


@pytest.mark.parametrize(
    ("source", "name"), [("torchvision", "swin_t"), ("timm", "vit_tiny_patch16_224"), ("timm", "mambaout_femto")]
)
def test_channels_last_networks_and_transformers_have_no_site(source, name):
    with pytest.raises(WhatwhereError, match=r"no site.*of tokens or channels-last maps.*at="):
        sites(network(source, name, "meta"), torch.empty(1, 3, 224, 224, device="meta"))


def test_a_network_that_rearranges_its_input():
    model = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 6, 3, padding=1), Block(6, "drop"))
    assert sites(model)[0].size == (56, 56)


def test_a_forward_that_fails_asks_for_an_example():
    model = nn.Sequential(nn.Conv2d(5, 8, 3), nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(WhatwhereError, match=r"\(1, 5, 224, 224\).*example="):
        sites(model)


def test_sites_leaves_the_model_and_the_random_state_alone():
    model = copy.deepcopy(network("torchvision", "resnet18"))
    model.train()
    model.layer2.eval()
    noisy = Block(64, "functions")
    noisy.register_buffer("calls", torch.zeros(()))
    noisy.register_forward_hook(lambda module, *_: module.calls.add_(torch.rand(())) and None)
    model.layer1.append(noisy)
    model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    flags = [module.training for module in model.modules()]
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    versions = [parameter._version for parameter in model.parameters()]
    random = torch.get_rng_state()
    sites(model, IMAGE)
    assert [module.training for module in model.modules()] == flags
    assert [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()] == hooks
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [parameter._version for parameter in model.parameters()] == versions
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(model.conv1.weight.grad, torch.ones_like(model.conv1.weight))


def test_sites_on_the_meta_device_and_in_another_dtype():
    with torch.device("meta"):
        meta = Block(6, "drop")
    found = sites(by_hand_meta := nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, device="meta"), meta))
    assert found[0].module == "1.second"
    insert(by_hand_meta, "se")
    assert meta.second.attention.get_parameter(
        next(name for name, _ in meta.second.attention.named_parameters())
    ).is_meta
    double = by_hand(Block(6, "drop")).double()
    insert(double, "cbam", example=IMAGE.double())
    assert double(IMAGE.double()).dtype == torch.float64
