"""whatwhere: channel attention (what) and spatial attention (where) for convolutional networks.

>>> import torch, whatwhere as ww
>>> attention = ww.create("cbam", 256)
>>> attention(torch.randn(2, 256, 14, 14)).shape
torch.Size([2, 256, 14, 14])
"""

from importlib import metadata as _metadata
from typing import TYPE_CHECKING, Any

from . import ops
from .errors import WhatwhereError
from .layers import BAM, CBAM, SE, Attention, ChannelAttention, Gates, SpatialAttention, create, names
from .networks import Report, Site, attentions, insert, remove, sites
from .views import capture, look

if TYPE_CHECKING:
    from .studies import StudyConfig, study

__version__ = _metadata.version("whatwhere")

__all__ = [
    "BAM",
    "CBAM",
    "SE",
    "Attention",
    "ChannelAttention",
    "Gates",
    "Report",
    "Site",
    "SpatialAttention",
    "StudyConfig",
    "WhatwhereError",
    "attentions",
    "capture",
    "create",
    "insert",
    "look",
    "names",
    "ops",
    "remove",
    "sites",
    "study",
]


def __getattr__(name: str) -> Any:
    """Load what needs the extra packages only when it is asked for."""
    if name in ("study", "StudyConfig"):
        from . import studies

        return getattr(studies, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
