from dataclasses import dataclass, field

import pytest

from whatwhere.errors import WhatwhereError
from whatwhere.tasks import create, entry, names, plain, register, restore
from whatwhere.tasks.classify import Classify


@dataclass(frozen=True)
class Inner:
    width: tuple[int, ...] | float | None = None
    name: str = "a"


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    lr: float = 0.1


def test_plain_and_restore_are_inverse():
    value = Outer(Inner((1, 2)), Inner(0.5), 0.2)
    assert plain(value) == {
        "inner": {"width": [1, 2], "name": "a"},
        "maybe": {"width": 0.5, "name": "a"},
        "lr": 0.2,
    }
    assert restore(Outer, plain(value)) == value
    assert restore(Outer, {"lr": 1.0}) == Outer(lr=1.0)


def test_a_misspelt_field_is_named_with_the_nearest():
    with pytest.raises(WhatwhereError, match=r"no field 'inner\.nam'; did you mean 'name'"):
        restore(Outer, {"inner": {"nam": "x"}})


def test_the_register_knows_the_tasks_and_a_new_one_is_one_decorator():
    assert "classify" in names()
    assert entry("classify").title == "Tell apart the classes of images, with cross entropy"

    @register("test-only", Outer)
    class Only(Classify):
        """Only a test."""

        def __init__(self, config, resolved=None):
            self.given = config, resolved

    assert "test-only" in names()
    assert create("test-only", {"lr": 3.0, "resolved": {"a": 1}}).given == (Outer(lr=3.0), {"a": 1})
    assert create("test-only").given == (Outer(), None)


def test_an_unknown_task_is_named_with_the_nearest():
    with pytest.raises(WhatwhereError, match="did you mean 'classify'"):
        create("clasify")
    with pytest.raises(WhatwhereError, match="ClassifyConfig"):
        create("classify", Outer())
