import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from whatwhere.data import DataConfig, EpochBatches, MemoryDataset, open_data, open_folder, open_hugging_face
from whatwhere.errors import WhatwhereError

from .conftest import encoded, noise_image

datasets = pytest.importorskip("datasets")
NAMES = ["cat", "dog"]
NOW = {"progress": False, "size": 16}
LATER = {**NOW, "memory_gb": 0.0}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def typed(image: object = None, label: object = None, **more: object) -> "datasets.Features":
    label = datasets.ClassLabel(names=NAMES) if label is None else label
    return datasets.Features({"image": image or datasets.Image(), "label": label, **more})


def save(where: Path, features: object = None, **splits: dict[str, list]) -> str:
    made = {name: datasets.Dataset.from_dict(rows, features or typed()) for name, rows in splits.items()}
    datasets.DatasetDict(made).save_to_disk(where)
    return f"hf:{where}"


def rows(count: int = 4, start: int = 0) -> dict[str, list]:
    return {"image": [noise_image(start + i) for i in range(count)], "label": [i % 2 for i in range(count)]}


@pytest.mark.parametrize("how", [NOW, LATER], ids=["now", "later"])
def test_rows_keep_their_order_and_look_as_from_a_folder(tmp_path: Path, how: dict) -> None:
    where = save(tmp_path / "set", train=rows(6), validation=rows(4, 50), test=rows(2, 90))
    train, test = open_hugging_face(where, **how)
    assert isinstance(train, MemoryDataset) == (how is NOW)
    assert (train.classes, train.labels.tolist(), test.labels.tolist()) == (("cat", "dog"), [0, 1] * 3, [0, 1] * 2)
    assert train.name(5) == f"{where[3:]}, train, row 5"
    for i in range(6):
        path = tmp_path / "images" / ("train", "val")[i % 2] / NAMES[0] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(i).save(path)
    for split in ("train", "val"):
        (tmp_path / "images" / split / "dog").mkdir()
        noise_image(9).save(tmp_path / "images" / split / "dog" / "0.png")
    folder = open_folder(tmp_path / "images", **how).train
    cats = folder.__getitems__([0, 1, 2])["images"]  # of rows 0, 2, 4
    batch = train.__getitems__([4, 0, 2])
    assert torch.equal(batch["images"], cats[[2, 0, 1]])
    assert batch["index"].tolist() == [4, 0, 2]


def test_bytes_paths_arrays_and_images_give_the_same(tmp_path: Path) -> None:
    images = [noise_image(i) for i in range(4)]
    files = []
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
        files.append(str(tmp_path / f"{i}.png"))
    forms = {
        "images": (datasets.Image(), images),
        "bytes": (datasets.Value("binary"), [encoded(image, "PNG") for image in images]),
        "paths": (datasets.Value("string"), files),
        "files": (datasets.Image(), files),
        "arrays": (datasets.Array3D((32, 40, 3), "uint8"), [np.asarray(image) for image in images]),
    }
    found = {}
    for name, (feature, values) in forms.items():
        part = {"image": values, "label": [0, 1, 0, 1]}
        where = save(tmp_path / name, typed(feature), train=part, test=part)
        found[name] = open_hugging_face(where, **LATER).train.__getitems__(range(4))["images"]
        assert open_hugging_face(where, progress=False).train.size == 32
    assert all(torch.equal(found["images"], one) for one in found.values())
    assert found["images"].float().std() > 10


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_rows_are_reported_and_left_out(tmp_path: Path, workers: int) -> None:
    good = [encoded(noise_image(i), "PNG") for i in range(6)]
    values = [good[0], b"", good[2], b"not an image", None, good[5]]
    part = {"image": values, "label": [0, 0, 0, 1, 1, 1]}
    where = save(tmp_path / "set", typed(datasets.Value("binary")), train=part, test=rows_of(good))
    names = [f"{where[3:]}, train, row {row}" for row in (1, 3, 4)]
    with pytest.warns(RuntimeWarning, match="left out 3 broken images"):
        train = open_hugging_face(where, **NOW).train
    assert [one.path for one in train.broken] == names
    assert train.labels.tolist() == [0, 0, 1]
    train = open_hugging_face(where, **LATER).train
    loader = DataLoader(train, batch_sampler=EpochBatches(6, 4), collate_fn=dict, num_workers=workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert sorted(i for batch in loader for i in batch["index"].tolist()) == [0, 2, 5]
    assert sorted(one.path for one in train.broken) == names
    assert {one.path: one.reason for one in train.broken}[names[0]] == "empty file"
    assert {one.path: one.reason for one in train.broken}[names[2]] == "there is no image"


def rows_of(images: list[bytes]) -> dict[str, list]:
    return {"image": images, "label": [i % 2 for i in range(len(images))]}


def test_columns_and_splits_by_name(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "front": datasets.Image(),
            "back": datasets.Image(),
            "coarse": datasets.ClassLabel(names=["a", "b", "c"]),
            "fine": datasets.Value("string"),
        }
    )
    part = {
        "front": [noise_image(i) for i in range(4)],
        "back": [noise_image(9 + i) for i in range(4)],
        "coarse": [2, 1, 0, 0],
        "fine": ["z", "y", "z", "x"],
    }
    where = save(tmp_path / "set", features, fit=part, held=part)
    one = open_hugging_face(f"{where}:train=fit:test=held:image=front", **NOW).train
    two = open_hugging_face(f"{where}:train=fit:test=held:image=back:label=fine", **NOW).train
    assert (one.classes, one.labels.tolist()) == (("a", "b", "c"), [2, 1, 0, 0])
    assert (two.classes, two.labels.tolist()) == (("x", "y", "z"), [2, 1, 2, 0])
    assert not torch.equal(one.images, two.images)


def test_whole_numbers_that_do_not_start_at_zero(tmp_path: Path) -> None:
    part = {"image": rows()["image"], "label": [7, 3, 3, 7]}
    train = open_hugging_face(save(tmp_path / "set", typed(label=datasets.Value("int32")), train=part, test=part)).train
    assert (train.classes, train.labels.tolist()) == (("3", "7"), [1, 0, 0, 1])


def test_limits_name_the_rows(tmp_path: Path) -> None:
    where = save(tmp_path / "set", train=rows(10), test=rows(6, 50))
    train, test = open_data(DataConfig(where, size=8, train_limit=4, test_limit=2, data_seed=1), progress=False)
    assert train.labels.bincount().tolist() == [2, 2]
    whole = open_data(DataConfig(where, size=8), progress=False).train
    rows_kept = [int(train.name(i).rpartition(" ")[2]) for i in range(4)]
    assert torch.equal(train.images, whole.images[rows_kept])
    assert len(test) == 2
    assert not open_data(DataConfig(where, flip=False, size=8), progress=False).train.flip


def test_a_folder_for_load_dataset(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(NAMES):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(2):
                noise_image(10 * label + i).save(tmp_path / "set" / split / name / f"{i}.png")
    train, test = open_hugging_face(f"hf:{tmp_path / 'set'}", **NOW)
    assert (train.classes, train.labels.tolist(), len(test)) == (("cat", "dog"), [0, 0, 1, 1], 4)


def refused(where: str, message: str) -> None:
    with pytest.raises(WhatwhereError, match=message):
        open_hugging_face(where, **NOW)


def test_what_is_refused(tmp_path: Path) -> None:
    where = save(tmp_path / "set", train=rows(), test=rows())
    refused("hf:", "'hf:' names no dataset")
    refused(f"{where}:imag=x", "hf has no option 'imag': it takes config, .* did you mean 'image'")
    refused(f"{where}:image=pixels", "has no column 'pixels': it has image, label")
    refused(f"{where}:test=tst", "has no split 'tst': it has train, test; did you mean 'test'")
    refused(f"{where}:config=plain", "written by save_to_disk, which knows no config")
    refused("hf:./no/such/set", "there is no folder ./no/such/set")
    refused("hf:no-such-owner/no-such-set", "the dataset no-such-owner/no-such-set cannot be loaded: ")
    refused(save(tmp_path / "a", fit=rows(), test=rows()), "no split train or training: it has fit, test; say train=")
    refused(save(tmp_path / "b", train=rows()), "no split validation or .* it has train; say test=NAME")
    secret = {**rows(), "label": [-1] * 4}
    refused(save(tmp_path / "c", train=rows(), test=secret), "test: row 0 has the label -1.* test=NAME")
    missing = {**rows(), "label": [0, None, 1, None]}
    refused(save(tmp_path / "d", train=missing, test=rows()), "train: 2 rows have no label")
    one = typed(label=datasets.ClassLabel(names=["cat"]))
    same = {**rows(), "label": [0] * 4}
    refused(save(tmp_path / "e", one, train=same, test=same), "only one class")
    broken = {"image": [b"", b"", encoded(noise_image()), b""], "label": [0, 1, 0, 1]}
    refused(
        save(tmp_path / "f", typed(datasets.Value("binary")), train=broken, test=broken), "class 'dog' has no image"
    )
    datasets.Dataset.from_dict(rows(), typed()).save_to_disk(tmp_path / "g")
    refused(f"hf:{tmp_path / 'g'}", "holds one split alone")
    with pytest.raises(WhatwhereError, match="train_limit=1 leaves some of the 2 classes"):
        open_hugging_face(where, train_limit=1, **NOW)


def test_an_image_is_what_it_was_saved_as(tmp_path: Path) -> None:
    see_through = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    part = {"image": [see_through, noise_image()], "label": [0, 1]}
    train = open_hugging_face(save(tmp_path / "set", train=part, test=part), **NOW).train
    assert train.images[0].unique().tolist() == [255]  # on white, as from a file
