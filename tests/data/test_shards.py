import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from whatwhere.data import DataConfig, open_data, open_shards, read_image
from whatwhere.data.stream import ShardStream
from whatwhere.errors import WhatwhereError

from .conftest import encoded, noise_image
from .shards import add, write_shards

pytest.importorskip("webdataset")
QUIET = {"progress": False, "size": 16}


def tiny(root: Path, counts: list[int], **options: object) -> str:
    write_shards(root, "train", counts, **options)
    write_shards(root, "val", [3, 4], start=500)
    return f"wds:{root}"


def test_images_by_index_in_the_order_of_the_files(tmp_path: Path) -> None:
    train, test = open_shards(tiny(tmp_path, [5, 3]), **QUIET)
    assert (len(train), len(test), train.classes, train.size) == (8, 7, ("0", "1"), 16)
    assert train.labels.tolist() == [0, 1] * 4
    batch = test.__getitems__([6, 0, 3])
    expected = torch.stack([read_image(noise_image(500 + i), 16) for i in (6, 0, 3)])
    assert torch.equal(batch["images"], expected)
    assert batch["labels"].tolist() == [0, 0, 1]
    assert train.name(6) == f"{tmp_path / 'tiny-train-0001.tar'}/00006"
    assert open_shards(f"wds:{tmp_path}", progress=False).train.size == 32


def test_folders_of_splits_and_names_of_classes(tmp_path: Path) -> None:
    for split, there in (("train", "train"), ("validation", "val"), ("test", "test")):
        write_shards(tmp_path / there, split, [4])
        for file in (tmp_path / there).iterdir():
            file.rename(file.with_name(file.name.replace("tiny", "x").replace(split, "s")))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    train, test = open_shards(f"wds:{tmp_path}", **QUIET)
    assert train.classes == ("cat", "dog")
    assert test.name(0) == f"{tmp_path / 'val' / 'x-s-0000.tar'}/00000"


def test_the_index_is_made_again_when_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tiny(tmp_path, [2, 2])
    assert len(open_shards(where, **QUIET).train) == 4
    with monkeypatch.context() as patch:
        patch.setattr("whatwhere.data.tar_index._scan", None)  # from the cache
        assert len(open_shards(where, **QUIET).train) == 4
    write_shards(tmp_path, "train", [3, 2])
    assert len(open_shards(where, **QUIET).train) == 5


def epoch(dataset: object, seed: int = 0, workers: int = 0, **options: int) -> list[dict[str, torch.Tensor]]:
    stream = dataset.stream(seed, **{"batch_size": 2, "batches": 4, **options})
    assert isinstance(stream, ShardStream)
    if workers:
        return list(DataLoader(stream, batch_size=None, num_workers=stream.workers(workers), collate_fn=dict))
    return list(stream)


def order(batches: list[dict[str, torch.Tensor]]) -> list[int]:
    return [i for batch in batches for i in batch["index"].tolist()]


def test_a_stream_gives_each_image_once_in_an_order_of_the_seed(tmp_path: Path) -> None:
    train = open_shards(tiny(tmp_path, [2] * 4), **QUIET).train
    batches = epoch(train)
    assert sorted(order(batches)) == list(range(8))  # four readers with one file each
    assert order(batches) == order(epoch(train))
    assert len({tuple(order(epoch(train, seed))) for seed in range(6)}) > 3
    for batch in batches:
        assert torch.equal(batch["images"], train.__getitems__(batch["index"].tolist())["images"])
        assert torch.equal(batch["labels"], train.labels[batch["index"]])
        assert batch["images"].dtype == torch.uint8


def test_one_reader_shuffles_the_images_too(tmp_path: Path) -> None:
    train = open_shards(tiny(tmp_path, [12]) + ":shuffle=12", **QUIET).train
    orders = [order(epoch(train, seed, batches=6)) for seed in range(2)]
    assert [sorted(one) for one in orders] == [list(range(12))] * 2
    assert orders[0] != orders[1] != list(range(12))
    in_order = open_shards(f"wds:{tmp_path}:shuffle=1", **QUIET).train
    assert order(epoch(in_order, batches=6)) != orders[0]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_do_not_change_the_order(tmp_path: Path, workers: int) -> None:
    train = open_shards(tiny(tmp_path, [3, 2, 4, 3]), **QUIET).train
    here, there = epoch(train, batches=7), epoch(train, workers=workers, batches=7)
    assert order(here) == order(there)
    assert all(torch.equal(a["images"], b["images"]) for a, b in zip(here, there, strict=True))


def test_processes_share_the_files_and_have_as_many_batches(tmp_path: Path) -> None:
    train = open_shards(tiny(tmp_path, [2] * 6), **QUIET).train
    parts = [order(epoch(train, batches=2, rank=rank, processes=3)) for rank in range(3)]
    assert [len(part) for part in parts] == [4, 4, 4]
    assert sorted(i for part in parts for i in part) == list(range(12))
    with pytest.raises(
        WhatwhereError, match=r"6 tar files to learn from, which 7 processes cannot share.*stream=false"
    ):
        epoch(train, rank=0, processes=7)


def test_an_uneven_reader_repeats_images_and_never_falls_short(tmp_path: Path) -> None:
    train = open_shards(tiny(tmp_path, [1, 9]), **QUIET).train
    seen = Counter(order(epoch(train, batches=4)))
    assert sum(seen.values()) == 8
    assert seen[0] == 4  # the only image of its reader


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_named_and_filled_up(tmp_path: Path, workers: int) -> None:
    train = open_shards(tiny(tmp_path, [4, 4], broken=(1, 6)), **QUIET).train
    if workers:
        batches = epoch(train, workers=workers, batches=4)
    else:
        with pytest.warns(RuntimeWarning, match="left out a broken image: .*tiny-train-0000.tar/00001") as caught:
            batches = epoch(train, batches=4)
        assert sum(one.category is RuntimeWarning for one in caught) == 2
    assert {len(batch["index"]) for batch in batches} == {2}
    assert set(order(batches)) == {0, 2, 3, 4, 5, 7}
    assert sorted(one.path for one in train.broken) == [train.name(1), train.name(6)]
    assert all("not an image" in one.reason for one in train.broken)


def test_a_file_without_a_readable_image_is_an_error(tmp_path: Path) -> None:
    train = open_shards(tiny(tmp_path, [2, 2], broken=(0, 1)), **QUIET).train
    with pytest.warns(RuntimeWarning), pytest.raises(WhatwhereError, match="finds no image that it can read"):
        epoch(train)


def test_a_file_that_changed_meanwhile_is_an_error(tmp_path: Path) -> None:
    train = open_shards(tiny(tmp_path, [4]), **QUIET).train
    with tarfile.open(tmp_path / "tiny-train-0000.tar", "w") as tar:
        add(tar, "new.png", encoded(noise_image(), "PNG"))
        add(tar, "new.cls", b"0")
    with pytest.raises(WhatwhereError, match=r"tiny-train-0000.tar has changed since it was opened: new was not in it"):
        epoch(train)


def test_by_index_and_limits(tmp_path: Path) -> None:
    where = tiny(tmp_path, [6, 6])
    with pytest.raises(WhatwhereError, match=r"train_limit needs images that are read by index: .*:stream=false"):
        open_data(DataConfig(where, train_limit=4), progress=False)
    train, test = open_data(DataConfig(f"{where}:stream=false", train_limit=4, test_limit=2), progress=False)
    assert not hasattr(train, "stream")
    assert train.labels.bincount().tolist() == [2, 2]
    assert len(test) == 2


def refused(where: object, message: str) -> None:
    with pytest.raises(WhatwhereError, match=message):
        open_shards(f"wds:{where}", **QUIET)


def spoilt(root: Path, *members: tuple[str, bytes]) -> Path:
    tiny(root, [2])
    with tarfile.open(root / "tiny-train-0000.tar", "w") as tar:
        for name, data in members:
            add(tar, name, data)
    return root


def test_what_is_refused(tmp_path: Path) -> None:
    png = encoded(noise_image(), "PNG")
    refused("", "there is no folder ''")
    refused(tmp_path / "none", "there is no folder .*none'; give wds:DIR, expected")
    refused(f"{tmp_path}:strem=false", "has no option 'strem': it takes stream, shuffle; did you mean 'stream'")
    refused(f"{tmp_path}:stream=maybe", "stream is true or false")
    refused(f"{tmp_path}:shuffle=0", "shuffle is at least 1")
    refused(tmp_path, r"has no tar files to learn from \(train\); expected")
    refused(write_shards(tmp_path / "a", "train", [2]), r"has no tar files to test on \(val, validation")
    refused(spoilt(tmp_path / "b", ("x.png", png)), "the sample x has no .cls file with its class")
    refused(spoilt(tmp_path / "c", ("x.cls", b"0")), "the sample x has no image")
    refused(spoilt(tmp_path / "d", ("x.png", png), ("x.cls", b"cat")), "x.cls holds b'cat', and a whole number")
    twice = (("x.png", png), ("x.cls", b"0"), ("y.png", png), ("y.cls", b"1"), ("x.png", png), ("x.cls", b"0"))
    refused(spoilt(tmp_path / "e", *twice), "two samples x, apart from each other")
    refused(spoilt(tmp_path / "f"), "the tar files to learn from in .* hold no image")
    refused(
        spoilt(tmp_path / "g", ("x.png", png), ("x.cls", b"0")), "image of class 1, but the training images .* up to 0"
    )
    where = spoilt(tmp_path / "h", ("x.png", png), ("x.cls", b"5"), ("y.png", png), ("y.cls", b"0"))
    (where / "classes.txt").write_text("cat\ndog\n")
    refused(where, "image of class 5, but .*classes.txt names 2")
    tiny(tmp_path / "i", [3])
    file = tmp_path / "i" / "tiny-train-0000.tar"
    file.write_bytes(file.read_bytes()[:900])
    refused(tmp_path / "i", "tiny-train-0000.tar .*(cut off|cannot be read)")
    file.write_bytes(b"no tar file at all" * 100)
    refused(tmp_path / "i", "cannot be read as a tar file without compression")
    tiny(tmp_path / "j", [4], broken=(1, 3))
    refused(tmp_path / "j", "class '1' has no image that can be read: all 2 tried")
