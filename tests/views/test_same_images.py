"""Look shows a network exactly what training and evaluation show it, and says the same about what cannot be read."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import whatwhere as ww
from whatwhere.data import DataConfig, open_folder
from whatwhere.tasks.classify import Classify, ClassifyConfig
from whatwhere.views import look

pytest.importorskip("pytorch_grad_cam")

SIZE = 32


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def photo(width, height):
    return Image.fromarray(noise(9, 12, 3)).resize((width, height), Image.Resampling.BICUBIC)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def clear_palette():
    image = photo(50, 40).quantize(16)
    image.info["transparency"] = image.getpixel((3, 3))
    return image


FILES = {
    "grey8.png": (Image.fromarray(noise(41, 53)), {}),
    "grey16.png": (Image.fromarray(noise(41, 53, dtype=np.uint16)), {}),
    "rgb.png": (photo(50, 40), {}),
    "rgb.jpg": (photo(50, 40), {}),
    "palette.png": (photo(50, 40).quantize(16), {}),
    "palette_clear.png": (clear_palette(), {}),
    "rgba.png": (Image.fromarray(noise(41, 53, 4)), {}),
    "grey_alpha.png": (Image.fromarray(noise(41, 53, 2), "LA"), {}),
    "cmyk.jpg": (photo(50, 40).convert("CMYK"), {}),
    "bits.png": (photo(50, 40).convert("1"), {}),
    "animation.gif": (photo(50, 40), {"save_all": True, "append_images": [photo(40, 50).resize((50, 40))]}),
    **{f"turned{i}.jpg": (photo(50, 41), {"exif": turned(i)}) for i in range(1, 9)},
    "wide.png": (photo(301, 37), {}),
    "tall.png": (photo(33, 200), {}),
    "tiny.png": (photo(5, 3), {}),
    "pixel.png": (photo(1, 1), {}),
    "huge.jpg": (photo(1603, 1201), {}),
    "fits.png": (photo(SIZE, SIZE), {}),
}


class Watched(nn.Sequential):
    """A classifier that keeps its last input."""

    def forward(self, x):
        self.last = x.detach().clone()
        return super().forward(x)


def network():
    torch.manual_seed(0)
    return Watched(nn.Conv2d(3, 4, 3), ww.CBAM(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for name in ("all", "other"):
            (root / split / name).mkdir(parents=True)
        photo(40, 40).save(root / split / "other" / "one.png")
    for name, (image, options) in FILES.items():
        image.save(root / "test" / "all" / name, **options)
    photo(40, 40).save(root / "train" / "all" / "one.png")
    return root


@pytest.fixture(scope="module", params=["in memory", "decoded later"])
def task(folder, request):
    memory = 4.0 if request.param == "in memory" else 0.0
    return Classify(ClassifyConfig(data=DataConfig(str(folder), size=SIZE, memory_gb=memory)))


@pytest.mark.parametrize("name", FILES)
def test_the_network_gets_the_same_tensor_from_look_and_from_evaluation(task, folder, name):
    path = folder / "test" / "all" / name
    index = next(i for i in range(len(task.test_set)) if task.test_set.name(i) == str(path))
    expected = task.prepare(task.test_set.__getitems__([index]), torch.device("cpu"))["images"]
    model = network()
    task.look(model, path)
    assert expected.dtype == model.last.dtype == torch.float32
    assert torch.equal(model.last, expected)
    task.look(model, index)  # the same image of the test set
    assert torch.equal(model.last, expected)


def test_without_more_words_look_normalises_as_training_does(task, folder):
    model = network()
    look(model, folder / "test" / "all" / "rgb.png", size=SIZE)
    without = model.last
    task.look(model, folder / "test" / "all" / "rgb.png")
    assert torch.equal(model.last, without)


def test_a_tensor_in_0_to_1_and_an_array_are_the_same_image():
    pixels = torch.from_numpy(noise(3, 40, 50))
    model = network()
    look(model, pixels, size=SIZE)
    expected = model.last
    for image in (pixels.float() / 255, pixels.double() / 255, pixels[None], pixels.permute(1, 2, 0).numpy()):
        look(model, image, size=SIZE)
        assert torch.equal(model.last, expected)


def test_an_array_with_alpha_is_laid_on_white():
    clear = np.zeros((40, 40, 4), np.uint8)
    assert (look(network(), clear, size=SIZE).image == 255).all()


def truncated():
    content = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(content, "JPEG")
    return content.getvalue()[:900]


BAD = {
    "empty.png": (b"", "empty file"),
    "text.jpg": (b"not an image", "not an image of a known kind"),
    "truncated.jpg": (truncated(), "image file is truncated"),
    "folder.png": (None, "it is a folder"),
    "missing.jpg": (None, "there is no such file"),
}


@pytest.mark.parametrize("name", BAD)
def test_look_and_training_say_the_same_of_what_cannot_be_read(tmp_path, name):
    content, reason = BAD[name]
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            photo(40, 40).save(tmp_path / split / label / "good.png")
    path = tmp_path / "train" / "a" / name
    path.write_bytes(b"gone later" if content is None else content)
    dataset, _ = open_folder(tmp_path, size=SIZE, memory_gb=0.0, progress=False)
    if content is None:
        path.unlink()
    if name == "folder.png":
        path.mkdir()
    with pytest.warns(RuntimeWarning, match="left out a broken image"):
        assert len(dataset.__getitems__([0, 1, 2])["images"]) == 2
    (broken,) = dataset.broken
    assert broken.path == str(path)
    assert reason in broken.reason
    with pytest.raises(ww.WhatwhereError) as caught:
        look(network(), path, size=SIZE)
    assert str(caught.value) == f"{path} cannot be read: {broken.reason}"
    if content is not None:
        with pytest.warns(RuntimeWarning, match="left out 1 broken"):
            now, _ = open_folder(tmp_path, size=SIZE, progress=False)
        assert now.broken == [broken]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dataset.broken == [broken]
