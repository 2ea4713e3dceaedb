"""Every family: the sites, and the table of docs/families.md."""

import fnmatch
from pathlib import Path

import pytest
import torch

from benchmarks import families
from benchmarks.architectures import ARCHITECTURES, Architecture
from benchmarks.families import cells, family_table
from benchmarks.survey import survey
from whatwhere.errors import WhatwhereError
from whatwhere.placement import sites
from whatwhere.surgery import attentions, insert

DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"
BY_NAME = {(a.library, a.name): a for a in ARCHITECTURES}
FAST = {
    ("timm", "res2net50_14w_8s"),
    ("timm", "legacy_seresnet18"),
    ("timm", "rexnet_100"),
    ("timm", "dpn48b"),
    ("timm", "mobilevit_xxs"),
    ("timm", "convnext_atto"),
    ("timm", "nfnet_l0"),
    ("timm", "pvt_v2_b0"),
    ("timm", "hgnetv2_b0"),
    ("timm", "ese_vovnet39b"),
    ("timm", "legacy_xception"),
    ("timm", "ghostnetv2_100"),
    ("torchvision", "shufflenet_v2_x0_5"),
    ("torchvision.detection", "fasterrcnn_mobilenet_v3_large_fpn"),
    ("torchvision.segmentation", "lraspp_mobilenet_v3_large"),
    ("segmentation_models_pytorch", "Unet(resnet34)"),
    ("segmentation_models_pytorch", "UnetPlusPlus(resnet18)"),
    ("segmentation_models_pytorch", "Unet(vgg11_bn)"),
}
# How the names go, from the source of each network: a glob for all its sites, and the first and the last of them.
NAMES = {
    ("timm", "res2net50_14w_8s"): ("layer?.?.bn3", "layer1.0.bn3", "layer4.2.bn3"),
    ("timm", "legacy_seresnet18"): ("layer?.?.se_module", "layer1.0.se_module", "layer4.1.se_module"),
    ("timm", "rexnet_100"): ("features.*.conv_pwl.bn", "features.2.conv_pwl.bn", "features.15.conv_pwl.bn"),
    ("timm", "dpn48b"): ("features.conv?_?.c1x1_c1", "features.conv2_1.c1x1_c1", "features.conv5_3.c1x1_c1"),
    ("timm", "mobilevit_xxs"): ("*", "stages.0.0.conv3_1x1.bn", "final_conv.bn.act"),
    ("timm", "convnext_atto"): ("stages.?.blocks.?.mlp.fc2", "stages.0.blocks.0.mlp.fc2", "stages.3.blocks.1.mlp.fc2"),
    ("timm", "nfnet_l0"): ("stages.?.?.attn_last", "stages.0.0.attn_last", "stages.3.2.attn_last"),
    ("timm", "pvt_v2_b0"): ("stages.?", "stages.0", "stages.3"),
    ("timm", "ese_vovnet39b"): ("*", "stem.1.bn.act", "stages.3.blocks.1.attn"),
    ("timm", "legacy_xception"): ("block*.rep.?", "block1.rep.5", "block12.rep.6"),
    ("timm", "ghostnetv2_100"): ("blocks.?.?.ghost2", "blocks.0.0.ghost2", "blocks.8.3.ghost2"),
    ("torchvision", "shufflenet_v2_x0_5"): ("*", "stage2.3", "conv5.2"),
    ("torchvision.segmentation", "lraspp_mobilenet_v3_large"): (
        "backbone.*",
        "backbone.1.block.1.1",
        "backbone.15.block.3.1",
    ),
    ("segmentation_models_pytorch", "Unet(resnet34)"): ("*", "encoder.layer1.0.bn2", "decoder.blocks.4"),
}


def find(architecture):
    detects = architecture.library == "torchvision.detection"
    device = "cpu" if detects or architecture.name.startswith("regnet_") else "meta"  # these compute with numbers
    torch.manual_seed(0)
    with torch.device(device):
        model = architecture.build()
    image = torch.rand(3, architecture.size, architecture.size, device=device)
    return sites(model, ([image],) if detects else image[None], at=architecture.at)


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=() if key in FAST else pytest.mark.slow) for key in BY_NAME],
    ids=lambda key: "-".join(key),
)
def test_sites_are_as_many_as_the_architecture_has(key):
    pytest.importorskip(key[0].split(".")[0])
    architecture = BY_NAME[key]
    found = find(architecture)
    kinds = [site.kind for site in found]
    wanted = {"residual": architecture.residual, "stage": architecture.stage, "module": architecture.module}
    assert {kind: kinds.count(kind) for kind in wanted} == wanted
    if key in NAMES:
        pattern, first, last = NAMES[key]
        assert (found[0].module, found[-1].module) == (first, last)
        assert [site.module for site in found if not fnmatch.fnmatchcase(site.module, pattern)] == []


def test_the_list_is_long_and_without_doubles():
    assert len(BY_NAME) == len(ARCHITECTURES)
    assert len({architecture.family for architecture in ARCHITECTURES}) >= 60
    assert set(NAMES) <= FAST <= set(BY_NAME)


@pytest.mark.parametrize(
    "key",
    [
        ("timm", "tinynet_e"),
        ("timm", "regnetx_002"),
        ("timm", "mobilevit_xxs"),
        ("torchvision", "shufflenet_v2_x0_5"),
        ("torchvision.segmentation", "lraspp_mobilenet_v3_large"),
    ],
    ids=lambda key: "-".join(key),
)
def test_rows_of_the_document_are_what_comes_out(key):
    row = survey(BY_NAME[key])
    assert row.failures == []
    line = family_table([row]).splitlines()[-1]
    assert line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    assert cells(row)[-2:] == ["same", "works"]


def test_the_document_lists_every_architecture():
    lines = [line.split(" | ") for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [(line[0][2:], line[1], line[2]) for line in lines[2:]] == [
        (a.family, f"`{a.name}`", a.library) for a in ARCHITECTURES
    ]
    assert all(line[-1] == "works |" for line in lines[2:])


def test_what_does_not_hold_is_a_failure(monkeypatch, capsys):
    wrong = Architecture("RegNetX", "timm", "regnetx_002", residual=12, size=64)
    missing = Architecture("Nothing", "timm", "resnet_that_is_not")
    assert survey(wrong).failures == ["13 residual sites instead of 12"]
    assert "resnet_that_is_not" in survey(missing).failures[0]
    monkeypatch.setattr("benchmarks.families.ARCHITECTURES", (wrong, missing))
    with pytest.raises(SystemExit) as ended:
        families.main(["--markdown"])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "FAILS: 13 residual" in said.out
    assert "2 of 2 architectures fail" in said.err


def test_an_attention_that_changes_the_output_or_cannot_learn_is_a_failure(monkeypatch):
    def insert_the_papers_form(model, name, at, **options):
        report = insert(model, name, at, identity=False, **options)
        next(iter(attentions(model).values())).requires_grad_(False)
        return report

    monkeypatch.setattr("benchmarks.survey.insert", insert_the_papers_form)
    failures = survey(Architecture("RegNetX", "timm", "regnetx_002", residual=13, size=64)).failures
    assert failures[0].startswith("the output changed by")
    assert any("no finite gradient in step 1 for s1.b1.conv3.bn.attention" in failure for failure in failures)


def test_the_command_writes_between_the_markers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.families.ARCHITECTURES", (BY_NAME["timm", "tinynet_e"],))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- families: begin -->\nold\n<!-- families: end -->\nafter\n", encoding="utf-8")
    assert families.main(["--write", str(page)]) == 0
    lines = page.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("before", "after", 7)
    assert lines[4].startswith("| TinyNet | `tinynet_e` | timm | 3 residual + 3 stage | ")
    page.write_text("no markers", encoding="utf-8")
    assert families.main(["--write", str(page)]) == 2
    assert families.main(["--only", "tinynet_f"]) == 2
    assert "did you mean 'tinynet_e'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_row_of_the_document(tmp_path):
    page = tmp_path / "families.md"
    page.write_text(DOCUMENT.read_text(encoding="utf-8"), encoding="utf-8")
    assert families.main(["--write", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == DOCUMENT.read_text(encoding="utf-8")


def decoder(name, encoder):
    models = pytest.importorskip("segmentation_models_pytorch")
    with torch.device("meta"):
        return getattr(models, name)(encoder_name=encoder, encoder_weights=None)


@pytest.mark.parametrize(
    ("name", "encoder", "residual", "stage"),
    [
        ("Unet", "resnet18", 8, 0),
        ("UnetPlusPlus", "resnet18", 8, 0),
        ("FPN", "resnet18", 8, 0),
        ("Linknet", "resnet18", 8, 0),
        ("PSPNet", "resnet18", 4, 0),  # built with the encoder's first stages only
        ("DeepLabV3Plus", "resnet18", 8, 0),
        ("Unet", "mobilenet_v2", 10, 0),
        ("Unet", "dpn68", 22, 0),
        ("Unet", "vgg11_bn", 0, 9),  # encoder and decoder
        ("Unet", "densenet121", 0, 9),
    ],
)
def test_segmentation_models(name, encoder, residual, stage):
    found = sites(decoder(name, encoder), torch.empty(1, 3, 128, 128, device="meta"))
    assert [site.kind for site in found] == ["residual"] * residual + ["stage"] * stage


def test_class_maps_are_no_stage_ends():
    """What a segmentation network returns, resized or summed, is not a map to attend to."""
    for key, heads in {
        ("torchvision.segmentation", "lraspp_mobilenet_v3_large"): ("classifier",),
        ("segmentation_models_pytorch", "FPN(resnet34)"): ("segmentation_head",),
        ("segmentation_models_pytorch", "PSPNet(resnet18)"): ("segmentation_head",),
    }.items():
        model = BY_NAME[key].build().eval()
        found = sites(model, torch.rand(1, 3, 96, 96), at="stage")
        assert found
        assert [site.module for site in found if site.module.startswith(heads)] == []


def test_a_transformer_is_not_served():
    swin = Architecture("Swin", "torchvision", "swin_t", size=224)
    with pytest.raises(WhatwhereError, match="no site for attention in SwinTransformer"):
        find(swin)
