"""A network that is cut at some of its maps computes what the whole network computes."""

import copy
import functools
import pickle
import re

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import whatwhere as ww
from whatwhere.graph.cut import cut, last_maps
from whatwhere.graph.operations import Graph

# name: how it is built, and points: from inside a block to the end of the last stage
NETWORKS = {
    "torchvision resnet18": (torchvision.models.resnet18, ["layer3", "layer4.1.relu", "layer4"]),
    "torchvision resnet50": (torchvision.models.resnet50, ["layer4.2.relu", "layer4.2.relu_1", "layer4.2.relu_2"]),
    "torchvision squeezenet": (torchvision.models.squeezenet1_1, ["features.11.squeeze", "features.12"]),
    "torchvision mobilenet": (torchvision.models.mobilenet_v3_small, ["features.11.block.1", "features.11"]),
    "timm resnet18": (lambda: timm.create_model("resnet18"), ["layer4.1.act1", "layer4.1"]),
    "timm efficientnet": (lambda: timm.create_model("tf_efficientnet_lite0"), ["blocks.5.3.bn2", "blocks.5", "bn2"]),
    "timm mobilenet": (lambda: timm.create_model("mobilenetv3_small_050"), ["blocks.4.2.bn1", "blocks.5"]),
    "timm convnext": (lambda: timm.create_model("convnext_atto"), ["stages.3.blocks.1.conv_dw", "stages.3"]),
    "own resnet": (lambda: ww.build(ww.ModelConfig("small-resnet")), ["stages.1", "stages.2.0.relu1", "stages.2"]),
    "own mobilenet": (lambda: ww.build(ww.ModelConfig("small-mobilenet")), ["stages.2.1.depthwise", "stages.2.1"]),
    "with attention": (lambda: with_attention(), ["layer4.1.relu", "layer4.1"]),
}


def with_attention():
    network = torchvision.models.resnet18()
    ww.insert(network, "cbam")
    return network


def images(count=2, height=96, width=64):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def network_of(make):
    torch.manual_seed(0)
    network = make()
    with torch.no_grad():
        for name, buffer in network.named_buffers():  # batch normalisations that do something
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(0.1 * torch.rand(buffer.shape))
    return network.eval()


@functools.cache
def recorded(name):
    """Return a network that no test changes, and its graph."""
    network = network_of(NETWORKS[name][0])
    return network, Graph(network, images(1))


def outputs(network, points, x):
    """Return what modules give in a run of the whole network, and its result; ``relu_1`` is the second call of relu."""
    names = dict(network.named_modules())
    seen, handles = {}, []
    for name in {point if point in names else re.sub(r"_\d+$", "", point) for point in points}:
        calls = seen[name] = []
        hook = names[name].register_forward_hook(lambda _, inputs, out, calls=calls: calls.append(out.clone()))
        handles.append(hook)
    with torch.no_grad():
        result = network(x)
    for handle in handles:
        handle.remove()
    found = []
    for point in points:
        name, number = (point, 0) if point in names else re.match(r"(.*)_(\d+)$", point).groups()
        found.append(seen[name][int(number)])
    return found, result


def run(parts, network, x):
    values = parts.frozen.run(network, {parts.image: x})
    assert set(values) == set(parts.frozen.gives)
    values = {**values, **parts.before.run(network, values)}
    for piece in parts.between:
        values = {name: value.clone() for name, value in values.items()} | piece.run(network, dict(values))
    return values


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_the_points_are_those_of_the_whole_network(name, frozen):
    points, x = NETWORKS[name][1], images()
    network, graph = recorded(name)
    wanted, _ = outputs(network, points, x)
    network.requires_grad_(not frozen)
    parts = cut(graph, points)
    network.requires_grad_(True)
    with torch.no_grad():
        values = run(parts, network, x)
    for point, map_, channels in zip(parts.points, wanted, parts.channels, strict=True):
        assert torch.equal(values[point], map_)
        assert map_.shape[1] == channels
    assert len(parts.between) == len(points) - 1
    if frozen:
        assert not parts.before.operations
        assert parts.frozen.gives == parts.before.gives
    else:
        assert not parts.frozen.operations
        assert parts.frozen.gives == (parts.image,)


@pytest.mark.parametrize("name", NETWORKS)
def test_pieces_fit_together(name):
    parts = cut(recorded(name)[1], NETWORKS[name][1])
    pieces = [parts.frozen, parts.before, *parts.between]
    names = [operation.name for piece in pieces for operation in piece.operations]
    assert len(set(names)) == len(names)
    assert parts.frozen.takes == (parts.image,)
    given = {parts.image}
    for piece in pieces[1:]:
        assert set(piece.takes) <= set(pieces[1].gives if piece is not pieces[1] else pieces[0].gives) | given
        given |= set(piece.gives)
    for index, point in enumerate(parts.points):
        assert point in pieces[index + 1].gives
        if index + 2 < len(pieces):
            assert point in pieces[index + 2].takes


def test_all_that_goes_from_piece_to_piece_belongs_to_images():
    network, graph = recorded("timm convnext")
    parts = cut(graph, NETWORKS["timm convnext"][1])
    with torch.no_grad():
        assert {len(value) for value in run(parts, network, images(3)).values()} == {3}


def test_the_rest_of_the_network_is_left_out_and_its_input_is_the_last_point():
    (network, graph), x = recorded("torchvision resnet18"), images()
    parts = cut(graph, ["layer2", "layer4.1.conv2", "layer4"])
    with torch.no_grad():
        wanted = network(x)
        last = run(parts, network, x)[parts.points[-1]]
        assert torch.equal(network.fc(network.avgpool(last).flatten(1)), wanted)


def test_a_point_may_be_changed_and_the_shortcut_stays():
    (network, graph), x = recorded("torchvision resnet50"), images()
    parts = cut(graph, ["layer4.2.relu_1", "layer4.2"])
    block = network.layer4[2]
    with torch.no_grad():
        values = parts.before.run(network, {parts.image: x})
        shortcut = network.layer4[:2](network.layer3(network.layer2(network.layer1(
            network.maxpool(network.relu(network.bn1(network.conv1(x))))
        ))))  # fmt: skip
        changed = 3 * values[parts.points[0]] - 1
        found = parts.between[0].run(network, {**values, parts.points[0]: changed})
        assert torch.equal(found[parts.points[1]], F.relu(block.bn3(block.conv3(changed)) + shortcut))
    assert parts.between[0].takes == ("layer4_1_relu_2", "layer4_2_relu_1")
    assert [operation.target for operation in parts.between[0].operations[:2]] == ["layer4.2.conv3", "layer4.2.bn3"]


def test_a_partly_frozen_network():
    network, x = network_of(torchvision.models.resnet50).requires_grad_(False), images()
    network.layer4[2].conv3.requires_grad_(True)  # as in the paper's code
    points = ["layer4.2.relu", "layer4.2.relu_1", "layer4.2"]
    parts = cut(Graph(network, x[:1]), points)
    trained = {one.target for one in parts.frozen.operations if one.kind == "call_module"}
    assert not parts.before.operations
    assert "layer4.2.conv1" in trained
    assert not {"layer4.2.conv2", "layer4.2.conv3"} & trained
    network.layer4[1].bn3.requires_grad_(True)
    parts = cut(Graph(network, x[:1]), points)
    assert [one.target for one in parts.before.operations if one.kind == "call_module"] == [
        *("layer4.1.bn3", "layer4.1.relu", "layer4.2.conv1", "layer4.2.bn1", "layer4.2.relu")
    ]
    assert set(parts.frozen.gives) == {"layer4_1_conv3", "layer4_0_relu_2"}
    with torch.no_grad():
        found = run(parts, network, x)
        wanted, _ = outputs(network, ["layer4.2"], x)
        assert torch.equal(found[parts.points[-1]], wanted[0])
    parts.frozen.run(network, {parts.image: x})
    for name, value in parts.frozen.run(network, {parts.image: x}).items():
        assert not value.requires_grad, name
    run(parts, network, x)[parts.points[-1]].sum().backward()
    learned = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learned == {"layer4.1.bn3.weight", "layer4.1.bn3.bias", "layer4.2.conv3.weight"}


def test_keep_only_leaves_what_is_needed():
    network, x = network_of(torchvision.models.resnet18), images()
    parts = cut(Graph(network, x[:1]), ["layer3.0.relu", "layer4.1.relu"])
    wanted, _ = outputs(network, ["layer4.1.bn1"], x)
    keys = [key for key in network.state_dict() if not key.startswith(("fc.", "layer4.1.conv2.", "layer4.1.bn2."))]
    parts.keep_only(network)
    assert list(network.state_dict()) == keys
    with torch.no_grad():
        assert torch.equal(run(parts, network, x)[parts.points[-1]], F.relu(wanted[0]))
    parts.keep_only(network)  # nothing more to take out
    assert list(network.state_dict()) == keys
    parts = cut(Graph(other := network_of(torchvision.models.resnet18), x[:1]), ["layer2"])
    parts.keep_only(other)
    assert {key.split(".")[0] for key in other.state_dict()} == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize("name", ["timm convnext", "timm mobilenet", "with attention"])
def test_keep_only_keeps_parameters_that_are_used_without_their_modules(name):
    make, points = NETWORKS[name]
    network, x = network_of(make), images()
    parts = cut(Graph(network, x[:1]), points[:-1])
    wanted, _ = outputs(network, points[:-1], x)
    before = set(network.state_dict())
    parts.keep_only(network)
    assert set(network.state_dict()) < before
    with torch.no_grad():
        assert torch.equal(run(parts, network, x)[parts.points[-1]], wanted[-1])


@pytest.mark.parametrize("name", ["torchvision resnet18", "timm mobilenet", "with attention"])
def test_a_cut_is_pickled_and_copied_with_another_copy_of_the_network(name):
    (network, graph), x = recorded(name), images()
    parts = cut(graph, NETWORKS[name][1])
    with torch.no_grad():
        wanted = run(parts, network, x)
        other = copy.deepcopy(network)
        for same in (pickle.loads(pickle.dumps(parts)), copy.deepcopy(parts)):
            assert same == parts
            found = run(same, other, x)
            assert all(torch.equal(found[name], value) for name, value in wanted.items())
        for parameter in other.parameters():  # the cut holds no weights
            parameter.zero_()
        assert run(parts, other, x)[parts.points[-1]].abs().sum() == 0
        assert torch.equal(run(parts, network, x)[parts.points[-1]], wanted[parts.points[-1]])
    both = pickle.loads(pickle.dumps((network, parts)))
    assert torch.equal(run(both[1], both[0], x)[parts.points[-1]], wanted[parts.points[-1]])


def test_a_cut_for_one_size_runs_another():
    network = network_of(torchvision.models.resnet18)
    parts = cut(Graph(network, images(1, 64, 64)), ["layer4.1.relu", "layer4"])
    x = images(3, 80, 112)
    wanted, _ = outputs(network, ["layer4"], x)
    with torch.no_grad():
        assert torch.equal(run(parts, network, x)[parts.points[-1]], wanted[0])


def test_a_graph_leaves_the_network_as_it_was():
    network = torchvision.models.resnet18().train()
    network.layer1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    cut(Graph(network, images(1)), ["layer3", "layer4"])
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


class Small(nn.Module):
    """Two convolutions, and what the tests do between."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.register_buffer("size", torch.tensor(2.0))

    def forward(self, x):
        return self.two(self.one(x))


class Branch(Small):
    def forward(self, x):
        return self.one(x) if x.mean() > 0 else self.one(-x)


class Sized(Small):
    def forward(self, x):
        height, width = x.shape[2:]
        return F.interpolate(self.two(self.one(x)), (height // 2, width // 2))


class Constant(Small):
    def forward(self, x):
        return self.two(self.one(x) * self.size + torch.tensor([1.0]))


class Twice(Small):
    def forward(self, x):
        y = self.one(x)
        return self.two(self.two(y) + y)


def test_constants_and_buffers_are_part_of_the_network():
    network, x = Constant().eval(), images(2, 8, 6)
    parts = cut(Graph(network, x[:1]), ["one", "two"])
    with torch.no_grad():
        assert torch.equal(run(parts, network, x)[parts.points[-1]], network(x))


def test_a_module_that_is_called_several_times():
    network, x = Twice().eval(), images(2, 8, 6)
    graph = Graph(network, x[:1])
    assert graph.maps() == ["one", "two", "add", "two_1"]
    parts = cut(graph, ["two", "add", "two_1"])
    with torch.no_grad():
        values = run(parts, network, x)
        first = network.two(network.one(x))
        assert torch.equal(values[parts.points[0]], first)
        assert torch.equal(values[parts.points[1]], first + network.one(x))
        assert torch.equal(values[parts.points[2]], network(x))


def test_a_network_that_looks_at_the_values_cannot_be_followed():
    with pytest.raises(ww.WhatwhereError, match=r"torch\.fx cannot follow Branch: TraceError: .* do not depend on"):
        Graph(Branch(), images(1))


def test_a_number_that_is_needed_on_both_sides():
    graph = Graph(Sized().eval(), images(1, 8, 6))
    with pytest.raises(ww.WhatwhereError, match=r"Sized cannot be cut there: '\w+', which is needed .* is no tensor"):
        cut(graph, ["one", "interpolate"])
    assert len(cut(graph, ["one", "two"]).between) == 1


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "name at least one map to cut at"),
        (["layer4.1.rellu"], r"ResNet has no map 'layer4\.1\.rellu'.*; did you mean 'layer4\.1\.relu"),
        (["nothing"], r"ResNet has no map 'nothing'.*Its last maps are .*layer4\.1\.relu_1$"),
        (["fc"], r"'fc' is no feature map \(N, C, H, W\) with several positions: it is \(1, 1000\)"),
        (["layer4", "avgpool"], r"'avgpool' is no feature map .*: it is \(1, 512, 1, 1\)"),
        (["layer4.1", "layer4.1.relu"], "the points must be in the order of the network: 'layer4.1.relu' is not"),
        (["layer4", "layer4.1"], r"in the order of the network: 'layer4\.1' is not made from 'layer4'"),
        (["layer2", "layer2"], "in the order of the network"),
        (["layer4.0.downsample", "layer4.0.bn2"], r"'layer4\.0\.bn2' is not made from 'layer4\.0\.downsample'"),
    ],
)  # fmt: skip
def test_wrong_points(points, message):
    with pytest.raises(ww.WhatwhereError, match=message):
        cut(recorded("torchvision resnet18")[1], points)


def test_last_maps():
    resnet_graph = recorded("torchvision resnet18")[1]
    assert last_maps(resnet_graph, 1) == ["layer4.1.relu_1"]
    assert last_maps(resnet_graph, 3) == ["layer4.0.relu_1", "layer4.1.relu", "layer4.1.relu_1"]
    with pytest.raises(ww.WhatwhereError, match=r"ResNet has 17 maps of activations, not 40"):
        last_maps(resnet_graph, 40)
    for name in ("timm efficientnet", "timm mobilenet", "own mobilenet"):
        graph = recorded(name)[1]
        points = last_maps(graph, 3)
        assert len(cut(graph, points).between) == 2


def test_a_network_without_maps():
    with pytest.raises(ww.WhatwhereError, match="Sequential has no feature maps"):
        last_maps(Graph(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), images(1, 8, 8)), 1)
