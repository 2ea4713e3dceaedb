"""Saving a network and how to build it in one file, and building it from that file alone."""

import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.wrappers import unwrap
from ..layers import Attention
from ..layers.ghost_conv import GhostConv
from ..networks.build import ModelConfig
from ..surgery.attach import attached_side, attentions
from .advice import unregistered
from .bases import construct, parse_base
from .container import write_tensors
from .inference import differences, find_base
from .options import name_of, options_of
from .reading import WEIGHTS, read
from .report import shorten, warn_of_not_finite
from .spec import AttentionSpec, Base, GhostSpec, ModelSpec
from .tensors import Slot, slots


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    base: str | ModelConfig | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network to a safetensors file from which :func:`load_model` builds it again.

    The metadata of the file say, as JSON, how the network was built, which convolutions gave way to ghost convolutions,
    which attention is where with which options, and the training flags. Before anything is written, the network is
    rebuilt from these and compared with the given one, module by module: types, settings and shapes. The file has a
    checksum and is written whole or not at all. Other programs read the tensors like those of any safetensors file.

    Not kept: ``requires_grad``, hooks other than those of :func:`whatwhere.insert`, memory formats, devices.

    Args:
        model: the network; inside ``DistributedDataParallel`` and ``torch.compile`` too.
        path: the file, ``.safetensors``.
        base: how it was built before attention was inserted: ``"torchvision:resnet50"``, ``"timm:resnet26"``,
            ``"small-resnet"``, or the :class:`whatwhere.ModelConfig` of :func:`whatwhere.build`. None finds out: for
            the small networks, for timm's (which know their names) and for torchvision's (which are compared).
        options: what the builder was given besides its name, such as ``{"num_classes": 10}``; JSON values.

    Returns:
        The path.

    Raises:
        WhatwhereError: what builds the network is not known, builds another one, or the file cannot be written.

    Example:
        >>> import tempfile, torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> report = ww.insert(model, "cbam")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = ww.save(model, folder + "/model.safetensors")
        ...     len(ww.attentions(ww.load_model(path)))
        8
    """
    target = Path(path)
    if target.suffix != ".safetensors" or target.is_dir():
        raise WhatwhereError(f"{target}: give the name of a file that ends in .safetensors")
    if not target.parent.is_dir():
        raise WhatwhereError(f"there is no folder {target.parent}: make it first")
    model = unwrap(model, replicas=True)
    spec = spec_of(model, base, options)
    here = slots(model)
    tensors = {key: slot.tensor for key, slot in here.items() if key not in spec.tied}
    try:
        write_tensors(target, tensors, {"spec": spec.to_json()}, shared=True)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise WhatwhereError(f"{target} cannot be written: {type(error).__name__}: {error}") from error
    return target


def spec_of(model: nn.Module, base: str | ModelConfig | None, options: Mapping[str, Any] | None = None) -> ModelSpec:
    """Return how to build ``model`` again; what is returned has been tried.

    Raises:
        WhatwhereError: it is not known, or builds another network.
    """
    here = slots(model)
    meta = next((key for key, slot in here.items() if slot.tensor.is_meta), None)
    if meta is not None:
        raise WhatwhereError(f"{meta} is on the meta device and has no values to save")
    attention, ghosts = _attention_specs(model), _ghost_specs(model)
    dtypes = {slot.tensor.dtype for slot in here.values() if slot.tensor.is_floating_point()}
    modes = [name for name, module in model.named_modules() if module.training != model.training]

    def spec_for(known: Base) -> ModelSpec:
        return ModelSpec(
            known,
            attention,
            str(dtypes.copy().pop()).removeprefix("torch.") if len(dtypes) == 1 else None,
            model.training,
            tuple(modes),
            _tied(here),
            metadata.version("whatwhere"),
            ghosts,
        )

    if base is None:
        if options:
            raise WhatwhereError(f"options={dict(options)!r} without base=: say what network these are options of")
        return spec_for(find_base(model, spec_for))
    try:
        known = parse_base(base, json.loads(json.dumps(dict(options or {}))))
    except TypeError as error:
        raise WhatwhereError(
            f"options={options!r}: numbers, words, lists and dicts can be kept, and this cannot ({error})"
        ) from error
    found = differences(model, construct(spec_for(known), meta=True))
    if found:
        raise WhatwhereError(
            f"this {type(model).__name__} is not {known}: {'; '.join(found[:5])}{' …' if len(found) > 5 else ''}. "
            "Say with options= what its builder was given; what was changed by hand afterwards cannot be kept: save "
            "its state_dict then"
        )
    return spec_for(known)


def _attention_specs(model: nn.Module) -> tuple[AttentionSpec, ...]:
    """Return every attention with what is needed to put it there again."""
    modules = dict(model.named_modules())
    return tuple(_attention_spec(modules[name], name, attention) for name, attention in attentions(model).items())


def _attention_spec(module: nn.Module, where: str, attention: Attention) -> AttentionSpec:
    options = options_of(attention)
    name, channels = name_of(attention), attention.channels
    side = None if module is attention else attached_side(module)
    own = "" if type(attention).__module__.startswith("whatwhere.") else type(attention).__module__
    return AttentionSpec(where, side or "child", name, channels, options, own)


def _ghost_specs(model: nn.Module) -> tuple[GhostSpec, ...]:
    """Return every ghost convolution with what is needed to put it there again."""
    return tuple(
        GhostSpec(name, module.ratio, module.conv2.kernel_size[0], module.order is not None)
        for name, module in model.named_modules()
        if isinstance(module, GhostConv)
    )


def _tied(here: Mapping[str, Slot]) -> dict[str, str]:
    """Return the keys whose tensor is that of an earlier key."""
    first: dict[int, str] = {}
    names = {key: first.setdefault(id(slot.tensor), key) for key, slot in here.items()}
    return {key: name for key, name in names.items() if key != name}


def load_model(path: str | os.PathLike[str], *, device: Any = None) -> nn.Module:
    """Build the network of a file that :func:`save` wrote, with its weights, bit for bit.

    Nothing in the file is ever run: networks are looked up by name among those of whatwhere, timm and torchvision,
    attention among the registered ones. Buffers, dtypes and training flags are as they were saved (call ``eval()`` if
    the network was saved in training mode); every parameter has ``requires_grad``.

    Args:
        path: the file, or a folder with ``model.safetensors``.
        device: where to put the network; by default the CPU.

    Raises:
        WhatwhereError: the file is damaged, does not say how to build its network, was written by a newer version, has
            an attention that nothing here registers (the message says what to import), or its tensors are not those of
            the network that it names.

    Example: see :func:`save`.
    """
    where = _device(device)
    given = Path(path)
    source = read(given / WEIGHTS if given.is_dir() else given)
    if source.spec is None:
        raise WhatwhereError(
            f"{source.path} has weights but does not say of which network, as files of whatwhere.save do: build the "
            "network, and whatwhere.load(model, path)"
        )
    spec = ModelSpec.from_json(source.spec, source.path)
    if unknown := unregistered(spec):
        raise WhatwhereError(f"{source.path} cannot be built: {'; '.join(unknown)}")
    tensors = dict(source.tensors)
    for alias, key in spec.tied.items():
        if key not in tensors:
            raise WhatwhereError(f"{source.path} has a spec that ties {alias!r} to {key!r}, which it does not hold")
        tensors[alias] = tensors[key]
    # first without memory: a spec with absurd sizes is found out before anything of that size is made
    _check(construct(spec, meta=True), tensors, spec, source.path)
    model = construct(spec)
    _check(model, tensors, spec, source.path)
    if spec.dtype is not None:
        model.to(_dtype(spec.dtype, source.path))
    warn_of_not_finite(source.tensors, source.path)
    there = slots(model)
    for key, slot in there.items():
        if key not in spec.tied:
            slot.put(tensors[key])
    for alias, key in spec.tied.items():
        there[alias].put(there[key].tensor)
    _check_orders(model, source.path)
    for name, module in model.named_modules():
        module.training = spec.training != (name in spec.other_mode)
    return model if where is None else model.to(where)


def _check(model: nn.Module, tensors: Mapping[str, Tensor], spec: ModelSpec, path: Path) -> None:
    """Raise unless a network and the tensors of its file have the same keys and shapes."""
    there = {key: slot.tensor for key, slot in slots(model).items()}
    wrong = [key for key in there if key not in tensors or _kind(there[key]) != _kind(tensors[key])]
    wrong += [key for key in tensors if key not in there]
    if wrong:
        raise WhatwhereError(
            f"{path} does not hold together: it says that it is {spec.base}, whose tensors are others: "
            f"{shorten(wrong)}. It was written with whatwhere {spec.whatwhere or '?'}; timm or torchvision may have "
            "changed that network since"
        )


def _check_orders(model: nn.Module, path: Path) -> None:
    """Raise if a ghost convolution would take maps that it does not have."""
    for name, module in model.named_modules():
        if isinstance(module, GhostConv) and module.order is not None:
            count = module.conv1.out_channels + module.conv2.out_channels
            if not bool(((module.order >= 0) & (module.order < count)).all()):
                raise WhatwhereError(f"{path} does not hold together: {name}.order names maps beyond its {count}")


def _kind(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.is_floating_point(), tensor.is_complex()


def _device(device: Any) -> torch.device | None:
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise WhatwhereError(f"device={device!r} is none: {error}") from error


def _dtype(name: str, path: Path) -> torch.dtype:
    found = getattr(torch, name, None)
    if not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise WhatwhereError(f"{path} has a spec of dtype {name!r}, which this PyTorch does not have")
    return found
