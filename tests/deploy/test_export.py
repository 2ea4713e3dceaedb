"""Exported files: right for batches of any size, whole or absent, and the model as it was."""

import importlib.util

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import entry

ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs the extra export",
)


@pytest.fixture
def model(network, moving, images):
    model = network()
    ww.insert(model, "cbam", example=images[:1])
    return moving(model)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_program_of_torch_export(model, images, tmp_path, snapshot, same):
    model.train()
    model.blocks[0].eval()
    model(images).sum().backward()
    before = snapshot(model)
    report = ww.export(model, tmp_path / "model.pt2", example=images[:1])
    assert same(snapshot(model), before)
    assert files(tmp_path) == ["model.pt2"]
    assert [(c.runtime, c.batch) for c in report.checks] == [
        ("torch.export", 1),
        ("torch.export", 2),
        ("torch.export", 3),
    ]
    assert max(c.difference for c in report.checks) < 1e-5
    assert (report.opset, report.int8, report.input, report.quality) == (None, None, ("N", 3, 10, 9), {})
    program = torch.export.load(tmp_path / "model.pt2")
    torch.testing.assert_close(program.module()(images), model.eval()(images), rtol=1e-4, atol=1e-5)
    assert b"site-packages" not in (tmp_path / "model.pt2").read_bytes()


@ONNX
def test_onnx(model, images, tmp_path, snapshot, same):
    import onnxruntime

    labels = model.eval()(images).argmax(1)
    labels[:6] = (labels[:6] + 1) % 5
    model.train()
    before = snapshot(model)
    out = tmp_path / "model.onnx"
    report = ww.export(model, str(out), data=[(images, labels)])
    assert same(snapshot(model), before)
    assert files(tmp_path) == ["model.onnx"]
    assert (report.path, report.int8) == (out, None)
    assert report.quality["PyTorch"].top1 == report.quality["ONNX Runtime"].top1 == 0.75
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"images": images[:7].numpy()})
    torch.testing.assert_close(torch.from_numpy(got), model.eval()(images[:7]), rtol=1e-4, atol=1e-5)
    said = str(report)
    for words in (f"opset {report.opset}", "N×3×10×9", "batch 3", "75.00", "ONNX Runtime"):
        assert words in said
    assert b"site-packages" not in out.read_bytes()


@pytest.mark.slow
@ONNX
def test_int8(model, images, tmp_path):
    import onnx

    report = ww.export(model, tmp_path / "model.onnx", data=images, quantize=(part for part in images.split(5)))
    assert files(tmp_path) == ["model.int8.onnx", "model.onnx"]
    assert report.int8 == tmp_path / "model.int8.onnx"
    assert "int8" in {check.runtime for check in report.checks}
    assert report.quality["int8"].same > 0.6
    assert 1e-4 < report.quality["int8"].difference < 0.5
    assert "model.int8.onnx" in str(report)
    graph = onnx.load(report.int8).graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    assert onnx.TensorProto.INT8 in {weight.data_type for weight in graph.initializer}


@ONNX
def test_openvino_is_asked_where_it_is(tmp_path):
    report = ww.export(nn.Conv2d(3, 4, 3), tmp_path / "m.onnx", example=torch.randn(1, 3, 6, 6))
    there = importlib.util.find_spec("openvino") is not None
    assert ("OpenVINO" in {check.runtime for check in report.checks}) == there
    assert bool(report.notes) != there


@ONNX
def test_the_opset_is_what_was_asked_for(tmp_path):
    asked = {"example": torch.randn(1, 3, 6, 6)}
    assert ww.export(nn.Conv2d(3, 4, 3), tmp_path / "m.onnx", opset=18, **asked).opset == 18
    with pytest.raises(WhatwhereError, match="opset"):
        ww.export(nn.Conv2d(3, 4, 3), tmp_path / "n.onnx", opset=99, **asked)
    assert files(tmp_path) == ["m.onnx"]


class Liar(nn.Module):
    """Another network when it is exported."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x)
        return y * (1 + self.error) if torch.compiler.is_exporting() else y


@pytest.mark.parametrize("ending", ["pt2", pytest.param("onnx", marks=ONNX)])
def test_a_file_that_differs_is_not_written(tmp_path, ending):
    out = tmp_path / f"m.{ending}"
    x = torch.randn(2, 3, 6, 6)
    ww.export(Liar(1e-6), out, example=x)
    before = out.read_bytes()
    with pytest.raises(WhatwhereError, match=r"was not written.* 1\.0e-03 of the largest; at most 1e-04 is allowed"):
        ww.export(Liar(1e-3), out, example=x)
    assert out.read_bytes() == before
    assert files(tmp_path) == [out.name]


def test_a_file_that_differs_on_the_data_only_is_not_written(tmp_path):
    class OnlyThere(Liar):
        def forward(self, x):
            y = self.conv(x)
            return y + (x.amax((1, 2, 3)) > 100).float()[:, None, None, None] if torch.compiler.is_exporting() else y

    x = torch.randn(3, 3, 6, 6)
    with pytest.raises(WhatwhereError, match="over 6 images"):
        ww.export(OnlyThere(0), tmp_path / "m.pt2", example=x, data=[x, 1000 * x])
    assert files(tmp_path) == []


class OneSize(nn.Module):
    def forward(self, x):
        return x.reshape(3, -1)


@ONNX
@pytest.mark.parametrize(
    ("build", "name", "options", "says"),
    [
        (lambda: nn.Conv2d(3, 4, 3), "m.tflite", {}, "must end in .onnx"),
        (lambda: nn.Conv2d(3, 4, 3), "no/m.onnx", {}, "there is no folder"),
        (lambda: nn.Conv2d(3, 4, 3), "m.pt2", {"quantize": [torch.zeros(1, 3, 6, 6)]}, "for ONNX files"),
        (lambda: nn.Conv2d(3, 4, 3).double(), "m.onnx", {}, r"export model.float\(\)"),
        (lambda: nn.Conv2d(3, 4, 3), "m.onnx", {"example": torch.zeros(3, 6, 6)}, "normalised as the model"),
        (lambda: nn.Conv2d(5, 4, 3), "m.onnx", {}, "failed on images"),
        (lambda: nn.Conv2d(3, 4, 3), "m.onnx", {"quantize": []}, "no images in it"),
        (lambda: nn.Conv2d(3, 4, 3), "m.onnx", {"quantize": torch.zeros(1, 2, 6, 6)}, "cannot be quantised"),
        (lambda: nn.Conv2d(3, 4, 3), "m.onnx", {"data": [3]}, "int"),
        (OneSize, "m.onnx", {}, "batches of any size"),
        (lambda: nn.DataParallel(nn.Conv2d(3, 4, 3)), "m.onnx", {}, "DataParallel"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.FractionalMaxPool2d(2, output_size=2)), "m.onnx", {}, "ONNX"),
    ],
)
def test_mistakes(tmp_path, build, name, options, says):
    with pytest.raises(WhatwhereError, match=says):
        ww.export(build(), tmp_path / name, **{"example": torch.randn(1, 3, 6, 6), **options})
    assert files(tmp_path) == []


def test_a_compiled_model_and_a_default_image(model, tmp_path, snapshot, same):
    compiled = torch.compile(model, backend="eager")
    before = snapshot(model)
    state = torch.random.get_rng_state()
    report = ww.export(compiled, tmp_path / "m.pt2")
    assert report.input == ("N", 3, 224, 224)
    assert same(snapshot(model), before)
    assert torch.random.get_rng_state().equal(state)


@pytest.mark.slow
@ONNX
@pytest.mark.parametrize("name", [name for name in ww.names() if not entry(name).replaces])
def test_every_attention_in_a_network_of_ours(name, tmp_path):
    from whatwhere.checkpoints import build
    from whatwhere.networks import ModelConfig

    model = build(ModelConfig("small-resnet", attention=name), size=32)
    report = ww.export(model, tmp_path / "m.onnx", example=torch.randn(2, 3, 32, 32))
    assert max(check.difference for check in report.checks) <= 1e-4
