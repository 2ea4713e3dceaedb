"""Finding the convolutions that an attention with a convolution of its own can take the place of."""

import fnmatch
from collections import Counter

from torch import nn

from ..graph.forward import has_foreign_forward
from ..layers import Attention, Entry
from ..layers.ghost import GhostModule
from ..layers.ghost_conv import GhostConv
from .foreign import has_hooks

CONVOLUTION = "conv3x3"
"""What :func:`whatwhere.replace` calls the convolutions of :func:`convolutions`."""


def convolutions(model: nn.Module, new: Entry, at: str) -> tuple[dict[str, nn.Conv2d], dict[str, str]]:
    """Find the 3×3 convolutions with as many outputs as inputs that ``new`` can take the place of.

    They keep the size of the map, or divide it by a stride if ``new`` has an option ``stride``. Groups, a bias and the
    values beyond the border do not matter: ``new`` has its own.

    Args:
        model: the network.
        new: the attention to be put there.
        at: a glob over their names.

    Returns:
        Those convolutions by name; and the others of that shape under the names of ``at``, each with the reason.
    """
    shared = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    inner = [name for name, m in model.named_modules() if isinstance(m, (Attention, GhostModule, GhostConv))]
    found, others = dict[str, nn.Conv2d](), dict[str, str]()
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or any(name.startswith(f"{outer}.") for outer in inner):
            continue
        if module.kernel_size != (3, 3) or module.in_channels != module.out_channels or not name:
            continue
        if not fnmatch.fnmatchcase(name, at):
            continue
        tied = any(shared[id(p)] > 1 for p in module.parameters())
        if why := "another module shares its weights" if tied else _obstacle(module, new):
            others[name] = why
        else:
            found[name] = module
    return found, others


def _obstacle(conv: nn.Conv2d, new: Entry) -> str:
    """Return why an attention cannot take the place of a convolution, or an empty string."""
    channels, stride = conv.out_channels, conv.stride[0]
    if type(conv) is not nn.Conv2d:
        return f"it is a {type(conv).__name__}, which may compute something else"
    if conv.dilation != (1, 1):
        return f"it has a dilation of {conv.dilation[0]}"
    if conv.stride != (stride, stride):
        return f"it has the strides {conv.stride}"
    if stride > 1 and "stride" not in new.options:
        return f"it has a stride of {stride}, and {new.name!r} has none"
    if conv.padding not in ((1, 1), "same"):
        return f"it has a padding of {conv.padding}, so its map is of another size"
    if channels < new.min_channels or channels % new.channel_divisor:
        return f"it has {channels} channels, which {new.name!r} does not take"
    if has_hooks(conv):
        return "it has hooks (of attention, perhaps), which would be lost: replace first, then insert"
    return "something else has replaced its forward" if has_foreign_forward(conv) else ""
