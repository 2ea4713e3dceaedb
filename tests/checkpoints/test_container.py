"""One file of tensors and a record: what goes in comes out, and what was changed is noticed."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from whatwhere.checkpoints.container import DamagedCheckpoint, read_record, read_tensors, write_tensors

DTYPES = [torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.uint8, torch.bool]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_bit_for_bit(path, dtype):
    tensor = torch.randint(0, 2, (3, 5)).to(dtype)
    write_tensors(path, {"a": tensor, "turned": tensor.T, "empty": tensor[:0]}, {})
    found, record = read_tensors(path)
    assert record == {}
    assert found["a"].dtype == dtype
    assert torch.equal(found["a"].view(torch.uint8), tensor.view(torch.uint8))
    assert torch.equal(found["turned"].float(), tensor.T.float())
    assert found["empty"].shape == (0, 5)
    assert load_file(path).keys() == found.keys()  # other programs read it too


def test_the_record_comes_back_with_or_without_the_tensors(path):
    record = {"b": [1, None, "é"], "a": {"z": 0.1 + 0.2, "y": math.inf}}
    write_tensors(path, {"x": torch.ones(2)}, record)
    assert read_tensors(path)[1] == read_record(path) == record
    with pytest.raises(TypeError):
        write_tensors(path, {"x": torch.zeros(2)}, {"a": object()})
    assert read_record(path) == record


def test_a_file_of_another_program_has_no_record(path):
    save_file({"x": torch.ones(2)}, path)
    assert read_tensors(path)[1] == read_record(path) == {}


def test_a_changed_record_is_noticed(path):
    write_tensors(path, {"x": torch.ones(2)}, {"step": 3})
    content = path.read_bytes()
    assert content.count(rb"\"step\": 3") == 1
    path.write_bytes(content.replace(rb"\"step\": 3", rb"\"step\": 4"))
    assert read_record(path) == {"step": 4}
    with pytest.raises(DamagedCheckpoint, match="checksum") as caught:
        read_tensors(path)
    assert caught.value.reason == "its checksum does not fit what it holds"


@pytest.mark.parametrize("record", [{}, {"a": 1}])
def test_changed_names_shapes_dtypes_and_values_are_noticed(path, record):
    tensor = torch.arange(6, dtype=torch.int32)
    write_tensors(path, {"x": tensor}, record)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for other in ({"y": tensor}, {"x": tensor.view(2, 3)}, {"x": tensor.view(torch.float32)}, {"x": tensor + 1}, {}):
        save_file(other, path, metadata=metadata)
        with pytest.raises(DamagedCheckpoint, match="checksum"):
            read_tensors(path)
    save_file({"x": tensor}, path, metadata=metadata)
    assert torch.equal(read_tensors(path)[0]["x"], tensor)


@pytest.mark.parametrize("record", ["3", "{}", '{"crc32": null}', '{"crc32": "1"}', "[" * 5000, "{", '{"crc32": 1}'])
def test_records_that_are_none(path, record):
    save_file({"x": torch.ones(2)}, path, metadata={"whatwhere": record})
    with pytest.raises(DamagedCheckpoint, match="cannot be read as a safetensors file"):
        read_tensors(path)


def test_what_no_run_wrote_is_no_checkpoint_of_one(path):
    from whatwhere.training.checkpoint import load, read_info

    write_tensors(path, {"x": torch.ones(2)}, {"spec": json.loads("{}")})
    for read in (load, read_info):
        with pytest.raises(DamagedCheckpoint, match=r"x\.safetensors is damaged \(no training run wrote it\)"):
            read(path)
