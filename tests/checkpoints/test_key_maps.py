"""Attention of timm and of SENets into whatwhere's attention."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import whatwhere as ww

from .loading import images, refused, resnet, with_attention


def timm_resnet(**options):
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet18", layers=(1, 2, 1, 1), num_classes=10, **options).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith(("bias", "running_mean")) or (".se." in key and value.ndim == 4):
                value.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mine", [True, False])
def test_timms_cbam(bias, mine, tmp_path):
    theirs = timm_resnet(block_args={"attn_layer": "cbam"})
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    ours = resnet() if mine else timm_resnet()
    ww.insert(ours, "cbam", identity=False, bias=bias, example=images())
    report = ww.load(ours, tmp_path / "timm.safetensors")
    assert len(report.filled) == (10 if bias else 0)
    torch.testing.assert_close(ours.eval()(images()), theirs(images()))


def test_timms_se_whose_reduction_differs_by_stage(tmp_path):
    theirs = timm_resnet(block_args={"attn_layer": "se"})
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = resnet()
    line = next(line for line in refused(ours, tmp_path / "timm.pth").splitlines() if "insert(" in line)
    for call in line.partition(": ")[2].split("; "):
        eval(call.replace("whatwhere.", "ww."), {"ww": ww, "model": ours})
    ww.load(ours, tmp_path / "timm.pth")
    torch.testing.assert_close(ours.eval()(images()), theirs(images()))


@pytest.mark.parametrize("official", [False, True])
def test_eca_of_timm_and_of_the_official_code(official, tmp_path):
    """The official code's networks give k by stage; the advice says how to insert that."""
    theirs = timm_resnet(block_args={"attn_layer": "eca"})
    if official:
        for block in (theirs.layer1[0], theirs.layer4[0]):
            block.se.conv = nn.Conv1d(1, 1, 9, padding=4, bias=False)
            block.se.padding = 4
    weights = {key.replace(".se.", ".eca.") if official else key: v for key, v in theirs.state_dict().items()}
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "eca.pth")
    ours = resnet()
    if official:
        ww.insert(ours, "eca", identity=False, example=images())
        line = next(line for line in refused(ours, tmp_path / "eca.pth").splitlines() if "insert(" in line)
        assert "kernel_size=9" in line
        ww.remove(ours)
        ww.insert(ours, "eca", at=["layer1.*", "layer4.*"], identity=False, kernel_size=9, example=images())
        ww.insert(ours, "eca", at=["layer2.*", "layer3.*"], identity=False, example=images())
    else:
        ww.insert(ours, "eca", identity=False, example=images())
    assert ww.load(ours, tmp_path / "eca.pth").complete
    torch.testing.assert_close(ours.eval()(images()), theirs(images()))


def test_timms_light_cbam_is_another_formula(tmp_path):
    torch.save(timm_resnet(block_args={"attn_layer": "lcbam"}).state_dict(), tmp_path / "timm.pth")
    assert "light CBAM" in refused(with_attention("cbam"), tmp_path / "timm.pth")


def test_an_se_in_the_middle_of_a_block_is_not_taken_for_one_at_its_end(tmp_path):
    weights = {"s1.b1.se.fc1.weight": torch.randn(4, 64, 1, 1), "s1.b1.se.fc2.weight": torch.randn(64, 4, 1, 1)}
    torch.save({**resnet().state_dict(), **weights}, tmp_path / "other.pth")
    assert "no block of a ResNet" in refused(with_attention("se"), tmp_path / "other.pth")


def senet():
    """SENet's names: stem and head, and SE modules of 1×1 convolutions."""
    model = with_attention("se")
    weights = {}
    for key, value in model.state_dict().items():
        name = key.replace("bn2.attention.mlp", "se_module")
        if "se_module" in name and value.ndim == 2:
            value = value[:, :, None, None]
        name = (
            f"layer0.{name}"
            if name.startswith(("conv1", "bn1"))
            else name.replace("fc.", "last_linear.")
            if name[:3] == "fc."
            else name
        )
        weights[name] = value.clone()
    return model, weights


def test_senets(tmp_path):
    theirs, weights = senet()
    theirs.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    torch.save(weights, tmp_path / "senet.pth")
    ours = with_attention("se")
    assert "ceil_mode=True" in refused(ours, tmp_path / "senet.pth")
    ours.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    assert ww.load(ours, tmp_path / "senet.pth").complete
    torch.testing.assert_close(ours.eval()(images()), theirs.eval()(images()), rtol=0, atol=0)


def test_senets_bottlenecks_stride_in_the_first_convolution(tmp_path):
    model = torchvision.models.resnet50()
    model.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    torch.save(
        {f"layer0.{k}" if k[:5] == "conv1" else k: v for k, v in model.state_dict().items()}, tmp_path / "senet.pth"
    )
    assert "layer2.0, layer3.0, layer4.0" in refused(model, tmp_path / "senet.pth")
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert ww.load(model, tmp_path / "senet.pth").complete


def efficientnet_pytorchs(model):
    """The weights of timm's EfficientNet under the names of the package efficientnet-pytorch."""
    names = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    blocks = [f"blocks.{s}.{b}" for s, stage in enumerate(model.blocks) for b in range(len(stage))]
    weights = {}
    for key, value in model.state_dict().items():
        block = next((n for n, name in enumerate(blocks) if key.startswith(f"{name}.")), None)
        if block is None:
            first, _, rest = key.partition(".")
            weights[f"{names[first]}.{rest}"] = value
            continue
        part = key.removeprefix(f"{blocks[block]}.").replace("se.conv_", "se_")
        first, _, rest = part.partition(".")
        widens = hasattr(model.get_submodule(blocks[block]), "conv_pwl")
        theirs = {"conv_dw": "depthwise_conv", "se_reduce": "se_reduce", "se_expand": "se_expand"}
        if widens:
            theirs |= {"conv_pw": "expand_conv", "bn1": "bn0", "bn2": "bn1", "conv_pwl": "project_conv", "bn3": "bn2"}
        else:
            theirs |= {"bn1": "bn1", "conv_pw": "project_conv", "bn2": "bn2"}
        weights[f"_blocks.{block}._{theirs[first]}.{rest}"] = value
    return weights


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_b0"])
def test_efficientnet_pytorch(name, tmp_path):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(name, num_classes=10).eval()
    weights = efficientnet_pytorchs(theirs)
    assert len(weights) == len(theirs.state_dict())
    torch.save(weights, tmp_path / "efficientnet.pth")
    ours = timm.create_model(name, num_classes=10).eval()
    ww.insert(ours, "cbam", example=images())
    report = ww.load(ours, tmp_path / "efficientnet.pth")
    assert report.complete
    assert "efficientnet-pytorch" in report.format
    torch.testing.assert_close(ours(images()), theirs(images()), rtol=0, atol=0)


def test_efficientnet_pytorch_is_for_tensorflows_padding(tmp_path):
    timm = pytest.importorskip("timm")
    torch.save(efficientnet_pytorchs(timm.create_model("tf_efficientnet_lite0")), tmp_path / "efficientnet.pth")
    assert "begins with tf_" in refused(timm.create_model("efficientnet_lite0"), tmp_path / "efficientnet.pth")
    message = refused(timm.create_model("tf_efficientnet_lite1"), tmp_path / "efficientnet.pth")
    assert "of another shape" in message or "missing in the file" in message
