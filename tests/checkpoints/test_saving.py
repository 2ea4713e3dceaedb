"""A network into a file, and out of it in another process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

import whatwhere as ww
from whatwhere.checkpoints import build
from whatwhere.checkpoints.container import read_tensors, write_tensors
from whatwhere.checkpoints.options import options_of
from whatwhere.layers import Attention, entry
from whatwhere.networks import ModelConfig


def equal(one, other):
    """Whether two networks are the same, bit for bit, with dtypes and training flags."""
    a, b = one.state_dict(), other.state_dict()
    return (
        list(a) == list(b)
        and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)
        and [(n, type(m), m.training) for n, m in one.named_modules()]
        == [(n, type(m), m.training) for n, m in other.named_modules()]
    )


def there_and_back(model, folder, size=32, **options):
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.rand(value.shape) + 0.5) if value.is_floating_point() else value.fill_(3)
    back = ww.load_model(ww.save(model, folder / "m.safetensors", **options))
    assert equal(model, back)
    x = torch.randn(1, 3, size, size).to(next(model.parameters()).dtype)
    with torch.no_grad():
        torch.testing.assert_close(back.eval()(x), model.eval()(x), rtol=0, atol=0)
    return back


@pytest.mark.parametrize(
    ("attention", "options"), [("cbam", {}), ("cbam", {"reduction": 8, "spatial": False}), ("sam", {"kernel_size": 3})]
)
def test_torchvision(attention, options, tmp_path):
    model = torchvision.models.resnet18(num_classes=7)
    ww.insert(model, attention, **options)
    there_and_back(model, tmp_path)


def test_bam_after_stages_in_half_precision(tmp_path):
    model = torchvision.models.resnet18()
    ww.insert(model, "bam", at=["layer1", "layer2", "layer3"], identity=False)
    there_and_back(model.bfloat16(), tmp_path)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "efficientnet_b0", "resnet10t", "edgenext_xx_small"])
def test_timm(name, tmp_path):
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, num_classes=5, in_chans=3)
    ww.insert(model, "se", at="blocks.4.*" if "blocks" in dict(model.named_children()) else None)
    there_and_back(model, tmp_path, size=64)


@pytest.mark.parametrize("name", ["small-resnet", "small-resnet-32", "small-vgg", "small-mobilenet"])
@pytest.mark.parametrize("width", [None, (8, 24, 40)])
def test_small_networks(name, width, tmp_path):
    there_and_back(build(ModelConfig(name, "cbam", 7, width), size=32), tmp_path)


def test_what_cannot_be_found_out_is_said(tmp_path):
    config = ModelConfig("resnet10t", "se", 7, 0.25)
    model = build(config, size=32)
    with pytest.raises(ww.WhatwhereError, match="ModelConfig"):
        ww.save(model, tmp_path / "m.safetensors")
    there_and_back(model, tmp_path, base=config)


def test_options_of_a_builder(tmp_path):
    pytest.importorskip("timm")
    import timm

    options = {"num_classes": 4, "block_args": {"attn_layer": "cbam"}}
    there_and_back(timm.create_model("resnet10t", **options), tmp_path, base="timm:resnet10t", options=options)


def test_flags_ties_and_attention_by_hand(tmp_path):
    model = torchvision.models.resnet18().train()
    model.layer1.append(ww.BAM(64))
    model.layer1[0].conv1.weight = model.layer1[1].conv1.weight
    model.bn1.eval()
    back = there_and_back(model, tmp_path)
    assert back.layer1[0].conv1.weight is back.layer1[1].conv1.weight
    model.train()
    model.bn1.eval()
    back = ww.load_model(ww.save(model, tmp_path / "m.safetensors"))
    assert back.training
    assert not back.bn1.training
    assert back.layer1[2].training


def test_memory_that_is_shared_without_being_the_same(tmp_path):
    model = build(ModelConfig("small-vgg"))
    base = torch.randn(2, *model.head.weight.shape)
    model.head.weight.data = base[1]
    model.head.bias.data = base[1].flatten()[:10]
    back = ww.load_model(ww.save(model, tmp_path / "m.safetensors"))
    assert equal(model, back)


def test_mixed_dtypes(tmp_path):
    model = build(ModelConfig("small-resnet", "cbam"))
    model.half()
    model.stages[0][0].bn1.float()
    assert equal(model, ww.load_model(ww.save(model, tmp_path / "m.safetensors")))


def test_another_process_needs_only_the_file(tmp_path):
    model = build(ModelConfig("small-resnet", "cbam", 4), size=32).eval()
    ww.save(model, tmp_path / "m.safetensors")
    x = torch.randn(2, 3, 32, 32)
    torch.save((x, model(x).detach()), tmp_path / "x.pt")
    code = (
        "import sys, torch, whatwhere as ww; x, y = torch.load(sys.argv[2]); "
        "torch.manual_seed(5); a = torch.rand(1); torch.manual_seed(5);"
        "m = ww.load_model(sys.argv[1]); assert torch.equal(m(x), y); assert torch.equal(torch.rand(1), a); "
        "assert not {'timm', 'torchvision'} & set(sys.modules)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.safetensors", tmp_path / "x.pt"], check=True, env=environment
    )


def test_others_can_read_the_tensors(tmp_path):
    model = build(ModelConfig("small-resnet", "cbam"))
    tensors = load_file(ww.save(model, tmp_path / "m.safetensors"))
    assert tensors.keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", ww.names())
@pytest.mark.parametrize("channels", [1, 24, 96])
def test_options_of_every_attention_are_found(name, channels):
    channels = max(channels, entry(name).min_channels)
    channels += -channels % entry(name).channel_divisor
    for options in ({}, {"identity": True}):
        made = ww.create(name, channels, **options)
        found = options_of(made)
        assert found.get("identity", False) == options.get("identity", False)
        again = ww.create(name, channels, **found)
        assert repr(again) == repr(made)
        assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in made.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cbam", {"reduction": 4, "kernel_size": 3, "pools": ("avg", "lse"), "spatial_pools": ("avg",), "bias": False}),
        ("cbam", {"spatial_pools": ("conv",), "order": "parallel", "gate": "hard_sigmoid", "identity": True}),
        ("cbam", {"channel": False, "spatial_pools": ("avg", "max")}),
        ("bam", {"dilation": 2, "depth": 3, "combine": "sum", "reduction": 6}),
        ("se", {"reduction": 96, "bias": False, "gate": "hard_sigmoid"}),
        ("sam", {"kernel_size": 19}),
    ],
)
def test_options_that_were_chosen_are_found(name, options):
    assert options_of(ww.create(name, 96, **options)) == options


def test_a_changed_attention_has_no_options():
    attention = ww.create("se", 16)
    attention.mlp.fc1 = nn.Linear(16, 5)
    attention.mlp.fc2 = nn.Linear(7, 16)
    with pytest.raises(ww.WhatwhereError, match="changed after it was made"):
        options_of(attention)


class Strange(Attention):
    """Not registered."""


def wrong_head(model):
    model.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 3))


def other_activation(model):
    model.layer2[0].relu = nn.SiLU()


def replaced_forward(model):
    model.layer2[0].forward = lambda x: x


def unregistered(model):
    model.layer1.append(Strange(64))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (wrong_head, "base="),
        (other_activation, "layer2.0.relu: SiLU and not ReLU"),
        (replaced_forward, "forward was replaced"),
        (unregistered, "no registered name"),
        (lambda model: model.to("meta"), "meta device"),
    ],
)
def test_what_could_not_be_built_again_is_not_saved(change, reason, tmp_path):
    model = torchvision.models.resnet18()
    change(model)
    with pytest.raises(ww.WhatwhereError, match=reason):
        ww.save(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("base", "options", "reason"),
    [
        ("torchvision:resnet34", {}, "is not torchvision:resnet34"),
        ("torchvison:resnet18", {}, "did you mean 'torchvision'"),
        ("torchvision:resnet19", {}, "did you mean 'resnet"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "read other files"),
        ("torchvision:resnet18", {"norm_layer": nn.BatchNorm2d}, "can be kept"),
        ("torchvision:resnet18", {"no_such": 1}, "cannot be built"),
        ("timm:hf-hub:some/where", {}, "timm has no network"),
        ("timm:resnet18", {"checkpoint_path": "x.pth"}, "read other files"),
        (None, {"num_classes": 3}, "without base="),
    ],
)
def test_bases_that_are_wrong(base, options, reason, tmp_path):
    with pytest.raises(ww.WhatwhereError, match=reason):
        ww.save(torchvision.models.resnet18(), tmp_path / "m.safetensors", base=base, options=options)


def test_paths_that_are_wrong(tmp_path):
    model = build(ModelConfig("small-vgg"))
    for path in (tmp_path / "m.pth", tmp_path / "no" / "m.safetensors", tmp_path):
        with pytest.raises(ww.WhatwhereError):
            ww.save(model, path)


def rewrite(path, change):
    """Write a spec anew, with the checksum that belongs to it."""
    tensors, record = read_tensors(path)
    change(record["spec"])
    write_tensors(path, tensors, record)


def setter(*keys):
    *path, last, value = keys

    def change(spec):
        for key in path:
            spec = spec[key]
        spec[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (setter("version", 2), "newer one"),
        (setter("version", "1"), "version is str"),
        (setter("base", "builder", "os"), "unknown builder 'os'"),
        (setter("base", "name", "small-vgg"), "no module 'stages.0.0.bn2'"),
        (setter("base", "options", "width", [8, 8, 8]), "does not hold together"),
        (setter("base", "name", "hf-hub:some/where"), "timm has no network"),
        (setter("base", "options", "pretrained", True), "read other files"),
        (setter("base", "options", "classes", 10**9), "does not hold together"),
        (setter("base", "options", "classes", 10**30), "cannot be built"),
        (setter("base", "options", "classes", "many"), "cannot be built"),
        (setter("base", 3), "base is int"),
        (setter("attention", []), "does not hold together"),
        (setter("attention", 0, "module", "no.where"), "no module"),
        (setter("attention", 0, "module", "__class__"), "no module"),
        (setter("attention", 0, "name", "nothing"), "unknown attention 'nothing'"),
        (setter("attention", 0, "side", "above"), "side='above'"),
        (setter("attention", 0, "options", {"reduction": 2}), "does not hold together"),
        (setter("attention", 0, "options", {"reduction": [2]}), "reduction"),
        (setter("attention", 0, "channels", 10**8), "does not hold together"),
        (setter("attention", 7), "attention is int"),
        (setter("dtype", "nn"), "dtype 'nn'"),
        (setter("dtype", "int8"), "dtype 'int8'"),
        (setter("tied", {"a": "b"}), "does not hold"),
        (setter("tied", {"a": "head.bias"}), "does not hold together"),
        (setter("other_mode", [1]), "wrong item"),
        (lambda spec: spec.pop("training"), "training is missing"),
    ],
)
def test_specs_that_are_wrong(change, reason, tmp_path):
    path = ww.save(build(ModelConfig("small-resnet", "cbam"), size=32), tmp_path / "m.safetensors")
    rewrite(path, change)
    with pytest.raises(ww.WhatwhereError, match=reason):
        ww.load_model(path)


def test_weights_without_a_spec(tmp_path):
    model = build(ModelConfig("small-vgg"))
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    for name in ("plain.safetensors", "plain.pth"):
        with pytest.raises(ww.WhatwhereError, match="does not say of which network"):
            ww.load_model(tmp_path / name)
    with pytest.raises(ww.WhatwhereError, match="device='nowhere'"):
        ww.load_model(tmp_path / "plain.pth", device="nowhere")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = ww.save(build(ModelConfig("small-vgg")), tmp_path / "m.safetensors")
    before = Path(path).read_bytes()
    with pytest.raises(ww.WhatwhereError):
        ww.save(nn.Linear(2, 2), path)
    assert path.read_bytes() == before
