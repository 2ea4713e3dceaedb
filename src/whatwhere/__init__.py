"""whatwhere: channel attention (what) and spatial attention (where) for convolutional networks.

>>> import torch, whatwhere as ww
>>> attention = ww.create("cbam", 256)
>>> attention(torch.randn(2, 256, 14, 14)).shape
torch.Size([2, 256, 14, 14])
"""

from importlib import import_module as _import_module
from importlib import metadata as _metadata
from typing import TYPE_CHECKING, Any

from . import ops
from .errors import WhatwhereError
from .layers import BAM, CBAM, ECA, SE, Attention, ChannelAttention, Gates, SpatialAttention, create, names
from .networks import (
    FuseReport,
    ReplaceReport,
    Report,
    Site,
    Tail,
    attentions,
    fuse,
    insert,
    remove,
    replace,
    sites,
    unfuse,
)
from .networks.checkpoints import LoadReport, from_pretrained, load, load_model, push_to_hub, save
from .ops import backend
from .views import capture, look

if TYPE_CHECKING:
    from .deploy.export import export
    from .deploy.fold import fold
    from .studies import StudyConfig, study

__version__ = _metadata.version("whatwhere")

__all__ = [
    "BAM",
    "CBAM",
    "ECA",
    "SE",
    "Attention",
    "ChannelAttention",
    "FuseReport",
    "Gates",
    "LoadReport",
    "ReplaceReport",
    "Report",
    "Site",
    "SpatialAttention",
    "StudyConfig",
    "Tail",
    "WhatwhereError",
    "attentions",
    "backend",
    "capture",
    "create",
    "export",
    "fold",
    "from_pretrained",
    "fuse",
    "insert",
    "load",
    "load_model",
    "look",
    "names",
    "ops",
    "push_to_hub",
    "remove",
    "replace",
    "save",
    "sites",
    "study",
    "unfuse",
]


def __getattr__(name: str) -> Any:
    """Load what needs the extra packages only when it is asked for."""
    rooms = {"study": "studies", "StudyConfig": "studies", "export": "deploy", "fold": "deploy"}
    if name in rooms:
        return getattr(_import_module(f"{__name__}.{rooms[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
