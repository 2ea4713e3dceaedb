import os
from pathlib import Path

import numpy as np
import pytest

from whatwhere.data.cache import Arrays, cache_file, cache_folder, cached


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"images": np.arange(3000, dtype=np.int64), "labels": np.ones(3)}


def always(arrays: Arrays) -> bool:
    return True


def test_made_once_and_read_afterwards(tmp_path: Path) -> None:
    make, file = Maker(), tmp_path / "deep" / "a.npz"
    first, second = cached(file, make, always), cached(file, make, always)
    assert make.calls == 1
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert [path.name for path in file.parent.iterdir()] == ["a.npz"]


def damage_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def a_pickle(file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, images=np.array([{}], dtype=object))


@pytest.mark.parametrize(
    "damage",
    [
        damage_a_byte,
        a_pickle,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("no arrays at all"),
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: file.write_bytes(file.read_bytes()[:1000]),
        lambda file: np.save(file.open("wb"), np.ones(3)),
    ],
    ids=["a byte", "a pickle", "empty", "text", "cut at the end", "cut early", "another format"],
)
def test_a_damaged_file_is_made_anew_with_a_warning(tmp_path: Path, damage: object) -> None:
    make, file = Maker(), tmp_path / "a.npz"
    good = cached(file, make, always)
    damage(file)  # type: ignore[operator]
    with pytest.warns(RuntimeWarning, match=r"a\.npz is damaged"):
        again = cached(file, make, always)
    assert make.calls == 2
    assert np.array_equal(good["images"], again["images"])
    cached(file, make, always)
    assert make.calls == 2


def test_a_file_that_is_not_valid_is_made_anew(tmp_path: Path) -> None:
    make, file = Maker(), tmp_path / "a.npz"
    cached(file, make, always)
    with pytest.warns(RuntimeWarning, match="damaged"):
        cached(file, make, lambda arrays: False)
    assert make.calls == 2


def test_a_cache_that_cannot_be_written_costs_only_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="WHATWHERE_CACHE"):
        arrays = cached(tmp_path / "file" / "a.npz", Maker(), always)
    assert len(arrays["images"]) == 3000


def test_making_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Arrays:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "a.npz", fail, always)
    assert not list(tmp_path.iterdir())


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHATWHERE_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == tmp_path
    monkeypatch.delenv("WHATWHERE_CACHE")
    assert cache_folder() == Path("/elsewhere/whatwhere")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME" if os.name != "nt" else "USERPROFILE", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "whatwhere"


def test_a_key_names_one_file_whatever_its_order() -> None:
    assert cache_file("scenes", {"a": 1, "b": (1, 2)}) == cache_file("scenes", {"b": [1, 2], "a": 1})
    assert cache_file("scenes", {"a": 1}) != cache_file("scenes", {"a": 2})
