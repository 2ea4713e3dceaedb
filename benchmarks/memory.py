"""Bytes that autograd keeps for the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def saved_bytes(forward: Callable[[], Any], model: nn.Module) -> int:
    """Run a forward pass and count what it saves for the backward pass.

    Every storage counts once, whole, however many views of it are saved; the input counts if it is saved. The storages
    of the model's parameters and buffers do not count: they stay in any case. What an op hides from autograd (kept on
    its context without ``save_for_backward``) is not seen.
    """
    own = {_storage(t)._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # holds them, so that none is freed and its identity given to another

    def pack(tensor: Tensor) -> None:
        storage = _storage(tensor)
        if storage._cdata not in own:
            kept[storage._cdata] = storage

    def unpack(_: None) -> Tensor:
        raise RuntimeError("only the forward pass runs while saved bytes are counted")

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
