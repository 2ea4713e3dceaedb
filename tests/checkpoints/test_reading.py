"""Files that are damaged, lie, or are something else: a clear error, and the network as it was."""

import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import whatwhere as ww
from whatwhere.checkpoints import build
from whatwhere.networks import ModelConfig

CONFIG = ModelConfig("small-resnet", "cbam", classes=3, width=(4, 6, 8))


def network():
    return build(CONFIG, size=16)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The network that is loaded into, and the bytes of another one's checkpoints."""
    folder = tmp_path_factory.mktemp("written")
    theirs = network()
    ww.save(theirs, folder / "own.safetensors")
    save_file(theirs.state_dict(), folder / "plain.safetensors")
    torch.save({"state_dict": theirs.state_dict()}, folder / "new.pth")
    torch.save(theirs.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    return network(), theirs.state_dict(), {path.name: path.read_bytes() for path in folder.iterdir()}


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(before, after):
    return before.keys() == after.keys() and all(torch.equal(value, after[key]) for key, value in before.items())


def fails(model, path, reason):
    """Load, which must fail and leave the network as it was."""
    before = state(model)
    with pytest.raises(ww.WhatwhereError, match=reason):
        ww.load(model, path)
    assert same(before, model.state_dict())


def attempt(model, path):
    """Load what may be damaged; where that fails the network must be as it was. Return whether it was loaded."""
    before = state(model)
    try:
        ww.load(model, path)
    except ww.WhatwhereError:
        assert same(before, model.state_dict())
        return False
    return True


NAMES = ["own.safetensors", "plain.safetensors", "new.pth", "old.pth"]
RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", NAMES)
@RELAXED
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off(name, written, tmp_path, share):
    model, _, files = written
    path = tmp_path / name
    path.write_bytes(files[name][: int(share * len(files[name]))])
    assert not attempt(model, path)


@pytest.mark.parametrize("name", NAMES)
@RELAXED
@given(data=st.data())
def test_a_file_with_a_flipped_bit(name, written, tmp_path, data):
    model, theirs, files = written
    content = bytearray(files[name])
    near = data.draw(st.booleans())  # half of the flips among the first bytes, where the structure is
    where = data.draw(st.integers(0, min(6000, len(content) - 1) if near else len(content) - 1))
    content[where] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / name
    path.write_bytes(content)
    for (
        key,
        value,
    ) in model.state_dict().items():  # so that what is left from an earlier example is not taken for loaded
        value.fill_(7) if value.is_floating_point() else value.fill_(int(key != ""))
    loaded = attempt(model, path)
    if loaded and name == "own.safetensors":
        assert same(theirs, model.state_dict())
    if name == "own.safetensors":
        try:
            rebuilt = ww.load_model(path)
        except ww.WhatwhereError:
            return
        assert same(theirs, rebuilt.state_dict())


@RELAXED
@given(content=st.binary(max_size=300), suffix=st.sampled_from([".pth", ".safetensors", ""]))
def test_any_bytes(written, tmp_path, content, suffix):
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    assert not attempt(written[0], path)


class Evil:
    """Unpickled in earnest, this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_in_a_pickle_is_run(written, tmp_path, protocol):
    trap = tmp_path / "trap"
    torch.save({"state_dict": {"stem.0.weight": Evil(trap)}}, tmp_path / "evil.pth", pickle_protocol=protocol)
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Evil(trap), protocol=protocol))
    for name in ("evil.pth", "bare.pkl"):
        fails(written[0], tmp_path / name, "nothing of it was run|cannot be read")
    assert not trap.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert trap.exists()  # so the trap was one


def test_whole_modules_and_scripts_are_refused(written, tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    fails(written[0], tmp_path / "module.pt", "nothing of it was run")


def header(values, body=b""):
    text = json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "content",
    [
        header({"w": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}, bytes(4)),
        header({"w": {"dtype": "F32", "shape": [2**31], "data_offsets": [0, 2**33]}}, bytes(4)),
        header({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 99) + b"{}",
        header({"__metadata__": {"whatwhere": "[" * 5000}}),
        header({"__metadata__": {"whatwhere": "{}"}}),
        header({"__metadata__": {"whatwhere": '{"crc32": 0, "info": 3}'}}),
    ],
)
def test_headers_that_lie(written, tmp_path, content):
    (tmp_path / "lie.safetensors").write_bytes(content)
    fails(written[0], tmp_path / "lie.safetensors", "damaged")


def test_files_of_other_kinds(written, tmp_path):
    model = written[0]
    (tmp_path / "text.pth").write_text("no weights here\n" * 20)
    (tmp_path / "text.safetensors").write_text("no weights here\n" * 20)
    (tmp_path / "empty.pth").touch()
    with zipfile.ZipFile(tmp_path / "archive.pth", "w") as archive:
        archive.writestr("a.txt", "b")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    circle = {}
    circle["model"] = circle
    torch.save(circle, tmp_path / "circle.pth")
    for name, reason in [
        ("text.pth", "cannot be read as a PyTorch file"),
        ("text.safetensors", "cannot be read as a safetensors file"),
        ("empty.pth", "is empty"),
        ("archive.pth", "cannot be read as a PyTorch file"),
        ("list.pth", "holds a list"),
        ("epoch.pth", "no tensors by name: it is a dict with 'epoch'"),
        ("circle.pth", "no tensors by name"),
        ("nothing.pth", "there is no file"),
        (".", "neither a run's"),
    ]:
        fails(model, tmp_path / name, reason)


def test_kinds_are_told_by_content(written, tmp_path):
    model, theirs, files = written
    for name in NAMES:
        (tmp_path / "weights.bin").write_bytes(files[name])
        ww.load(model, tmp_path / "weights.bin")
        assert same(theirs, model.state_dict())


def test_run_folders(tmp_path):
    from whatwhere.training.checkpoint import save
    from whatwhere.training.state import average

    last, best = network(), network()
    folder = tmp_path / "runs" / "cbam"
    folder.mkdir(parents=True)
    mean = average(last, 0.9)
    tensors = {f"model.{k}": v for k, v in last.state_dict().items()}
    save(folder / "last.safetensors", {**tensors, "optimizer.0.exp_avg": torch.zeros(2)}, {"step": 1, "optimizer": {}})
    save(folder / "best.safetensors", best.state_dict(), {"step": 1})
    described = {"task": "classify", "config": {"model": {"attention": "cbam"}}, "recipe": {}}
    (folder / "config.json").write_text(json.dumps(described))
    model = network()
    assert "best checkpoint" in str(ww.load(model, folder))
    assert same(best.state_dict(), model.state_dict())
    ww.load(model, folder, checkpoint="last")
    assert same(last.state_dict(), model.state_dict())
    averaged = {f"ema.{k}": v for k, v in mean.state_dict().items()}
    for value in averaged.values():
        value.add_(1)
    save(folder / "last.safetensors", {**tensors, **averaged}, {"step": 1, "optimizer": {}})
    ww.load(model, folder, checkpoint="last")
    assert torch.equal(model.head.weight, averaged["ema.module.head.weight"])

    fails(model, tmp_path / "runs", "there are runs in cbam")
    described["config"]["model"]["attention"] = "cbam:paper"
    (folder / "config.json").write_text(json.dumps(described))
    fails(model, folder, r"insert\(model, 'cbam', identity=False\)")
    content = bytearray((folder / "best.safetensors").read_bytes())
    content[-5] ^= 4
    (folder / "best.safetensors").write_bytes(content)
    fails(model, folder, "checksum")
