"""whatwhere: channel attention (what) and spatial attention (where) for convolutional networks.

>>> import torch, whatwhere as ww
>>> attention = ww.create("cbam", 256)
>>> attention(torch.randn(2, 256, 14, 14)).shape
torch.Size([2, 256, 14, 14])
"""

from importlib import import_module as _import_module
from importlib import metadata as _metadata
from typing import TYPE_CHECKING, Any

from . import layers, ops
from .checkpoints import LoadReport, build, from_pretrained, load, load_model, push_to_hub, save
from .errors import WhatwhereError
from .layers import *  # noqa: F403  (every registered attention, by the name of its class)
from .networks import ModelConfig
from .ops import backend
from .placement import Site, sites
from .surgery import (
    BlockSpec,
    FuseReport,
    GhostifyReport,
    InsertReport,
    ReplaceReport,
    attentions,
    fuse,
    ghostify,
    insert,
    remove,
    replace,
    unfuse,
    unghostify,
)

if TYPE_CHECKING:
    from .deploy.export import export
    from .deploy.fold import fold
    from .studies import StudyConfig, study
    from .views.capture import capture
    from .views.look import look
    from .views.redundancy import redundancy

__version__ = _metadata.version("whatwhere")

__all__ = [
    "BlockSpec",
    "FuseReport",
    "GhostifyReport",
    "InsertReport",
    "LoadReport",
    "ModelConfig",
    "ReplaceReport",
    "Site",
    "StudyConfig",
    "WhatwhereError",
    "attentions",
    "backend",
    "build",
    "capture",
    "export",
    "fold",
    "from_pretrained",
    "fuse",
    "ghostify",
    "insert",
    "layers",
    "load",
    "load_model",
    "look",
    "ops",
    "push_to_hub",
    "redundancy",
    "remove",
    "replace",
    "save",
    "sites",
    "study",
    "unfuse",
    "unghostify",
]
__all__ += layers.__all__


_LAZY = {
    "capture": "views",
    "export": "deploy",
    "fold": "deploy",
    "look": "views",
    "redundancy": "views",
    "study": "studies",
    "StudyConfig": "studies",
}


def __getattr__(name: str) -> Any:
    """Import the packages above ``checkpoints`` only when they are asked for: they take time, or need extras."""
    if name in _LAZY:
        return getattr(_import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
