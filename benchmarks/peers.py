"""Attaches a peer's module at the sites where ``whatwhere.insert`` puts attention."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

import whatwhere as ww


def attach_peer(model: nn.Module, make: Callable[[int], nn.Module], example: Tensor) -> int:
    """Put ``make(channels)`` at every site of :func:`whatwhere.sites`, in place; return how many there were.

    As ``insert`` does it: as a child, here called ``peer``, that a hook of the module at the site applies.
    """
    found = ww.sites(model, example)
    for site in found:
        module = model.get_submodule(site.module)
        module.add_module("peer", make(site.channels).to(site.device, site.dtype).train(module.training))
        if site.side == "input":
            module.register_forward_pre_hook(_before)
        else:
            module.register_forward_hook(_after if site.side == "output" else _after_nhwc)
    return len(found)


def _after(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    peer: Any = module.peer
    attended: Tensor = peer(output)
    return attended


def _after_nhwc(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    peer: Any = module.peer
    attended: Tensor = peer(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return attended


def _before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    peer: Any = module.peer
    return (peer(args[0]), *args[1:])
