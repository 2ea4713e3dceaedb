"""Weights from a checkpoint into a network: everything is checked first, then everything is copied."""

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.wrappers import unwrap
from ..layers.official import blank_biases
from ..surgery.attach import attentions
from ..tables import counted
from .advice import advise, unregistered
from .matching import differs, site_of
from .promised import broken_promises
from .reading import Source, read
from .renamers import RENAMERS
from .report import LoadReport, shorten, warn_of_not_finite
from .spec import ModelSpec
from .tensors import slots
from .units import units

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
_COUNTER = "num_batches_tracked"


def load(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    strict: bool = True,
    skip: str | Sequence[str] = (),
    checkpoint: Literal["best", "last"] = "best",
) -> LoadReport:
    """Load the weights of a checkpoint into a network, in place, before or after :func:`whatwhere.insert`.

    The kind of file is told by its content: a safetensors file, what ``torch.save`` wrote (tensors and plain values
    only; nothing in it is ever run), the folder of a training run, or a folder as on the Hugging Face hub. Every name
    may have a prefix such as ``module.``, and the weights may be inside a dict. These names are known:

    - the network's own, so plain weights of torchvision and timm, and checkpoints of networks with whatwhere's
      attention;
    - those of every key map of a registered attention, for ResNets of torchvision and timm: the official code of CBAM,
      BAM and ECA, timm's SE, ECA and CBAM, other spellings of SE (``se_module.fc1``, ``se.fc.0``); add one with
      :func:`whatwhere.layers.add_key_map`;
    - those of every renamer of a whole network: SENet's ``layer0`` and ``last_linear``, and the package
      efficientnet-pytorch (``_conv_stem``, ``_blocks.0._expand_conv``) for timm's ``tf_efficientnet_*``; add one with
      :func:`whatwhere.checkpoints.renamer`.

    Attention is loaded only into attention of the same formula at the same site. The paper's form of the attention
    differs from the form that starts at the identity by a factor of 2 in the gates, so official weights need
    ``insert(..., identity=False)``. Attention of which the file has no tensors (plain weights) is left as it is,
    and the report says so. Values are cast to the network's dtypes and devices.

    Args:
        model: the network; inside ``DistributedDataParallel`` and ``torch.compile`` too.
        path: the file or folder.
        strict: whether everything has to fit; False loads what fits and reports the rest.
        skip: patterns of keys to leave alone, such as ``"fc.*"``.
        checkpoint: which one of a training run's folder.

    Returns:
        What was loaded from where, and what was not; ``print`` it. Values that are no finite numbers are loaded too,
        with a warning that names their tensors.

    Raises:
        WhatwhereError: the file cannot be read, or (``strict``) something does not fit: the message lists what, and
            what to do. The network is then exactly as it was.

    Example:
        >>> import tempfile, torch, torchvision, whatwhere as ww
        >>> plain, model = torchvision.models.resnet18(), torchvision.models.resnet18()
        >>> report = ww.insert(model, "cbam")
        >>> with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        ...     torch.save({"state_dict": plain.state_dict()}, file.name)
        ...     report = ww.load(model, file.name)
        >>> report.complete, len(report.loaded) == len(plain.state_dict())
        (True, True)
    """
    model = unwrap(model, replicas=True)
    source = read(path, checkpoint)
    patterns = [skip] if isinstance(skip, str) else list(skip)
    plan = _Plan(model, source, patterns)
    report = plan.report()
    if strict and not report.complete:
        raise WhatwhereError(
            f"{report.path} ({report.format}) does not fit {type(model).__name__}:\n{report.problems()}\n"
            "  → to load what fits and leave the rest: strict=False"
        )
    if not plan.values:
        theirs, ours = shorten(list(source.tensors)), shorten(list(plan.slots))
        raise WhatwhereError(
            f"nothing of {report.path} fits {type(model).__name__}. The file has: {theirs}. The network has: {ours}\n"
            f"{report.problems()}"
        )
    warn_of_not_finite(plan.values, source.path)
    with torch.no_grad():
        for key, value in plan.values.items():
            plan.slots[key].tensor.copy_(value)
    return report


@dataclass
class _Plan:
    """Which tensor goes to which key, found without changing anything."""

    model: nn.Module
    source: Source
    skip: Sequence[str]
    values: dict[str, Tensor] = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    mismatched: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = slots(self.model)
        self.there = attentions(self.model)
        names = {id(module): name for name, module in self.model.named_modules()}
        self.names = {site: names[id(attention)] for site, attention in self.there.items()}
        tensors, prefix = strip(self.source.tensors, self.slots)
        self.words = [self.source.container, *([f"names behind {prefix!r}"] if prefix else [])]
        self.theirs: set[str] = set()  # keys of the network that the file has something for, whether it fits or not
        rest = self.direct(tensors)
        self.foreign({key: tensors[key] for key in rest})

    def direct(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Take tensors whose keys the network has; return the other keys."""
        broken = broken_promises(self.source, self.there)
        for site, reason in broken.items():
            self.refuse(site, reason)
        outside = tuple(f"{self.names[site]}." for site in broken)
        rest = []
        for key, tensor in tensors.items():
            if key not in self.slots:
                rest.append(key)
            elif not key.startswith(outside or ("\0",)):
                self.take(key, tensor)
            else:
                self.theirs.add(key)
        return rest

    def foreign(self, tensors: dict[str, Tensor]) -> None:
        """Take tensors that have other codes' names."""
        reasons: list[str] = []
        for known in RENAMERS.values():
            renamed = known.rename(self.model, self.slots, tensors)
            tensors = renamed.rest
            for reason in renamed.reasons:
                self.refuse(known.title, reason)
            for key, tensor in renamed.tensors.items():
                if renamed.reasons:
                    self.theirs.add(key)
                else:
                    self.take(key, tensor)
            if renamed.tensors:
                self.words.append(known.title)
            reasons += renamed.reasons
        found, self.unexpected = units(tensors.items())
        titles: dict[str, int] = {}
        for unit in found:
            titles[unit.key_map.title] = titles.get(unit.key_map.title, 0) + 1
            site, reason = site_of(unit, self.there, self.model)
            reason = reason or (differs(unit, self.there[site]) if site else "")
            if site is None or reason:
                self.refuse(unit.name, reason or "the network has no attention there")
                self.theirs |= {f"{self.names[site]}.{name}" for name in unit.tensors} if site else set()
                continue
            blank = blank_biases(self.there[site], unit.tensors)
            for name, tensor in {**unit.tensors, **blank}.items():
                key = f"{self.names[site]}.{name}"
                if key not in self.slots:
                    self.unexpected.append(unit.keys[name])
                elif self.take(key, tensor, unit.keys.get(name)) and name in blank:
                    self.filled.append(key)
        self.words += [f"{title} ({counted(count, 'attention')})" for title, count in titles.items()]
        self.skipped += [key for key in self.unexpected if self.skips(key)]
        self.unexpected = [key for key in self.unexpected if not self.skips(key)]
        if self.source.spec is not None:
            self.advice += unregistered(ModelSpec.from_json(self.source.spec, self.source.path))
        self.advice += advise(found, bool(self.refusals) and not reasons, self.mismatched, self.unexpected, self.there)

    def refuse(self, name: str, reason: str) -> None:
        """Note why an attention of the file is not loaded."""
        self.refusals.setdefault(reason, []).append(name)

    def skips(self, *keys: str | None) -> bool:
        """Whether ``skip`` names one of these keys."""
        return any(fnmatch.fnmatchcase(key, pattern) for key in keys if key for pattern in self.skip)

    def take(self, key: str, tensor: Tensor, name: str | None = None) -> bool:
        """Plan to copy a tensor to a key of the network, cast as it will be there, or note why that cannot be."""
        self.theirs.add(key)
        if self.skips(key, name):
            self.skipped.append(key)
            return False
        here = self.slots[key].tensor
        problem = _problem(here, tensor)
        if not problem:
            value = tensor.to(device=here.device, dtype=here.dtype)
            changed = value.dtype != tensor.dtype and value.is_floating_point()
            if changed and not value.isfinite().all() and tensor.isfinite().all():
                problem = f"values too large for {here.dtype}"
        if problem:
            self.mismatched.append(f"{key} ({problem})")
            return False
        self.values[key] = value
        return True

    def report(self) -> LoadReport:
        """Say what is going to be done."""
        attention = {key for name in self.names.values() for key in self.slots if key.startswith(f"{name}.")}
        absent = [key for key in self.slots if key not in self.theirs]
        counters = [key for key in absent if key.endswith(_COUNTER)]
        plain = not (self.theirs & attention or self.refusals)
        left = [key for key in absent if plain and key in attention]
        rest = [key for key in absent if not (key in left or key in counters)]
        problems = {
            "missing": [key for key in rest if not self.skips(key)],
            "unexpected": self.unexpected,
            "mismatched": self.mismatched,
            "refused": [f"{reason} ({shorten(names)})" for reason, names in self.refusals.items()],
        }
        return LoadReport(
            self.source.path,
            ", ".join(self.words),
            sorted(self.values.keys() - set(self.filled)),
            left,
            [key for key in counters if key not in left],
            self.filled,
            sorted({*self.skipped, *(key for key in rest if self.skips(key))}),
            **problems,
            advice=self.advice if any(problems.values()) else [],
        )


def strip(tensors: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Take off what ``DataParallel``, ``torch.compile``, averaging and trainers put before every name.

    Of all that can be taken off, as much is taken as lets most names be those of the network.
    """
    found = {key: value for key, value in tensors.items() if key != "n_averaged" or key in wanted}
    best, best_prefix, prefix = found, "", ""
    fitting = len(found.keys() & wanted.keys())
    while found and (now := next((p for p in _PREFIXES if all(key.startswith(p) for key in found)), None)):
        found, prefix = {key.removeprefix(now): value for key, value in found.items()}, prefix + now
        if (count := len(found.keys() & wanted.keys())) >= fitting:
            best, best_prefix, fitting = found, prefix, count
    return best, best_prefix


def _problem(here: Tensor, tensor: Tensor) -> str:
    """Say why a tensor cannot be copied over another; an empty string where it can."""
    if here.shape != tensor.shape:
        return f"{_shape(here)} here, {_shape(tensor)} in the file"
    if here.is_meta:
        return "the network is on the meta device: give it memory with model.to_empty(device=...) first"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return f"{tensor.layout}, {tensor.dtype} in the file: only plain dense tensors are loaded"
    if here.is_floating_point() != tensor.is_floating_point() or here.is_complex() != tensor.is_complex():
        return f"{here.dtype} here, {tensor.dtype} in the file"
    if here.is_inference() or any(n > 1 and step == 0 for n, step in zip(here.shape, here.stride(), strict=True)):
        return "this tensor of the network cannot be written to"
    return ""


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"
