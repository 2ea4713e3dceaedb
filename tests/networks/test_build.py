import pytest
import torch

from whatwhere.checkpoints import build
from whatwhere.cost import count_multiply_adds
from whatwhere.errors import WhatwhereError
from whatwhere.networks import ModelConfig, build_plain, narrow, widen
from whatwhere.networks.widths import width_spec
from whatwhere.surgery import attentions

SMALL = ["small-resnet", "small-resnet-32", "small-vgg", "small-mobilenet"]
CIFAR = {"resnet-20": 269_722, "resnet-56": 853_018}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("small-resnet", ["stages.0.0.bn2", "stages.1.0.bn2", "stages.2.0.bn2"]),
        ("small-resnet-32", ["stages.0.0.bn2", "stages.1.0.bn2", "stages.2.0.bn2"]),
        ("small-vgg", ["stages.0.2", "stages.1.6", "stages.2.6"]),
        (
            "small-mobilenet",
            ["stages.0.0.project.1", "stages.0.1.project.1", "stages.1.1.project.1", "stages.2.1.project.1"],
        ),
    ],
)
def test_small_networks(name, places):
    model = build(ModelConfig(name, "se:reduction=4", classes=7), size=48)
    assert list(attentions(model)) == places
    scores = model(torch.rand(2, 3, 48, 48))
    assert scores.shape == (2, 7)
    scores.logsumexp(1).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert count(build(ModelConfig(name))) < 200_000


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_learn(name):
    """Red images and blue ones: a few steps are enough."""
    torch.manual_seed(0)
    model = build(ModelConfig(name, classes=2), size=16)
    images, labels = torch.rand(32, 3, 16, 16), torch.arange(32) % 2
    images[:, 0] += labels.view(-1, 1, 1)
    images[:, 2] += 1 - labels.view(-1, 1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(12):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.2


def test_any_timm_network_with_attention():
    pytest.importorskip("timm")
    model = build(ModelConfig("mobilenetv3_small_100", "cbam:paper:kernel_size=3", classes=5), size=64)
    assert len(attentions(model)) == 6
    assert not any(attention.identity for attention in attentions(model).values())
    assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig("small-resnt"), "did you mean 'small-resnet'"),
        (ModelConfig("resnet19"), "did you mean 'resnet1"),
        (ModelConfig(attention="cbm"), "did you mean 'cbam'"),
        (ModelConfig(classes=0), "at least one"),
        (ModelConfig(width=(8, 16)), "takes 3 positive numbers"),
        (ModelConfig(width=-1.0), "above 0"),
        (ModelConfig("vgg16_bn", width=2.0), "not known how to set the widths of vgg16_bn"),
        (ModelConfig(pretrained=True), "no pretrained weights"),
        (ModelConfig("resnet18", width=2.0, pretrained=True), "leave one of them out"),
    ],
)
def test_wrong_configs(config, message):
    pytest.importorskip("timm")
    with pytest.raises(WhatwhereError, match=message):
        build(config)


def test_weights_that_do_not_come_are_a_clear_error(monkeypatch):
    timm = pytest.importorskip("timm")

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WhatwhereError, match=r"weights of resnet18 could not be loaded.*no route to host"):
        build(ModelConfig("resnet18", pretrained=True))


def test_weights_of_a_file_to_start_from(tmp_path):
    """All of them but those of a last layer for other classes; attention beside them starts as always."""
    trained = build(ModelConfig("small-resnet", classes=7))
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "trained.pth")
    for classes in (7, 5):
        config = ModelConfig("small-resnet", "cbam", classes, weights=str(tmp_path / "trained.pth"))
        assert config.trained
        assert not config.untrained().trained
        model = build(config)
        there = model.state_dict()
        for key, value in trained.state_dict().items():
            assert torch.equal(there[key], value) is (classes == 7 or not key.startswith("head."))
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "timm.pth")
    model = build(ModelConfig("mobilenetv3_small_050", "se", 5, weights=str(tmp_path / "timm.pth")), 64)
    assert model.classifier.out_features == 5


def test_weights_of_another_network(tmp_path):
    torch.save(build(ModelConfig("small-resnet")).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(WhatwhereError, match=r"does not hold the weights of small-vgg:\n.*missing in the file"):
        build(ModelConfig("small-vgg", weights=str(tmp_path / "resnet.pth")))
    with pytest.raises(WhatwhereError, match="of another shape"):
        build(ModelConfig("small-resnet", width=2.0, weights=str(tmp_path / "resnet.pth")))
    with pytest.raises(WhatwhereError, match=r"nothing\.pth"):
        build(ModelConfig("small-resnet", weights=str(tmp_path / "nothing.pth")))
    with pytest.raises(WhatwhereError, match="choose one of the two"):
        ModelConfig("resnet18", pretrained=True, weights="resnet18.pth")


def test_width_sets_the_stages():
    by_factor, by_hand = build(ModelConfig(width=1.5)), build(ModelConfig(width=(24, 48, 96)))
    assert [p.shape for p in by_factor.parameters()] == [p.shape for p in by_hand.parameters()]
    assert by_hand.head.in_features == 96


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("attention", ["cbam", "bam"])
def test_widen_reaches_the_cost_of_the_attention_and_hardly_more(name, attention):
    config = ModelConfig(name, attention)
    needed = count(build(config))
    wide = widen(config, needed, 48)
    assert wide.attention == "none"
    reached = count(build(wide))
    assert reached >= needed
    assert all(
        width % 8 == 0 and width >= base for width, base in zip(wide.width or (16, 32, 64), (16, 32, 64), strict=True)
    )
    others = [(a, b, c) for a in range(16, 41, 8) for b in range(32, 57, 8) for c in range(64, 129, 8)]
    counts = [width_spec(name).parameters(10, widths) for widths in others]
    close = [w for w, n in zip(others, counts, strict=True) if needed <= n <= 1.15 * needed]
    work = {w: width_spec(name).multiply_adds(10, w, 48) for w in close or [others[counts.index(reached)]]}
    assert work[wide.width or (16, 32, 64)] == min(work.values())


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilenetv3_small_100",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "resnext50_32x4d", "convnext_atto")),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("densenet121", "efficientnet_b0", "tf_efficientnet_lite0")
        ),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("mobilenetv1_100", "mobilenetv2_050", "mobilenetv3_large_100")
        ),
    ],
)
def test_widen_of_timm_networks(name):
    pytest.importorskip("timm")
    plain = count(build(ModelConfig(name)))
    needed = round(plain * 1.08)
    wide = widen(ModelConfig(name, "cbam"), needed, 64)
    model = build(wide)
    assert needed <= count(model) < plain * 1.35
    assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 10)


def test_widen_knows_its_limits():
    pytest.importorskip("timm")
    assert widen(ModelConfig("vgg16_bn"), 10**9, 64) is None
    assert widen(ModelConfig("small-resnet"), 10**9, 48) is None
    assert widen(ModelConfig("small-resnet", "se"), 10, 48) == ModelConfig("small-resnet")


def test_widen_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    widen(ModelConfig("small-mobilenet"), 90_000, 48)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_gives_a_plain_and_an_attended_network_the_same_weights():
    weights = []
    for attention in ("none", "cbam"):
        torch.manual_seed(3)
        weights.append(build(ModelConfig("small-resnet", attention)).state_dict())
    assert all(torch.equal(weights[1][key], value) for key, value in weights[0].items())


@pytest.mark.parametrize("name", ["small-resnet", "small-mobilenet", "densenet121"])
def test_a_seed_gives_a_wider_network_the_same_first_weights_in_the_channels_that_both_have(name):
    config = ModelConfig(name, classes=10)
    wider = widen(config, at_least=1.1 * count(build_plain(config)))
    torch.manual_seed(3)
    plain = dict(build_plain(config).named_parameters())
    torch.manual_seed(3)
    wide = dict(build_plain(wider).named_parameters())
    grown = [key for key in plain if plain[key].dim() > 1 and plain[key].shape != wide[key].shape]
    assert grown
    for key in plain:
        if plain[key].dim() > 1:
            shared = wide[key][tuple(map(slice, plain[key].shape))]
            scale = (shared / plain[key]).median()
            torch.testing.assert_close(shared, scale * plain[key])
            assert (scale == 1) == (key not in grown)
    for key in grown:  # the new channels have weights of their own, with the spread of the wider network's own start
        assert len(wide[key].flatten().unique()) > plain[key].numel()
        torch.manual_seed(4)
        torch.testing.assert_close(
            wide[key].std(), dict(build_plain(wider).named_parameters())[key].std(), rtol=0.2, atol=0
        )


@pytest.mark.parametrize("name", CIFAR)
def test_the_resnets_for_cifar_have_the_parameters_of_the_papers(name):
    """The paper's shortcuts take no parameters where the shape changes; here they are 1×1 convolutions with norms."""
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert count(build_plain(ModelConfig(name, classes=10))) == CIFAR[name] + shortcuts
    sites = attentions(build(ModelConfig(name, "cbam"), size=32))
    assert len(sites) == {"resnet-20": 9, "resnet-56": 27}[name]


@pytest.mark.parametrize("name", ["small-resnet-32", "small-vgg", "small-mobilenet", "ghostnet"])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_narrow_has_the_multiply_adds_that_are_asked_for(name, share):
    config = ModelConfig(name, attention="se", ghost="2")
    whole = count_multiply_adds(build_plain(ModelConfig(name)), (3, 32, 32))
    found = narrow(config, round(share * whole), size=32)
    assert (found.attention, found.ghost) == ("none", "none")
    got = count_multiply_adds(build_plain(found), (3, 32, 32))
    assert got == pytest.approx(share * whole, rel=0.06)


def test_narrow_knows_its_limits():
    assert narrow(ModelConfig("small-vgg"), 10**12) is None  # wider than it is
    assert narrow(ModelConfig("small-vgg"), 1000) is None  # narrower than a quarter
    pytest.importorskip("timm")
    assert narrow(ModelConfig("vgg11"), 10**8) is None  # no way to set its widths is known


@pytest.mark.parametrize(
    ("config", "want"),
    [
        (ModelConfig(), None),
        (ModelConfig(ghost="2"), (2, "random")),
        (ModelConfig(ghost="3:weights"), (3, "weights")),
        (ModelConfig(ghost="2", weights="some.pth"), (2, "maps")),
        (ModelConfig(ghost="2", weights="some.pth").untrained(), (2, "maps")),
        (ModelConfig(ghost="2:random", weights="some.pth").untrained(), (2, "random")),
    ],
)
def test_what_a_config_says_of_ghost_convolutions(config, want):
    assert config.ghost_config == want


@pytest.mark.parametrize("ghost", ["1", "0", "two", "2:", "2:map", "-2", ""])
def test_wrong_ghost_convolutions(ghost):
    with pytest.raises(WhatwhereError, match="must be none, or a ratio from 2"):
        ModelConfig(ghost=ghost)


def test_ghost_convolutions_of_a_network_that_starts_from_weights(tmp_path):
    """They are fitted; without the weights the network has the same keys and shapes, for a checkpoint."""
    torch.manual_seed(0)
    plain = build(ModelConfig("small-vgg", classes=5), size=32).eval()
    torch.save(plain.state_dict(), tmp_path / "weights.pth")
    images = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def distance(start, attention="none"):
        config = ModelConfig("small-vgg", attention, 5, weights=str(tmp_path / "weights.pth"), ghost=f"2:{start}")
        model = build(config, size=32, images=lambda: images).eval()
        again = build(config.untrained(), size=32, images=lambda: images)
        shapes = [{key: t.shape for key, t in m.state_dict().items()} for m in (model, again)]
        assert shapes[0] == shapes[1]
        with torch.no_grad():
            return float((model(images) - plain(images)).norm() / plain(images).norm())

    fitted, by_weights, random = distance("maps"), distance("weights"), distance("random")
    assert fitted < 0.5 * min(by_weights, random)
    assert distance("maps", "cbam") == fitted
    with pytest.raises(WhatwhereError, match="give images="):
        build(ModelConfig("small-vgg", classes=5, weights=str(tmp_path / "weights.pth"), ghost="2"), size=32)
