"""The tensors of a network by key."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from ..errors import WhatwhereError


@dataclass(frozen=True)
class Slot:
    """Where a tensor of a ``state_dict`` lives: ``module._parameters[name]`` or ``module._buffers[name]``."""

    module: nn.Module
    name: str
    learned: bool

    @property
    def tensor(self) -> Tensor:
        """The tensor that is there now."""
        found = (self.module._parameters if self.learned else self.module._buffers)[self.name]
        assert found is not None
        return found

    def put(self, tensor: Tensor) -> None:
        """Put another tensor there; a parameter stays a parameter, and learns or does not as before."""
        if not self.learned:
            self.module._buffers[self.name] = tensor
        elif isinstance(tensor, nn.Parameter):
            self.module._parameters[self.name] = tensor
        else:
            self.module._parameters[self.name] = nn.Parameter(tensor, requires_grad=self.tensor.requires_grad)


def slots(model: nn.Module) -> dict[str, Slot]:
    """Return every parameter and every persistent buffer by its key in the ``state_dict``.

    Raises:
        WhatwhereError: the network keeps more than tensors, or its lazy layers have not seen an input yet.
    """
    found: dict[str, Slot] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        start = f"{prefix}." if prefix else ""
        found.update(
            {start + name: Slot(module, name, True) for name, p in module._parameters.items() if p is not None}
        )
        kept = {k for k, b in module._buffers.items() if b is not None} - module._non_persistent_buffers_set
        found.update({start + name: Slot(module, name, False) for name in module._buffers if name in kept})
    lazy = [
        key for key, slot in found.items() if isinstance(slot.tensor, (UninitializedBuffer, UninitializedParameter))
    ]
    if lazy:
        raise WhatwhereError(f"{lazy[0]} has no shape yet (a lazy layer): run the model once first")
    other = model.state_dict().keys() ^ found.keys()
    if other:
        raise WhatwhereError(
            f"the state of {type(model).__name__} is more than its parameters and buffers "
            f"({', '.join(sorted(other)[:3])}), which is not supported: use its own state_dict()"
        )
    return found
