"""Fusing the ends of residual blocks into one op, and undoing it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ..errors import WhatwhereError
from ..graph.forward import fuse_forward, fused_with, has_foreign_forward, pin_forward
from ..graph.wrappers import check_model, refuse_wrapped
from ..tables import ShownAsText, counted
from .attach import attached_side
from .blocks import BlockSpec, run_block, run_norm

BLOCKS: dict[str, BlockSpec] = {
    "torchvision.models.resnet.BasicBlock": BlockSpec(("conv1", "bn1", "relu", "conv2"), "bn2", "downsample", "relu"),
    "torchvision.models.resnet.Bottleneck": BlockSpec(
        ("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3"), "bn3", "downsample", "relu"
    ),
    "timm.models.resnet.BasicBlock": BlockSpec(
        ("conv1", "bn1", "drop_block", "act1", "aa", "conv2"), "bn2", "downsample", "act2", ("se", "drop_path")
    ),
    "timm.models.resnet.Bottleneck": BlockSpec(
        ("conv1", "bn1", "act1", "conv2", "bn2", "drop_block", "act2", "aa", "conv3"),
        "bn3",
        "downsample",
        "act3",
        ("se", "drop_path"),
    ),
    "whatwhere.networks.small.Residual": BlockSpec(("conv1", "bn1", "relu1", "conv2"), "bn2", "shortcut", "relu2"),
}
"""The residual blocks that :func:`fuse` knows, by the class that defines their forward."""


@dataclass(frozen=True)
class FuseReport(ShownAsText):
    """What :func:`fuse` did; ``str(report)`` is a short text.

    Attributes:
        blocks: names of the residual blocks that end in one op now.
        norms: names of the other batch normalisations that are one op with their attention.
        left: name → why it stayed as it was, for blocks and norms that could nearly be fused.
    """

    blocks: list[str]
    norms: list[str]
    left: dict[str, str]

    def __str__(self) -> str:
        """Say it in words."""
        lines = [
            f"{counted(len(self.blocks), 'residual block')} in one op (norm, attention, add, ReLU)",
            f"{counted(len(self.norms), 'other norm')} in one op with the attention",
        ]
        return "\n".join(lines + [f"left as it was: {name}: {why}" for name, why in self.left.items()])


def fuse(model: nn.Module, blocks: Mapping[type[nn.Module], BlockSpec] | None = None) -> FuseReport:
    """Make every batch normalisation one op with the attention, the add and the ReLU that follow it, in place.

    In training and in evaluation the output is the same up to rounding, but there are far fewer passes over the map:
    statistics, squeeze and maxima come from one pass, and the normalised map is never written. Residual blocks of
    torchvision's and timm's ResNets (also ResNeXt, Wide ResNet) are fused whole, with or without attention; elsewhere a
    batch normalisation is fused with the attention on its output. Modules, parameters and ``state_dict`` stay as they
    are; attention may be inserted and removed before or after.

    A fused block no longer calls its last norm: forward hooks that are registered on it *later* do not run (a norm that
    has hooks now is left as it is). SyncBatchNorm is left as it is. What is fused already stays so, and is reported.

    Args:
        model: the network, before ``torch.compile`` and ``DistributedDataParallel``.
        blocks: further block types and how they are built, such as
            ``{MyBlock: ww.BlockSpec(("conv1", "bn1", "relu", "conv2"), "bn2", None, "relu")}``.

    Returns:
        What was fused, and what was left and why.

    Raises:
        WhatwhereError: nothing in the model can be fused, or it is wrapped or compiled already; then it is as it was.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> report = ww.insert(model, "cbam")
        >>> len(ww.fuse(model).blocks)
        8
    """
    refuse_wrapped(model, "fuse")
    more = {_name(kind): spec for kind, spec in (blocks or {}).items()}
    whole: dict[str, BlockSpec] = {}
    there: list[str] = []
    norms: list[str] = []
    left: dict[str, str] = {}
    taken: set[nn.Module] = set()
    for name, module in model.named_modules():
        if fused_with(module) is run_block:
            there.append(name)
            taken.add(getattr(module, module.__dict__["forward"].args[1].norm))
            continue
        spec = {**BLOCKS, **more}.get(_name(_definer(module)))
        if spec is None:
            continue
        why = _obstacle(module, spec)
        if why:
            left[name] = why
        else:
            whole[name] = spec
            taken.add(getattr(module, spec.norm))
    for name, module in model.named_modules():
        if attached_side(module) != "output" or module in taken:
            continue
        if fused_with(module) is run_norm:
            norms.append(name)
            continue
        why = _norm_obstacle(module)
        if why and isinstance(module, nn.modules.batchnorm._BatchNorm):
            left[name] = why
        elif not why:
            norms.append(name)
    if not whole and not there and not norms:
        reasons = "".join(f"; {name}: {why}" for name, why in list(left.items())[:5])
        raise WhatwhereError(
            f"nothing to fuse in {type(model).__name__}: no residual block of a known kind ({', '.join(BLOCKS)}) and "
            f"no attention on a BatchNorm2d{reasons}. Say how your blocks are made with blocks="
        )
    for name, spec in whole.items():
        fuse_forward(model.get_submodule(name), run_block, spec)
    for name in norms:
        fuse_forward(model.get_submodule(name), run_norm)
    return FuseReport([name for name, _ in model.named_modules() if name in whole or name in there], norms, left)


def unfuse(model: nn.Module) -> int:
    """Give every fused module its own forward back, and return how many there were.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> report = ww.fuse(model)
        >>> ww.unfuse(model)
        8
    """
    check_model(model)
    modules = [module for module in model.modules() if fused_with(module)]
    for module in modules:
        del module.__dict__["forward"]
        if attached_side(module):
            pin_forward(module)
    return len(modules)


def _definer(module: nn.Module) -> type:
    """Return the class that defines a module's forward."""
    return next(kind for kind in type(module).__mro__ if "forward" in kind.__dict__)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _obstacle(block: nn.Module, spec: BlockSpec) -> str:
    """Return why a block's spec cannot be one op, or an empty string."""
    if has_foreign_forward(block) or fused_with(block):
        return "it is fused already" if fused_with(block) else "something else has replaced its forward"
    missing = [
        name for name in (*spec.path, spec.norm, spec.act) if not isinstance(getattr(block, name, None), nn.Module)
    ]
    if missing:
        return f"it has no module {', '.join(missing)}"
    between = [name for name in spec.absent if not isinstance(getattr(block, name, None), (type(None), nn.Identity))]
    if between:
        return f"it runs {', '.join(between)} before the add"
    act = getattr(block, spec.act)
    if type(act) is not nn.ReLU or act._forward_hooks or act._forward_pre_hooks:
        return f"{spec.act} is {type(act).__name__}, not a plain ReLU"
    return _norm_obstacle(getattr(block, spec.norm))


def _norm_obstacle(norm: nn.Module) -> str:
    """Return why a normalisation cannot be one op with what follows, or an empty string."""
    activated = [part for part in ("act", "drop") if not isinstance(getattr(norm, part, nn.Identity()), nn.Identity)]
    if not isinstance(norm, nn.BatchNorm2d) or activated:
        act = " with an activation" if activated else ""
        return f"its last norm is {type(norm).__name__}{act}, not a plain BatchNorm2d"
    if type(norm) is not nn.BatchNorm2d and type(norm).__name__ != "BatchNormAct2d":
        return f"its last norm is a {type(norm).__name__}, which may compute something else"
    if has_foreign_forward(norm) or fused_with(norm):
        return "it is fused already" if fused_with(norm) else "something else has replaced the forward of its last norm"
    ours = 1 if attached_side(norm) == "output" else 0
    if len(norm._forward_hooks) > ours or norm._forward_pre_hooks:
        return "its last norm has hooks, which would no longer be called"
    return ""
