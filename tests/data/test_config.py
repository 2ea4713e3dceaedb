from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from whatwhere.data import DataConfig, SceneConfig, absolute, open_data
from whatwhere.data.config import scene_config
from whatwhere.errors import WhatwhereError


def test_scenes_and_their_options() -> None:
    assert scene_config(DataConfig()) == SceneConfig()
    assert scene_config(DataConfig(size=64, data_seed=3)) == SceneConfig(size=64, seed=3)
    text = "scenes:size=64:train=400:digits=1-4:scale=0.2-0.4:clutter=6:contrast=0.1:seed=5"
    assert scene_config(DataConfig(text, data_seed=9)) == SceneConfig(
        size=64, train=400, digits=(1, 4), scale=(0.2, 0.4), clutter=(6, 6), contrast=0.1, seed=5
    )


def test_limits_make_only_so_many_scenes_and_stay_even() -> None:
    train, test = open_data(DataConfig(train_limit=50, test_limit=20), progress=False)
    more, _ = open_data(DataConfig(train_limit=60, test_limit=20), progress=False)
    assert train.labels.bincount().tolist() == [5] * 10
    assert test.labels.bincount().tolist() == [2] * 10
    assert torch.equal(more.__getitems__(range(50))["images"], train.__getitems__(range(50))["images"])
    assert scene_config(DataConfig("scenes:train=40", train_limit=999)).train == 40


def test_default_size_is_not_for_scenes_but_for_folders(folder: Callable[..., Path]) -> None:
    few = DataConfig(train_limit=10, test_limit=10)
    assert open_data(few, default_size=224, progress=False).train.size == 32
    root = folder(train={"a": 2, "b": 2}, val={"a": 1, "b": 1})
    assert open_data(DataConfig(str(root)), default_size=20, progress=False).train.size == 20
    assert open_data(DataConfig(str(root), size=12), default_size=20, progress=False).train.size == 12


def test_flip_can_be_said(folder: Callable[..., Path]) -> None:
    root = str(folder(train={"a": 2, "b": 2}, val={"a": 1, "b": 1}))
    for data, default in (("scenes:train=10:test=10", False), (root, True)):
        for flip in (None, False, True):
            splits = open_data(DataConfig(data, flip=flip), progress=False)
            assert [part.flip for part in splits] == [default if flip is None else flip] * 2


def test_a_folder_gets_everything(folder: Callable[..., Path]) -> None:
    root = folder(train={"a": 6, "b": 6}, val={"a": 4, "b": 4})
    config = DataConfig(str(root), size=8, train_limit=4, test_limit=2, data_seed=1, memory_gb=0)
    train, test = open_data(config, progress=False)
    assert (type(train).__name__, len(train), len(test)) == ("FolderDataset", 4, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig("scene"), "'scene', which is no folder here; give 'scenes' .* did you mean 'scenes'"),
        (DataConfig("/no/such/folder"), "'/no/such/folder', which is no folder here"),
        (DataConfig(""), "which is no folder here"),
        (DataConfig("hf"), "'hf', which is no folder here; .* hf:NAME_OR_DIR, or wds:DIR"),
        (DataConfig("hff:cifar10"), "did you mean 'hf'"),
        (DataConfig("wds:no-such-folder"), "there is no folder 'no-such-folder'; give wds:DIR"),
        (DataConfig("scenes:clutte=3"), "scenes has no option 'clutte': it takes size, .* did you mean 'clutter'"),
        (DataConfig("scenes:size"), "'size' in 'scenes:size' is neither"),
        (DataConfig("scenes:size=big"), "size is a whole number, not 'big'"),
        (DataConfig("scenes:contrast=nan"), "contrast is a number, not 'nan'"),
        (DataConfig("scenes:digits=a-b"), "digits is least-most, such as 2-5, not 'a-b'"),
        (DataConfig("scenes:size=64", size=48), "size 64, but size=48"),
        (DataConfig(train_limit=0), "train_limit must be at least 1"),
        (DataConfig(size=4), "16 to 1024"),
    ],
)
def test_errors_say_what_is_allowed(config: DataConfig, message: str) -> None:
    with pytest.raises(WhatwhereError, match=message):
        open_data(config, progress=False)


def test_a_folder_is_written_in_full_whatever_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "scenes", "cifar10"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    full = {"here": f"{tmp_path}/here", "wds:here:shuffle=3": f"wds:{tmp_path}/here:shuffle=3"}
    full |= {"hf:here": f"hf:{tmp_path}/here", "hf:cifar10:image=img": f"hf:{tmp_path}/cifar10:image=img"}
    full |= {same: same for same in ("scenes", "scenes:size=64", "hf:cifar100", "no/such", "", "hf:", "wds:none")}
    assert {data: absolute(data) for data in full} == full
