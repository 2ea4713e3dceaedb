"""Attentions defined here, outside the package, work everywhere without a change to it."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, ResNet

import whatwhere as ww
from whatwhere import cli, ops
from whatwhere.checkpoints import RENAMERS, Renamed, renamer
from whatwhere.layers import ATTENTIONS, KeyMap, add_key_map, entry, parse
from whatwhere.studies import StudyConfig


class Mine(ww.GatedAttention):
    """A gate for each channel from an average, a scale and an offset, in the sharpness ``sharp``."""

    def __init__(self, channels, *, sharp=1.0, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.sharp = sharp
        self.identity = identity
        self.scale = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.mlp = ww.layers.mlp.MLP(channels, 4, zero=identity, device=device, dtype=dtype)

    def excite(self, squeezed):
        z = self.sharp * (self.mlp(squeezed)[:, 0] + self.scale * squeezed[:, 0])
        return ((2 if self.identity else 1) * z.sigmoid())[:, :, None, None]

    def steps(self):
        return (ops.Step("channel", ("avg",), self.excite),)

    @classmethod
    def options_from_shapes(cls, shapes):
        return {}

    @classmethod
    def options_for_excitation(cls, excitation, *, identity, chosen):
        fits = excitation.hidden == max(1, excitation.channels // 4) and excitation.activation == "relu"
        return {"identity": excitation.identity} if fits else None

    def take_excitation(self, excitation):
        return excitation.write(self.mlp)


class Global(ww.Attention):
    """Adds to every position what a softmax over all positions picks; no gates."""

    def __init__(self, channels, *, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.identity = identity
        self.pick = nn.Conv2d(channels, 1, 1, device=device, dtype=dtype)
        self.out = nn.Conv2d(channels, channels, 1, device=device, dtype=dtype)
        if identity:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x):
        weights = self.pick(x).flatten(2).softmax(-1)
        return x + self.out((x.flatten(2) @ weights.transpose(1, 2))[..., None])


MAPS = (
    KeyMap(
        "the official code of Mine",
        {"a": "mlp.fc1", "b": "mlp.fc2", "s": "scale"},
        r"(?P<block>.+)\.mine",
        options={"sharp": 2.0},
    ),
)


@pytest.fixture(autouse=True)
def registered():
    ww.register("mine", title="mine", formula="c = σ(…)", kind="channel", key_maps=MAPS)(Mine)
    ww.register("global", title="global context", formula="x + …", kind="residual")(Global)
    yield
    ATTENTIONS.discard("mine")
    ATTENTIONS.discard("global")


BOTH = pytest.mark.parametrize("name", ["mine", "global"])


def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def small():
    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10).eval()


def trained(model):
    """Move the attention's parameters away from the start."""
    with torch.no_grad():
        for attention in ww.attentions(model).values():
            for parameter in attention.parameters():
                parameter.normal_(0, 0.2)
    return model


def test_create_and_parse():
    assert {"mine", "global"} <= set(ww.names())
    assert ww.create("mine", 8, sharp=3.0).init_options == {"sharp": 3.0}
    spec = parse("mine:sharp=2")
    assert spec.create(8).sharp == 2.0
    assert (entry("mine").gated, entry("global").gated) == (True, False)
    with pytest.raises(ww.WhatwhereError, match="did you mean 'sharp'"):
        ww.create("mine", 8, shrap=2)


@BOTH
def test_insert_and_remove(name):
    model = small()
    want = model(images())
    ww.insert(model, name, example=images())
    assert torch.equal(model(images()), want)
    assert not torch.equal(trained(model)(images()), want)
    assert ww.remove(model) == 4
    assert torch.equal(model(images()), want)


@BOTH
@pytest.mark.parametrize("training", [False, True])
def test_fuse(name, training):
    model = small()
    ww.insert(model, name, example=images())
    plain = trained(model).train(training)
    fused = copy.deepcopy(plain)
    assert len(ww.fuse(fused).blocks) == 4
    torch.testing.assert_close(fused(images()), plain(images()), rtol=1e-3, atol=1e-4)


def test_capture_and_look():
    model = small()
    ww.insert(model, "mine", at="layer1.*", example=images())
    ww.insert(model, "global", at="layer2.*", example=images())
    with ww.capture(model) as seen:
        model(images())
    assert list(seen) == ["layer1.0.bn2"]
    assert seen["layer1.0.bn2"].channel.shape == (2, 64, 1, 1)
    ww.remove(model)
    ww.insert(model, "global", example=images())
    with pytest.raises(ww.WhatwhereError, match=r"gates to listen to.*Global"), ww.capture(model):
        pass


@BOTH
def test_save_and_load_model(name, tmp_path):
    torch.manual_seed(0)
    model = resnet18().eval()
    ww.insert(model, name, example=images(), **({"sharp": 2.5} if name == "mine" else {}))
    again = ww.load_model(ww.save(trained(model), tmp_path / "m.safetensors"))
    assert torch.equal(again(images()), model(images()))
    assert type(again.layer1[0].bn2.attention) is entry(name).cls


def theirs(attention):
    names = {ours: its for its, ours in MAPS[0].parts.items()}
    state = attention.state_dict()
    return {
        f"{names[k if k in names else k.rpartition('.')[0]]}{k[k.rfind('.') :] if '.' in k else ''}": v
        for k, v in state.items()
    }


def test_a_foreign_checkpoint(tmp_path):
    model = small()
    ww.insert(model, "mine", identity=False, sharp=2.0, example=images())
    weights = {k: v for k, v in trained(model).state_dict().items() if ".attention." not in k}
    for site, attention in ww.attentions(model).items():
        weights |= {f"{site.removesuffix('.bn2')}.mine.{key}": value for key, value in theirs(attention).items()}
    torch.save(weights, tmp_path / "mine.pth")
    other = small()
    with pytest.raises(ww.WhatwhereError, match=r'insert\(model, "mine", identity=False, sharp=2.0\)'):
        ww.load(other, tmp_path / "mine.pth")
    ww.insert(other, "mine", identity=False, example=images())
    with pytest.raises(ww.WhatwhereError, match=r"sharp=1.0 where the checkpoint has 2.0"):
        ww.load(other, tmp_path / "mine.pth")
    ww.remove(other)
    ww.insert(other, "mine", identity=False, sharp=2.0, example=images())
    report = ww.load(other, tmp_path / "mine.pth")
    assert "the official code of Mine (4 attentions)" in report.format
    assert torch.equal(other(images()), model(images()))


def test_load_official():
    source = ww.create("mine", 8, sharp=2.0)
    nn.init.normal_(source.scale)
    got = ww.create("mine", 8, sharp=2.0).load_official(theirs(source))
    assert all(torch.equal(v, got.state_dict()[k]) for k, v in source.state_dict().items())
    assert set(theirs(source)) == {"a.weight", "a.bias", "b.weight", "b.bias", "s"}


def test_replace():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), ww.SE(16, reduction=4)).eval()
    want = model(images())
    report = ww.replace(model, "se", "mine", example=images())
    assert isinstance(model[1], Mine)
    assert report.replaced[0].kept
    torch.testing.assert_close(model(images()), want)
    with pytest.warns(UserWarning, match="start from new weights"):
        report = ww.replace(model, "mine", "global", example=images())
    assert not report.replaced[0].kept
    assert isinstance(model[1], Global)


def test_fold():
    model = small()
    ww.insert(model, "mine", at="layer1.*", example=images())
    ww.insert(model, "global", at="layer2.*", example=images())
    with torch.no_grad():
        model.layer1[0].bn2.attention.mlp.fc2.bias.normal_()  # gates that differ by channel and not by image
    x = torch.randn(16, 3, 32, 32)
    want = model(x)
    assert ww.fold(model, x, seconds=0).folded == ["layer1.0.bn2"]
    assert list(ww.attentions(model)) == ["layer2.0.bn2"]
    torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-5)


def test_the_table_and_a_study(capsys):
    assert cli.main(["names", "--markdown"]) == 0
    said = capsys.readouterr().out
    assert "`mine`" in said
    assert "global context" in said
    assert StudyConfig(attention=("mine", "global:paper")).specs == ("mine", "global:paper")


def test_an_attention_without_an_identity_says_so():
    @ww.register(
        "permute", title="permute", formula="permuted x", kind="permuting", exact_identity=False, channel_divisor=4
    )
    class Shuffle(ww.Attention):
        def __init__(self, channels, *, identity=False, device=None, dtype=None):
            super().__init__(channels)

        def forward(self, x):
            return x.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2)

    try:
        model = small()
        with pytest.raises(ww.WhatwhereError, match="say identity=False"):
            ww.insert(model, "permute", example=images())
        assert len(ww.insert(model, "permute", identity=False, example=images()).inserted) == 4
        with pytest.raises(ww.WhatwhereError, match="at least 1 and a multiple of 4, got 6"):
            ww.create("permute", 6)
    finally:
        ATTENTIONS.discard("permute")


def test_another_spelling_of_an_attention_of_the_package(tmp_path):
    before = ww.SE.key_maps
    layers = {"squeeze": "mlp.fc1", "expand": "mlp.fc2"}
    add_key_map("se", KeyMap("my old code", layers, r"(?P<block>.+)\.se_old", options={"pools": ("avg",)}))
    try:
        model = small()
        ww.insert(model, "se", identity=False, example=images())
        names = (("bn2.attention.mlp.fc1", "se_old.squeeze"), ("bn2.attention.mlp.fc2", "se_old.expand"))
        weights = trained(model).state_dict()
        for ours, its in names:
            weights = {key.replace(ours, its): value for key, value in weights.items()}
        torch.save(weights, tmp_path / "old.pth")
        other = small()
        ww.insert(other, "se", identity=False, example=images())
        assert "my old code" in ww.load(other, tmp_path / "old.pth").format
        assert torch.equal(other(images()), model(images()))
        with pytest.raises(ww.WhatwhereError, match="has the names of 'my old code': make its unit more specific"):
            add_key_map("eca", KeyMap("another", layers, r"(?P<block>.+)\.se_old"))
    finally:
        ww.SE.key_maps = before


def test_a_whole_foreign_network(tmp_path):
    @renamer("backwards", title="names written backwards")
    def backwards(model, wanted, tensors):
        new = {key[::-1]: key for key in tensors if key[::-1] in wanted}
        rest = {key: tensor for key, tensor in tensors.items() if key[::-1] not in new}
        reasons = [] if model.maxpool.kernel_size == 3 else ["maxpool: these weights are for a kernel of 3"]
        return Renamed({name: tensors[key] for name, key in new.items()}, rest, reasons)

    try:
        model, other = small(), small()
        nn.init.normal_(model.fc.weight)
        torch.save({key[::-1]: value for key, value in model.state_dict().items()}, tmp_path / "b.pth")
        assert "names written backwards" in ww.load(other, tmp_path / "b.pth").format
        assert torch.equal(other(images()), model(images()))
        other.maxpool.kernel_size = 5
        with pytest.raises(ww.WhatwhereError, match="these weights are for a kernel of 3"):
            ww.load(other, tmp_path / "b.pth")
    finally:
        RENAMERS.discard("backwards")


PLUGIN = """
import torch, whatwhere as ww

@ww.register("plugged", title="plugged in", formula="c = σ(s)", kind="channel")
class Plugged(ww.GatedAttention):
    def __init__(self, channels, *, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.identity = identity
        self.s = torch.nn.Parameter(torch.zeros(1, channels, 1, 1, device=device, dtype=dtype))

    def gates(self, x):
        return ww.Gates(channel=((2 if self.identity else 1) * self.s.sigmoid()).expand(x.shape[0], -1, 1, 1))
"""


def test_the_command_line_knows_the_attention_of_an_installed_package(tmp_path):
    (tmp_path / "plugged_attention.py").write_text(PLUGIN)
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[whatwhere.attentions]\nplugged = plugged_attention\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    code += "from whatwhere.cli import main; sys.exit(main(sys.argv[1:]))"
    for words in (
        ["names", "--markdown"],
        ["cost", "small-resnet", "--attention", "plugged", "--size", "16", "--seconds", "0.1"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "plugged" in done.stdout
