import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.data import CaptionDataset, Preprocessing, Vocabulary
from whatwhere.data.captions.dataset import Described
from whatwhere.errors import WhatwhereError
from whatwhere.graph.cut import Graph, cut
from whatwhere.networks.captioning.captioner import Captioner, CaptionerShape
from whatwhere.tasks.captioning import features
from whatwhere.tasks.captioning.features import cached_values

SIZE = 16
WORDS = Vocabulary(["dog"])
PREPARE = Preprocessing(SIZE, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)).normalise


class Encoder(torch.nn.Module):
    """Two blocks, of which the first is frozen, with a shortcut into the second."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.norm = torch.nn.BatchNorm2d(4)
        self.last = torch.nn.Conv2d(4, 4, 3, padding=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(scale * torch.linspace(-1, 1, parameter.numel()).sin().view_as(parameter))
        for module in (self.conv, self.norm):
            module.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.nn.functional.relu(self.norm(self.conv(x)))
        return torch.nn.functional.relu(self.last(first) + first)


def captioner(scale: float = 1.0) -> Captioner:
    encoder = Encoder(scale).eval()
    parts = cut(Graph(encoder, torch.zeros(1, 3, SIZE, 2 * SIZE)), ["relu_1"])
    torch.manual_seed(0)
    return Captioner(encoder, parts, CaptionerShape(3, "soft", 4, 4, 4))


def images(root: Path, count: int = 5, broken: tuple[int, ...] = ()) -> list[Described]:
    found = []
    for number in range(count):
        path = root / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        if not path.exists():  # another time of the last change would be another image
            path.write_bytes(b"no image") if number in broken else Image.fromarray(pixels).save(path)
        found.append(Described(str(path), ("dog",)))
    return found


def dataset(root: Path, count: int = 5, broken: tuple[int, ...] = (), size: int = SIZE) -> CaptionDataset:
    return CaptionDataset(images(root, count, broken), WORDS, size, sentences=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHATWHERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "default_device", lambda: torch.device("cpu"))
    return tmp_path / "cache"


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the size of each batch that is encoded."""
    sizes: list[int] = []
    plain = Captioner.frozen_values

    def counted(self: Captioner, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append(len(batch))
        return plain(self, batch)

    monkeypatch.setattr(Captioner, "frozen_values", counted)
    return sizes


def values(data: CaptionDataset, model: Captioner | None = None, mirrored: bool = False, prepare: Any = PREPARE) -> Any:
    return cached_values(model or captioner(), data, prepare, mirrored=mirrored, progress=False)


def test_values_are_those_of_the_frozen_part_in_half_precision(tmp_path: Path) -> None:
    data, model = dataset(tmp_path, 5), captioner()
    found = values(data, model, mirrored=True)
    pixels = torch.stack([data.fetch(number) for number in range(5)])  # type: ignore[arg-type]
    for arrays, batch in ((found.plain, pixels), (found.mirrored, pixels.flip(-1))):
        expected = model.frozen_values(PREPARE(batch))
        assert set(arrays) == set(expected) == {"relu"}
        for name, value in expected.items():
            assert arrays[name].dtype == np.float16
            assert arrays[name].shape == value.shape
            assert np.array_equal(arrays[name], value.half().numpy())
    assert found.readable.tolist() == [True] * 5
    assert not np.array_equal(found.plain["relu"], found.mirrored["relu"])


def test_a_captioner_goes_on_from_them(tmp_path: Path) -> None:
    data, model = dataset(tmp_path), captioner().eval()
    data.use_values(*values(data, model, mirrored=True))
    batch = data.__getitems__([3, 1])
    words = batch["words"]
    pixels = torch.stack([data.fetch(number) for number in (3, 1)])  # type: ignore[arg-type]
    with torch.no_grad():
        expected = model(PREPARE(pixels), words)
        assert torch.allclose(model(batch["values"], words), expected, atol=1e-3)
        flipped = model(PREPARE(pixels.flip(-1)), words)
        assert torch.allclose(model(batch["mirrored"], words), flipped, atol=1e-3)


@pytest.mark.parametrize("size", [1, 3])
def test_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: list[int], size: int) -> None:
    monkeypatch.setattr(features, "BATCH", size)
    data = dataset(tmp_path, 7, broken=(0, 3, 4, 5, 6))
    with pytest.warns(RuntimeWarning):
        found = values(data)
    assert count == ([1, 1] if size == 1 else [2])
    assert found.readable.tolist() == [number in (1, 2) for number in range(7)]
    for number in range(7):
        expected = torch.zeros(1, 4, 8, 8)
        if number in (1, 2):
            expected = captioner().frozen_values(PREPARE(data.fetch(number)[None]))["relu"]  # type: ignore[index]
        assert torch.allclose(torch.from_numpy(found.plain["relu"][number].copy()), expected[0].half(), atol=1e-3)


def test_values_too_large_for_half_precision_are_its_largest(tmp_path: Path) -> None:
    found = values(dataset(tmp_path), captioner(1e4))
    assert found.plain["relu"].max() == 65504


def test_a_second_call_reads_from_the_disk(tmp_path: Path, count: list[int]) -> None:
    first = values(dataset(tmp_path))
    assert count == [5]
    again = values(dataset(tmp_path))
    assert count == [5]
    assert np.array_equal(first.plain["relu"], again.plain["relu"])
    assert again.mirrored is None
    with_mirrored = values(dataset(tmp_path), mirrored=True)
    assert count == [5, 5]  # only the mirrored ones are made
    assert np.array_equal(with_mirrored.plain["relu"], first.plain["relu"])
    values(dataset(tmp_path), mirrored=True)
    assert count == [5, 5]


def test_broken_images_are_known_on_the_second_call_too(tmp_path: Path, count: list[int]) -> None:
    with pytest.warns(RuntimeWarning, match=r"left out a broken image: .*2.png: not an image") as seen:
        values(dataset(tmp_path, broken=(2,)), mirrored=True)
    assert len(seen) == 1
    again = dataset(tmp_path, broken=(2,))
    again.use_values(*values(again, mirrored=True))
    assert count == [4, 4]
    assert [one.path for one in again.broken] == [str(tmp_path / "2.png")]
    batch = again.__getitems__(range(5))
    assert batch["index"].tolist() == [0, 1, 3, 4]
    assert batch["values"]["relu"].shape == batch["mirrored"]["relu"].shape == (4, 4, 8, 8)
    assert batch["values"]["relu"].flatten(1).any(1).all()


def test_all_images_broken(tmp_path: Path, cache: Path) -> None:
    data = dataset(tmp_path, 2, broken=(0, 1))
    message = rf"none of the 2 images can be read, such as {tmp_path / '0.png'}: not an image"
    with pytest.warns(RuntimeWarning), pytest.raises(WhatwhereError, match=message):
        values(data)
    assert files(cache) == []


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def wrapped(images: torch.Tensor) -> torch.Tensor:
    return PREPARE(images) + 1


CHANGES: dict[str, Callable[[Path], Any]] = {
    "weights": lambda root: values(dataset(root), captioner(2.0)),
    "a statistic of a normalisation": lambda root: values(dataset(root), changed_statistic()),
    "a stride": lambda root: values(dataset(root), changed_stride()),
    "size": lambda root: values(dataset(root, size=SIZE + 2)),
    "normalisation": lambda root: values(dataset(root), prepare=wrapped),
    "number of images": lambda root: values(dataset(root, 4)),
    "an image": lambda root: values(changed_image(root)),
    "a missing image": lambda root: values(missing_image(root)),
    "order": lambda root: values(CaptionDataset(images(root)[::-1], WORDS, SIZE, sentences=True)),
}


def changed_statistic() -> Captioner:
    model = captioner()
    model.encoder.norm.running_mean[0] = 1  # type: ignore[union-attr, index, operator]
    return model


def changed_stride() -> Captioner:
    model = captioner()
    model.encoder.conv.stride = (1, 1)  # type: ignore[union-attr, assignment]
    return model


def changed_image(root: Path) -> CaptionDataset:
    data = dataset(root)
    Image.new("RGB", (20, 20), "red").save(root / "1.png")
    return data


def missing_image(root: Path) -> CaptionDataset:
    data = dataset(root)
    (root / "1.png").unlink()
    return data


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.filterwarnings("ignore:left out a broken image")
def test_other_values_have_another_file(tmp_path: Path, cache: Path, count: list[int], what: str) -> None:
    data = dataset(tmp_path)
    before = values(data).plain["relu"].copy()
    found = CHANGES[what](tmp_path)
    assert len(count) == 2
    assert len(list(cache.iterdir())) == 2
    assert not np.array_equal(found.plain["relu"], before)


def test_what_does_not_change_the_values_takes_the_same_file(tmp_path: Path, count: list[int]) -> None:
    data = dataset(tmp_path)
    values(data)
    model = captioner()
    with torch.no_grad():
        model.encoder.last.weight.add_(1)  # type: ignore[union-attr, operator]
        model.output.weight.add_(1)
    model.encoder.norm.num_batches_tracked += 0  # type: ignore[union-attr, operator]
    values(data, model.train())
    assert count == [5]


def test_images_in_memory_are_known_by_their_pixels(count: list[int], cache: Path) -> None:
    scenes = [Described(f"scene {number}", ("dog",)) for number in range(3)]
    pixels = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for change in (0, 0, 1):
        pixels = pixels.clone()
        pixels[2, 0, 0, 0] += change
        values(CaptionDataset(scenes, WORDS, SIZE, sentences=True, pixels=pixels))
    assert count == [3, 3]
    assert len(list(cache.iterdir())) == 2


def test_functions_are_named_without_their_addresses() -> None:
    names = [features._name(one) for one in ("conv", torch.nn.functional.relu, torch.cat, torch.ops.aten.relu)]
    assert names[:2] == ["conv", "torch.nn.functional.relu"]
    assert not any("0x" in name for name in names)


@pytest.mark.slow
def test_the_file_is_the_same_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_features as t;"
        "data = t.CaptionDataset([t.Described('0.png', ('dog',))], t.WORDS, t.SIZE, sentences=True);"
        "print(t.features._key(t.captioner(), data, t.PREPARE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    data = CaptionDataset([Described("0.png", ("dog",))], WORDS, SIZE, sentences=True)
    assert done.stdout.strip() == features._key(captioner(), data, PREPARE)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_of_what_was_interrupted(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, count: list[int], error: Any
) -> None:
    monkeypatch.setattr(features, "BATCH", 2)
    plain = features._File.write

    def full(self: Any, numbers: Any, rows: Any) -> None:
        if numbers[0] >= 2:
            raise error
        plain(self, numbers, rows)

    monkeypatch.setattr(features._File, "write", full)
    with pytest.raises(error if isinstance(error, type) else OSError):
        values(dataset(tmp_path))
    assert files(cache) == []
    monkeypatch.setattr(features._File, "write", plain)
    count.clear()
    assert values(dataset(tmp_path)).readable.all()
    assert count == [2, 2, 1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a file that is always full")
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process() -> None:
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb", buffering=0) as stream:
        features._File(stream, (1, 4)).write([0], np.zeros((1, 4), np.float16))


def test_what_a_killed_process_left_is_not_taken_for_whole(tmp_path: Path, cache: Path, count: list[int]) -> None:
    values(dataset(tmp_path))
    (folder,) = cache.iterdir()
    (folder / "plain").rename(folder / ".plain-0123abcd")
    (folder / ".plain-0123abcd" / "relu.npy").write_bytes(b"half a file")
    found = values(dataset(tmp_path))
    assert count == [5, 5]
    assert found.plain["relu"].shape == (5, 4, 8, 8)
    assert sorted(path.name for path in folder.iterdir()) == [".plain-0123abcd", "plain"]


def test_another_process_may_have_made_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.replace

    def late(source: Any, target: Any) -> None:
        Path(target).mkdir()
        plain(Path(source) / "readable.npy", Path(target) / "readable.npy")
        plain(Path(source) / "relu.npy", Path(target) / "relu.npy")
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(os, "replace", late)
    assert values(dataset(tmp_path)).plain["relu"].shape == (5, 4, 8, 8)
    monkeypatch.undo()


def test_a_folder_that_cannot_be_named_is_an_error(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        values(dataset(tmp_path))
    assert files(cache) == []


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = captioner().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    state = torch.get_rng_state()
    values(dataset(tmp_path), model, mirrored=True)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
