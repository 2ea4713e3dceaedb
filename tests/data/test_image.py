import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from whatwhere.data.image import Unreadable, read_image, read_sides

from .conftest import encoded, noise_image


def decode(path: Path, size: int) -> np.ndarray:
    return read_image(path, size).numpy()


def saved(folder: Path, content: bytes, name: str = "a.jpg") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("shape", [(64, 48), (48, 64), (48, 48), (20, 90), (7, 5)])
def test_equals_resize_then_centre_crop(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = noise_image(1, *shape)
    pixels = decode(saved(tmp_path, encoded(image, "PNG"), "a.png"), 32)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.uint8
    whole = ImageOps.fit(image, (32, 32), Image.Resampling.BICUBIC)
    assert np.abs(pixels.astype(int) - np.asarray(whole).transpose(2, 0, 1)).max() <= 2


def test_an_image_of_the_right_size_is_not_touched(tmp_path: Path) -> None:
    image = noise_image(2, 32, 32)
    pixels = decode(saved(tmp_path, encoded(image, "PNG"), "a.png"), 32)
    assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))


def test_shrinking_does_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((300, 300, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(saved(tmp_path, encoded(Image.fromarray(stripes), "PNG"), "a.png"), 30)
    assert np.abs(pixels[:, 2:-2, 2:-2].astype(int) - 128).max() < 12


def test_large_jpegs_decode_at_a_fraction_and_look_the_same(tmp_path: Path) -> None:
    image = noise_image(3, 1600, 1200)
    path = saved(tmp_path, encoded(image, quality=95))
    whole = ImageOps.fit(image, (64, 64), Image.Resampling.BICUBIC)
    assert np.abs(decode(path, 64).astype(int) - np.asarray(whole).transpose(2, 0, 1)).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = Image.new("RGB", (60, 40), "red")
    upright.paste((0, 0, 255), (0, 20, 60, 40))  # red above, blue below
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, encoded(stored, kind, exif=exif), "a." + kind.lower())
    assert read_sides(path) == (60, 40)
    pixels = decode(path, 40)
    assert (pixels[0, :15] > 200).all()
    assert (pixels[2, :15] < 60).all()
    assert (pixels[2, 25:] > 200).all()


def test_grey_palette_and_transparent_images(tmp_path: Path) -> None:
    grey = Image.new("L", (8, 8), 90)
    assert (decode(saved(tmp_path, encoded(grey, "PNG"), "grey.png"), 8) == 90).all()
    assert (decode(saved(tmp_path, encoded(grey, "JPEG"), "grey.jpg"), 8) == 90).all()
    bits = Image.new("1", (8, 8), 1)
    assert (decode(saved(tmp_path, encoded(bits, "PNG"), "bits.png"), 8) == 255).all()
    palette = Image.new("RGB", (8, 8), (255, 0, 0)).quantize(4)
    assert decode(saved(tmp_path, encoded(palette, "GIF"), "palette.gif"), 8)[:, 0, 0].tolist() == [255, 0, 0]
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (decode(saved(tmp_path, encoded(clear, "PNG"), "clear.png"), 8) == 255).all()
    solid = Image.new("RGBA", (8, 8), (10, 20, 30, 255))
    assert decode(saved(tmp_path, encoded(solid, "PNG"), "solid.png"), 8)[:, 3, 3].tolist() == [10, 20, 30]
    deep = Image.fromarray(np.full((8, 8), 200 * 256 + 7, np.uint16))
    assert (decode(saved(tmp_path, encoded(deep, "PNG"), "deep.png"), 8) == 200).all()
    print_colours = Image.new("RGB", (8, 8), (200, 30, 40)).convert("CMYK")
    pixels = decode(saved(tmp_path, encoded(print_colours, "JPEG", quality=95), "cmyk.jpg"), 8)
    assert np.abs(pixels[:, 4, 4].astype(int) - (200, 30, 40)).max() < 8


def test_the_first_frame_of_a_moving_image(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "a.gif")
    assert decode(path, 8)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_image_that_is_cut_off_is_unreadable(tmp_path: Path, kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    content = encoded(noise, kind)
    assert decode(saved(tmp_path, content, "whole"), 32).shape == (3, 32, 32)
    with pytest.raises(Unreadable):
        decode(saved(tmp_path, content[: int(share * len(content))]), 32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"hello, I am text\n" * 40, "not an image"), (b"\xff\xd8\xff\xe0" + bytes(500), ".")],
    ids=["nothing", "text", "only a header"],
)
def test_what_is_no_image_is_unreadable(tmp_path: Path, content: bytes, reason: str) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(Unreadable, match=reason) as caught:
        decode(path, 32)
    assert str(caught.value)


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(Unreadable):
            decode(path, 32)
        with pytest.raises(Unreadable):
            read_sides(path)


def test_an_unreadable_image_survives_the_way_between_processes(tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as caught:
        read_image(saved(tmp_path, b""), 32)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reason) == (f"{tmp_path / 'a.jpg'} cannot be read: empty file", "empty file")


def test_bytes_are_read_as_the_file_that_holds_them(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG"):
        data = encoded(noise_image(3, 700, 500), kind)
        (tmp_path / "file").write_bytes(data)
        assert (read_image(data, 40) == read_image(tmp_path / "file", 40)).all()
        assert read_sides(data) == (700, 500)
    assert read_sides(noise_image(0, 30, 20)) == (30, 20)
    for data, reason in (
        (b"", "empty file"),
        (b"text", "not an image"),
        (encoded(noise_image())[:300], "[Tt]runcated"),
    ):
        with pytest.raises(Unreadable, match=f"the image cannot be read: .*{reason}"):
            read_image(data, 8)
