import pytest
import torch
from torch import nn

from whatwhere.training import DamagedCheckpoint
from whatwhere.training.checkpoint import load, pack_optimizer, read_info, save, unpack_optimizer

TENSORS = {
    "a": torch.randn(3, 4),
    "half": torch.randn(5).bfloat16(),
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 3),
    "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    shared = {**TENSORS, "tied": TENSORS["a"], "part": TENSORS["a"][1]}
    save(tmp_path / "x.safetensors", shared, {"step": 3, "loss": 0.1 + 0.2, "none": None})
    tensors, info = load(tmp_path / "x.safetensors")
    assert tensors.keys() == shared.keys()
    assert all(torch.equal(tensors[key], shared[key]) and tensors[key].dtype == shared[key].dtype for key in shared)
    assert info == {"step": 3, "loss": 0.1 + 0.2, "none": None} == read_info(tmp_path / "x.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save(path, {"a": torch.ones(2)}, {})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(path, {"a": torch.zeros(2)}, {})
    assert torch.equal(load(path)[0]["a"], torch.ones(2))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "other", "empty", "header"])
def test_damage_is_noticed(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    save(path, TENSORS, {})
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-1]
    elif damage == "flip":
        content[-5] ^= 4
    elif damage == "header":
        content[0] ^= 255
    elif damage == "empty":
        content = bytearray()
    path.write_bytes(bytes(content))
    if damage == "other":
        __import__("safetensors.torch").torch.save_file({"a": torch.ones(2)}, path)
    with pytest.raises(DamagedCheckpoint, match=r"x\.safetensors is damaged"):
        load(path)


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True, momentum=0.5),
    ],
    ids=["adamw", "sgd", "momentum", "rmsprop"],
)
def test_an_optimizer_goes_on_exactly(tmp_path, build):
    def steps(model, optimizer, n):
        for i in range(n):
            optimizer.zero_grad()
            model(torch.full((2, 3, 4, 4), float(i))).square().sum().backward()
            optimizer.step()

    def fresh():
        torch.manual_seed(0)
        model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return model, build(model.parameters())

    whole = fresh()
    steps(*whole, 3)
    tensors, values = pack_optimizer(whole[1])
    save(tmp_path / "o", tensors, values)
    other = fresh()
    other[0].load_state_dict(whole[0].state_dict())
    unpack_optimizer(other[1], *load(tmp_path / "o"))
    steps(*whole, 3)
    steps(*other, 3)
    assert torch.equal(whole[0].weight, other[0].weight)
    for p in other[0].parameters():
        for value in other[1].state[p].values():
            if isinstance(value, torch.Tensor) and value.ndim == 4:
                assert value.stride() == p.stride()
