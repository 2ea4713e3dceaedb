"""The names that other code gives to the tensors of an attention, and the names that they have here."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of an attention's tensors by the names that they have here."""


def unchanged(name: str, tensor: Tensor) -> Tensor:
    """Return the tensor."""
    return tensor


def dense(name: str, tensor: Tensor) -> Tensor:
    """Return the weight of a 1×1 convolution, ``(O, I, 1, 1)``, as that of the dense layer of an MLP, ``(O, I)``."""
    conv = "mlp." in name and name.endswith(".weight") and tensor.ndim == 4 and tensor.shape[2:] == (1, 1)
    return tensor.flatten(1) if conv else tensor


def no_problem(shapes: Shapes) -> str:
    """Return an empty string."""
    return ""


@dataclass(frozen=True)
class KeyMap:
    r"""How one code base names the parts of one attention.

    Declared beside the attention, in ``@register(..., key_maps=(KeyMap(...),))``, or added later with
    :func:`whatwhere.layers.add_key_map`. :func:`whatwhere.load` finds the attentions of a whole network with it,
    :meth:`whatwhere.Attention.load_official` reads the state dict of a single one.

    Attributes:
        title: whose code it is, for messages, such as ``"the official ECA code"``.
        parts: the names of the parts there → the names here. A name stands for one tensor, or for all tensors of a
            submodule.
        unit: a regular expression for the attention's own name in a network; empty where single attentions alone are
            known.
        module: the module of the network whose output the attention takes, as a template over the groups of ``unit``.
            By default the group ``block``.
        where: ``"block"``: after the last normalisation of the residual block ``module``; ``"stage"``: after the stage
            ``module``; ``"itself"``: nowhere but under its own name. An attention under its own name is always found.
        options: the options that checkpoints of this code imply, such as ``{"gate": "sigmoid"}``; compared with
            :meth:`whatwhere.Attention.settings`. Options that shapes tell are found by ``options_from_shapes``.
        example: options with which an attention has tensors of these names, where with the defaults it has none.
        convert: turns a tensor of the checkpoint into what it is here, given the name here.
        problem: says why tensors with these shapes are of another formula; an empty string where they are not.

    Example:
        >>> key_map = KeyMap("somebody's code", {"fc": "conv"}, r"(?P<block>.+)\.attn")
        >>> match = key_map.match("layer1.0.attn.fc.weight")
        >>> match["unit"], key_map.rename(match)
        ('layer1.0.attn', 'conv.weight')
    """

    title: str
    parts: Mapping[str, str]
    unit: str = ""
    module: str = r"\g<block>"
    where: Literal["block", "stage", "itself"] = "block"
    options: Mapping[str, Any] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)
    convert: Callable[[str, Tensor], Tensor] = unchanged
    problem: Callable[[Shapes], str] = no_problem

    def match(self, key: str) -> re.Match[str] | None:
        """Take the key of a whole network's checkpoint apart into the groups ``unit``, ``part`` and ``leaf``."""
        return _pattern(self.unit, tuple(self.parts)).fullmatch(key) if self.unit else None

    def match_alone(self, key: str) -> re.Match[str] | None:
        """Take the key of a single attention's state dict apart: ``unit`` (a prefix, or None), ``part``, ``leaf``."""
        return _pattern(r".+?", tuple(self.parts), "?").fullmatch(key)

    def match_bare(self, key: str) -> re.Match[str] | None:
        """Take the key of a single attention's state dict apart, where it has no prefix: ``part``, ``leaf``."""
        return _pattern(r".+?", tuple(self.parts), "{0}").fullmatch(key)

    def rename(self, match: re.Match[str]) -> str:
        """Return the name here of a key that was taken apart."""
        name = self.parts[match["part"]]
        return name if match["leaf"] is None else f"{name}.{match['leaf']}"

    def difference(self, settings: Mapping[str, Any], shapes: Shapes) -> str:
        """Say why an attention with these settings has another formula than the checkpoint's; "" if it has the same."""
        if settings.get("identity"):
            return (
                "it was made with identity=True, gates 2·σ(z), and the checkpoint has the paper's form: make it with "
                "identity=False (whatwhere.insert(..., identity=False))"
            )
        if problem := self.problem(shapes):
            return problem
        wrong = [
            f"{option}={settings[option]!r} where the checkpoint has {its!r}"
            for option, its in self.options.items()
            if settings.get(option, its) != its
        ]
        return f"it has {', '.join(wrong)}" if wrong else ""


@functools.lru_cache(maxsize=256)
def _pattern(unit: str, parts: tuple[str, ...], count: str = "") -> re.Pattern[str]:
    return re.compile(rf"(?:(?P<unit>{unit})\.){count}(?P<part>{'|'.join(map(re.escape, parts))})(?:\.(?P<leaf>\w+))?")
