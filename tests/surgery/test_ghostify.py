"""Convolutions of a network replaced by ghost convolutions, fitted to what they made, and put back."""

import copy
import pickle

import pytest
import torch
import torchvision
from torch import nn

import whatwhere as ww
from whatwhere.graph.forward import pin_forward
from whatwhere.graph.trace import trace
from whatwhere.layers.ghost import GhostModule
from whatwhere.layers.ghost_conv import GhostConv
from whatwhere.surgery.ghost_fit import _normalised


def settle(model, x):
    """Make a network like a trained one: filters that are smooth and alike, statistics that are those of ``x``."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                w = module.weight
                few = torch.randn(max(1, len(w) // 3), *w.shape[1:], generator=generator, dtype=w.dtype)
                mix = torch.randn(len(w), len(few), generator=generator, dtype=w.dtype)
                w.copy_(0.3 * w + 0.3 * torch.einsum("ij,jchw->ichw", mix, few) / w[0].numel() ** 0.5)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None
                module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
                module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
        model.train()(x)
    return model.eval()


def images(count=24, size=16, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, size // 4, size // 4, generator=generator)
    fine = torch.randn(count, 3, size, size, generator=generator)
    return (nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") + 0.2 * fine).to(dtype)


def small(name="small-resnet", width=(8, 12, 16), **options):
    torch.manual_seed(0)
    return settle(ww.build(ww.ModelConfig(name, classes=5, width=width, **options)), images())


def ghostify(model, *args, **options):
    return ww.ghostify(model, *args, **{"seconds": 0, **options})


def snapshot(model):
    """Everything of a network that a careless function could change."""
    return (
        [(n, id(m), m.training, tuple(m._forward_hooks.values())) for n, m in model.named_modules()],
        [
            (n, id(t), t.requires_grad, t.detach().clone())
            for n, t in (*model.named_parameters(), *model.named_buffers())
        ],
    )


def same(one, other):
    return (
        one[0] == other[0]
        and [t[:3] for t in one[1]] == [t[:3] for t in other[1]]
        and all(
            torch.equal(torch.nan_to_num(a[3]), torch.nan_to_num(b[3])) for a, b in zip(one[1], other[1], strict=True)
        )
    )


def ghosts(model):
    return [name for name, module in model.named_modules() if isinstance(module, GhostConv)]


class Plain(nn.Module):
    """Convolutions one after the other, some norms, and class scores."""

    def __init__(self, *layers, channels=6, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.layers(self.stem(x)).mean((2, 3)))


# What is exact


@pytest.mark.parametrize("ratio", [2, 3])
@pytest.mark.parametrize("with_data", [True, False])
def test_maps_that_are_scaled_copies_are_made_without_loss(ratio, with_data):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, 3, padding=1)
    with torch.no_grad():
        few = conv.weight[: 6 // ratio].clone()
        number = torch.arange(6) % len(few)
        conv.weight.copy_(few[number] * torch.tensor([1.0, -0.7, 0.5, 0.9, 0.6, -0.8])[:, None, None, None])
    model = Plain(conv, nn.BatchNorm2d(6), nn.ReLU()).eval()
    x = images()
    model.layers[1].momentum = None
    model.train()(x)
    before = model.eval()(x).detach()
    report = ghostify(model, ratio, data=x if with_data else None, example=x)
    assert [site.module for site in report.sites] == ["layers.0"]
    assert report.sites[0].unexplained < 1e-5
    assert report.fitted_to == ("maps" if with_data else "weights")
    # the fit's ridge, 1e-4 of the variance, is all that is lost
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-3 * float(before.abs().max()))


@pytest.mark.parametrize("ratio", [2, 3])
def test_maps_that_are_depthwise_convolutions_of_others_are_made_without_loss(ratio):
    """5×5 filters that are 3×3 filters of others: f of few maps, and 3×3 of these."""
    torch.manual_seed(0)
    m = 6 // ratio
    core = torch.randn(m, 6, 3, 3) / 7
    cheap = torch.randn(6 - m, 3, 3) / 3
    full = torch.zeros(6, 6, 5, 5)
    full[:m, :, 1:4, 1:4] = core
    for number in range(6 - m):
        padded = nn.functional.pad(core[number % m], (2,) * 4)
        full[m + number] = sum(
            cheap[number, a, b] * padded[:, 2 - a : 7 - a, 2 - b : 7 - b] for a in range(3) for b in range(3)
        )
    full = full[torch.randperm(6)]
    conv = nn.Conv2d(6, 6, 5, padding=2, bias=False)
    with torch.no_grad():
        conv.weight.copy_(full)
    model = Plain(conv, nn.ReLU()).eval()
    # maps are 0 at the border, so that what lies beyond does not matter
    with torch.no_grad():
        model.stem.bias.zero_()
    x = torch.zeros(32, 3, 20, 20)
    x[:, :, 5:15, 5:15] = torch.randn(32, 3, 10, 10)
    before = model(x).detach()
    for data in (x, None):
        new = copy.deepcopy(model)
        report = ghostify(new, ratio, data=data, example=x)
        assert report.sites[0].unexplained < 1e-3
        torch.testing.assert_close(new(x), before, rtol=0, atol=5e-3 * float(before.abs().max()))


def test_a_ghost_has_the_filters_of_the_maps_that_it_keeps():
    model = small()
    old = copy.deepcopy(model)
    ghostify(model, data=images(), at="stages.0.0.conv1")
    ghost, conv = model.stages[0][0].conv1, old.stages[0][0].conv1
    kept = [i for i, place in enumerate(ghost.order.tolist()) if place < 4]
    assert torch.equal(ghost.conv1.weight, conv.weight[kept])
    assert ghost.order.sort().values.tolist() == list(range(8))
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(ghost(x)[:, kept], conv(x)[:, kept])


# What is nearer


@pytest.mark.parametrize("name", ["small-resnet", "small-vgg", "small-mobilenet"])
def test_a_fit_is_nearer_than_a_random_start(name):
    x = images(64)
    want = small(name)(x[:16]).detach()
    missed = {}
    for start, data in (("maps", x), ("weights", None), ("random", None)):
        model = small(name)
        report = ghostify(model, data=data, start="random" if start == "random" else "fit", example=x)
        assert len(report.sites) >= 4
        assert report.change > 0
        missed[start] = float((model(x[:16]).detach() - want).norm() / want.norm())
    assert missed["maps"] < missed["weights"]
    assert missed["maps"] < missed["random"] * (1 if name == "small-mobilenet" else 0.7)


def test_a_refit_makes_up_for_what_changed_before():
    """The map behind the second convolution is nearer to the old one than if both had been fitted by themselves."""
    x = images(64)

    def seen(model):
        with torch.no_grad():
            block = model.stages[0][0]
            inner = block.relu1(block.bn1(block.conv1(model.stem(x))))
            maps = block.conv2(inner)
            return maps - maps.mean((0, 2, 3), keepdim=True)  # the constant goes in the norm that follows

    names = ["stages.0.0.conv1", "stages.0.0.conv2"]
    want = seen(small())
    together, apart = small(), small()
    ghostify(together, data=x, at=names)
    for name in names:
        one = small()
        ghostify(one, data=x, at=name)
        setattr(apart.stages[0][0], name[-5:], one.get_submodule(name))
        if name == names[0]:
            apart.stages[0][0].bn1.load_state_dict(one.stages[0][0].bn1.state_dict())
    assert torch.equal(together.stages[0][0].conv1.conv1.weight, apart.stages[0][0].conv1.conv1.weight)
    error = {key: float((seen(model) - want).norm()) for key, model in (("apart", apart), ("together", together))}
    assert error["together"] < 0.97 * error["apart"]


def test_a_normalisation_behind_is_seen():
    """In evaluation mode too, where a batch normalisation makes more than one value."""
    model = Plain(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3))
    record = trace(model, images(1))
    assert [_normalised(record, f"layers.{number}") for number in (0, 2, 4)] == [True, False, False]


@pytest.mark.parametrize("name", ["small-vgg", "small-mobilenet"])
def test_batch_normalisations_behind_give_maps_of_the_same_mean_and_variance_as_before(name):
    model, x = small(name), images(40)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def outputs():
        taken = {}
        norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
        handles = [
            norm.register_forward_hook(lambda _, __, y, key=key: taken.__setitem__(key, y.detach().double()))
            for key, norm in norms.items()
        ]
        with torch.no_grad():
            model(x)
        for handle in handles:
            handle.remove()
        return norms, taken

    _, old = outputs()
    ghostify(model, data=[x[:15], x[15:]], at="stages.[12].*")
    norms, new = outputs()
    for key, norm in norms.items():
        if key.startswith(("stages.0", "stem")):
            assert torch.equal(norm.running_mean, before[f"{key}.running_mean"])
            assert torch.equal(norm.running_var, before[f"{key}.running_var"])
        else:
            assert not torch.equal(norm.running_mean, before[f"{key}.running_mean"])
            for moment in (torch.mean, torch.var):
                want, got = moment(old[key], (0, 2, 3)), moment(new[key], (0, 2, 3))
                assert torch.allclose(got, want, rtol=1e-3, atol=1e-4), key
        assert torch.equal(norm.num_batches_tracked, before[f"{key}.num_batches_tracked"])


def test_keep_leaves_what_would_lose_more():
    x = images(40)
    everything = ghostify(small(), data=x)
    losses = sorted(site.unexplained for site in everything.sites)
    bound = losses[len(losses) // 2]
    for data in (x, None):
        model = small()
        old = dict(model.named_modules())
        report = ghostify(model, data=data, keep=bound if data is not None else 0.3, example=x)
        assert all(site.unexplained <= bound or data is None for site in report.sites)
        lost = {name: why for name, why in report.left.items() if "variance" in why}
        assert lost
        assert len(lost) + len(report.sites) == len(everything.sites)
        assert all(model.get_submodule(name) is old[name] for name in lost)
        assert ghosts(model) == [site.module for site in report.sites] or data is not None
        assert all(name in str(report) for name in lost)
    model = small()
    before = snapshot(model)
    report = ghostify(model, data=x, keep=0)
    assert report.sites == []
    assert same(snapshot(model), before)
    assert (report.change, report.multiply_adds) == (0, (0, 0))
    assert "0 sites" in str(report)


# Undoing it


@pytest.mark.parametrize("start", ["maps", "weights", "random"])
def test_unghostify_gives_everything_back(start):
    model, x = small("small-mobilenet"), images()
    model.train()
    model.stages[0].eval()
    model.stages[1][0].expand[0].weight.requires_grad_(False)
    before = snapshot(model)
    want = copy.deepcopy(model).eval()(x)
    options = {"data": x} if start == "maps" else {"start": "random" if start == "random" else "fit", "example": x}
    count = len(ghostify(model, **options).sites)
    assert model.training
    assert not any(m.training for m in model.stages[0].modules())
    assert all(m.training for m in model.stages[1].modules())
    assert not any(p.requires_grad for p in model.stages[1][0].expand[0].parameters())
    assert all(p.requires_grad for p in model.stages[1][1].expand[0].parameters())
    assert all(p.grad is None for p in model.parameters())
    assert ww.unghostify(model) == count == 12
    assert same(snapshot(model), before)
    assert torch.equal(model.eval()(x), want)
    assert ww.unghostify(model) == 0


def test_unghostify_after_two_rounds_a_copy_and_another_dtype():
    model, x = small(), images()
    want = {key: value.clone() for key, value in model.state_dict().items()}
    ghostify(model, data=x, at="stages.2.*")
    ghostify(model, 3, data=x, at="stages.[01].*")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        ww.unghostify(twin)
        assert all(torch.equal(value, want[key]) for key, value in twin.state_dict().items())
    assert len(ghosts(model)) == 8
    model.double()
    ww.unghostify(model)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert list(model.state_dict()) == list(want)


def test_unghostify_without_the_old_convolutions():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), GhostConv(4, 4))
    with pytest.raises(ww.WhatwhereError, match=r"that was at 1 is not there"):
        ww.unghostify(model)


# How a network is left


def test_keys_parameters_and_the_report():
    model, x = small(), images()
    keys = list(model.state_dict())
    report = ghostify(model, data=x, on_site=(ticks := []).append)
    assert ticks == list(range(len(report.sites)))[::-1]
    made = set(ghosts(model))
    assert made == {site.module for site in report.sites}
    assert report.left == {"stem.0": "it takes the network's input"}
    parts = ("order", "conv1.weight", "conv2.weight", "conv2.bias")
    want = [k for key in keys for k in ([f"{key[:-7]}.{p}" for p in parts] if key[:-7] in made else [key])]
    assert list(model.state_dict()) == want
    assert report.parameters[1] == sum(p.numel() for p in model.parameters()) < report.parameters[0]
    for words in ("stages.0.0.conv1", "8 → 8, 3×3", "8 sites", "stem.0", "unexplained"):
        assert words in str(report)
    timed = ghostify(small(), data=x, at="stages.0.*", seconds=0.01)
    assert timed.time is not None
    assert all(site.time is not None and site.batch == 2 for site in timed.sites)
    assert "quartiles" in str(timed)


def test_a_ghostified_network_trains():
    model, x = small(), images()
    ghostify(model, data=x)
    model.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("change", [lambda m: m.double(), lambda m: m.to(memory_format=torch.channels_last)])
def test_other_dtypes_and_memory_formats(change):
    model = change(small())
    x = images(dtype=next(model.parameters()).dtype)
    want = model(x).detach()
    report = ghostify(model, data=x)
    assert {p.dtype for p in model.parameters()} == {x.dtype}
    assert report.change == pytest.approx(
        float((model(x[:2]).detach() - want[:2]).abs().max() / want[:2].abs().max()), rel=1e-3
    )
    plain = small()
    assert ghostify(plain, data=images()).change == pytest.approx(report.change, rel=0.02)
    ww.unghostify(model)
    torch.testing.assert_close(model(x), want, rtol=1e-5, atol=1e-5)


def test_half_precision_by_the_weights():
    model = small().bfloat16()
    x = images(dtype=torch.bfloat16)
    report = ghostify(model, data=x)
    assert report.change < 1
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    model(x)


def test_the_same_data_gives_the_same_network_whatever_the_seed():
    found = []
    for seed in (0, 1):
        model = small()
        torch.manual_seed(seed)
        ghostify(model, data=images())
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(seed)))
        found.append(model.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_padding_stride_and_dilation_are_refitted_too():
    """Every convolution is refitted from patches: they must be what it sees."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, padding="same", padding_mode="reflect"),
        nn.ReLU(),
        nn.Conv2d(8, 9, (3, 1), stride=(2, 1), padding=(1, 0), padding_mode="circular"),
        nn.BatchNorm2d(9),
        nn.ReLU(),
        nn.Conv2d(9, 10, 3, dilation=2, padding=2, bias=False),
        nn.Conv2d(10, 8, 3, padding="valid", padding_mode="replicate"),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    x = images(64, 20)
    settle(model, x)
    want = model(x)
    report = ghostify(model, data=x)
    assert [site.module for site in report.sites] == ["1", "3", "6", "7"]
    other = copy.deepcopy(model)
    ww.unghostify(other)
    ghostify(other, start="random", example=x)
    assert (model(x) - want).norm() < 0.7 * (other(x) - want).norm()


# What is left alone, and what is an error


class Twice(Plain):
    def forward(self, x):
        x = self.stem(x)
        return self.head(self.layers(self.layers(x)).mean((2, 3)))


class ClassMap(nn.Module):
    """Class scores from a map of them, as in SqueezeNet and FCN."""

    def __init__(self, end):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.top = nn.Conv2d(6, 4, 1)
        self.end = end

    def forward(self, x):
        return self.end(self.top(self.norm(self.body(self.stem(x)))))


def hooked(conv):
    conv.register_forward_hook(lambda *_: None)
    return conv


def attended(conv):
    model = Plain(conv)
    ww.insert(model, "se", at="layers.0", example=images()[:1])
    return model


def moved(conv):
    pin_forward(conv)
    conv.forward = lambda x: nn.Conv2d.forward(conv, x)
    return conv


def shared():
    conv = nn.Conv2d(6, 6, 3, padding=1)
    return Plain(conv, nn.ReLU(), conv)


def tied():
    model = Plain(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
    model.layers[2].weight = model.layers[0].weight
    return model


class Mine(nn.Conv2d):
    """Perhaps with standardised weights."""


LEFT = {
    "groups": (lambda: Plain(nn.Conv2d(6, 6, 3, groups=2)), "layers.0", "it has 2 groups, and cheap already"),
    "depthwise": (lambda: Plain(nn.Conv2d(6, 6, 3, groups=6)), "layers.0", "it is depthwise"),
    "one map": (lambda: Plain(nn.Conv2d(6, 1, 1), channels=6), "layers.0", "1 maps, fewer than ratio=2"),
    "own class": (lambda: Plain(Mine(6, 6, 3)), "layers.0", "it is a Mine"),
    "hooks": (lambda: Plain(hooked(nn.Conv2d(6, 6, 3))), "layers.0", "it has hooks"),
    "attention": (lambda: attended(nn.Conv2d(6, 6, 3)), "layers.0", "ghostify first, then insert"),
    "forward": (lambda: Plain(moved(nn.Conv2d(6, 6, 3))), "layers.0", "replaced its forward"),
    "shared": (shared, "layers.0", "it has several names"),
    "tied": (tied, "layers.2", "shares its weights"),
    "twice": (lambda: Twice(nn.Conv2d(6, 6, 3)), "layers.0", "it runs 2 times"),
    "input": (lambda: Plain(nn.ReLU()), "stem", "takes the network's input"),
    "output": (lambda: ClassMap(nn.Identity()), "top", "it makes the network's output"),
    "resized": (lambda: ClassMap(nn.Upsample(scale_factor=2, mode="bilinear")), "top", "makes the network's output"),
    "pooled": (
        lambda: ClassMap(nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())),
        "top",
        "it makes the network's output",
    ),
    "one position": (
        lambda: Plain(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1)),
        "layers.1",
        "its maps have one position",
    ),
    "inside": (lambda: Plain(GhostModule(6, 6)), "layers.0.primary_conv.0", "an attention or a ghost module"),
}


@pytest.mark.parametrize(("make", "name", "why"), LEFT.values(), ids=LEFT)
def test_what_is_left_alone(make, name, why):
    torch.manual_seed(0)
    model = make()
    if name == "layers.0" and model.layers[0].out_channels == 1:
        model.head = nn.Linear(1, 3)
    before = snapshot(model)
    with pytest.raises(ww.WhatwhereError, match=f"{name} cannot be replaced.*{why}"):
        ghostify(model, at=name, data=images())
    with pytest.raises(ww.WhatwhereError, match=f"no convolution of this .* can be replaced.*{why}"):
        ghostify(model, at=f"{name[:-1]}[{name[-1]}]", data=images())
    assert same(snapshot(model), before)


def test_a_report_says_what_was_left_alone():
    depthwise, grouped = nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 3, groups=2)
    model = Plain(depthwise, nn.Conv2d(6, 6, 1), grouped, nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1))
    report = ghostify(model, data=images())
    assert [site.module for site in report.sites] == ["layers.1"]
    assert report.left == {
        "stem": "it takes the network's input",
        "layers.0": "it is depthwise, and cheap already",
        "layers.2": "it has 2 groups, and cheap already",
        "layers.4": "its maps have one position",
    }


def test_a_higher_ratio_than_maps():
    model = Plain(nn.Conv2d(6, 12, 3), nn.Conv2d(12, 6, 3))
    assert ghostify(model, 8, example=images()[:1]).left["layers.1"] == "it makes 6 maps, fewer than ratio=8"
    with pytest.raises(ww.WhatwhereError, match=r"layers\.1 cannot be replaced.*6 maps"):
        ghostify(model, 8, at=["layers.1"], example=images()[:1])


def spoil(place):
    model = small()
    with torch.no_grad():
        model.get_parameter(place).view(-1)[0] = torch.nan
    return model


X = images()
ERRORS = {
    "ratio 1": (small, {"ratio": 1}, "at least 2, got 1"),
    "ratio 0": (small, {"ratio": 0}, "at least 2, got 0"),
    "ratio True": (small, {"ratio": True}, "at least 2, got True"),
    "ratio 2.5": (small, {"ratio": 2.5}, "at least 2, got 2.5"),
    "ratio above all": (small, {"ratio": 99, "data": X}, "fewer than ratio=99"),
    "even kernel": (small, {"cheap_kernel_size": 4}, "must be odd"),
    "start": (small, {"start": "ranom"}, "did you mean 'random'"),
    "random with data": (small, {"start": "random", "data": X}, "fits nothing"),
    "random with keep": (small, {"start": "random", "keep": 0.1}, "fits nothing"),
    "keep": (small, {"data": X, "keep": 1.5}, "share from 0 to 1"),
    "keep nan": (small, {"data": X, "keep": float("nan")}, "share from 0 to 1"),
    "keep word": (small, {"data": X, "keep": "most"}, "share from 0 to 1"),
    "no match": (small, {"data": X, "at": "stage.*"}, "matches no convolution.*There are: stem.0"),
    "one of two": (small, {"data": X, "at": ["stages.*", "layer"]}, "'layer' matches no convolution"),
    "at nothing": (small, {"data": X, "at": []}, r"at=\[\]"),
    "at number": (small, {"data": X, "at": 3}, "at=3"),
    "at numbers": (small, {"data": X, "at": [3]}, r"at=\[3\]"),
    "empty data": (small, {"data": []}, "has 0 images"),
    "empty tensor": (small, {"data": X[:0]}, "has 0 images"),
    "few images": (small, {"data": X[:15]}, "has 15 images, and a fit needs at least 16"),
    "no images": (small, {"data": 3}, "data is a int"),
    "whole numbers": (small, {"data": (255 * X).byte()}, "floating tensors"),
    "several shapes": (small, {"data": [X, X[:, :, 1:]]}, "several shapes"),
    "channels": (small, {"data": X[:, :2]}, "failed on"),
    "dtype": (small, {"data": X.double()}, "failed on"),
    "other size than the example": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 12 * 12, 3)
        ),
        {"data": images(size=20), "example": X[:1]},
        r"failed on the 24 images of data, \(3, 20, 20\)",
    ),
    "too small": (lambda: Plain(nn.Conv2d(6, 6, 15)), {"data": images(size=8)}, "failed on"),
    "too few positions": (
        lambda: Plain(nn.MaxPool2d(8), nn.Conv2d(6, 6, 2, stride=2, padding=(0, 1))),
        {"data": X[:16], "cheap_kernel_size": 5},
        "positions for 26 numbers",
    ),
    "nan images": (small, {"data": torch.where(torch.arange(24).view(-1, 1, 1, 1) == 20, torch.nan, X)}, "NaN"),
    "nan weights": (lambda: spoil("stages.1.0.conv1.weight"), {"data": X}, "NaN"),
    "nan weights without data": (lambda: spoil("stages.1.0.conv1.weight"), {"example": X}, "NaN"),
    "nan before": (lambda: spoil("stem.0.weight"), {"data": X}, "NaN"),
    "compiled": (lambda: torch.compile(small(), backend="eager"), {"data": X}, "ghostify first"),
    "wrapped": (lambda: nn.DataParallel(small()), {"data": X}, "ghostify on the plain model"),
    "meta": (lambda: small().to("meta"), {"data": X}, "meta device"),
    "no convolutions": (lambda: nn.Linear(3, 3), {"example": torch.zeros(1, 3)}, "matches no convolution"),
}


@pytest.mark.parametrize(("make", "options", "says"), ERRORS.values(), ids=ERRORS)
def test_errors_leave_the_network_as_it_was(make, options, says):
    model = make()
    before = snapshot(model) if not next(model.parameters()).is_meta else None
    with pytest.raises(ww.WhatwhereError, match=says):
        ghostify(model, **options)
    if before is not None:
        assert same(snapshot(model), before)


def test_a_callers_own_error_leaves_the_network_as_it_was():
    model = small()
    before = snapshot(model)

    def stop(left):
        if left == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ghostify(model, data=X, on_site=stop)
    assert same(snapshot(model), before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "densenet121", "googlenet", "regnet_x_400mf"])
def test_torchvision(name):
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, num_classes=7, **options).eval()
    x = images(32, 64)
    want = model(x)
    report = ghostify(model, data=x)
    assert report.sites
    assert model(x).isfinite().all()
    if name == "squeezenet1_1":
        assert report.left["classifier.1"] == "it makes the network's output"
    ww.unghostify(model)
    assert torch.equal(model(x), want)


@pytest.mark.slow
def test_the_head_of_a_segmentation_network_stays():
    model = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5).eval()
    report = ghostify(model, start="random", example=images(1, 64))
    assert report.left["classifier.4"] == "it makes the network's output"
    assert "classifier.0" in ghosts(model)


def test_images_without_anything_in_them_leave_finite_weights():
    model = small()
    ghostify(model, data=torch.zeros(20, 3, 16, 16))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    "change", [ww.ghostify, ww.fuse, lambda m: ww.insert(m, "se"), lambda m: ww.replace(m, "se", "cbam")]
)
@pytest.mark.parametrize("model", ["resnet18", torchvision.models.resnet18], ids=["name", "function"])
def test_what_is_no_module_is_said(change, model):
    with pytest.raises(ww.WhatwhereError, match=r"a torch\.nn\.Module is needed, got the (word|function)"):
        change(model)
