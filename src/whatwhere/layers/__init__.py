"""One attention a file, and the registry that knows them all by name.

Every module of this package is imported here, so a new attention is one new file with one :func:`register` line.
"""

import importlib
import pkgutil

from .attention import Attention, Gates
from .registry import Entry, Spec, create, entry, names, parse, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from .bam import BAM  # noqa: E402
from .cbam import CBAM  # noqa: E402
from .channel import ChannelAttention  # noqa: E402
from .eca import ECA  # noqa: E402
from .se import SE  # noqa: E402
from .spatial import SpatialAttention  # noqa: E402

__all__ = [
    "BAM",
    "CBAM",
    "ECA",
    "SE",
    "Attention",
    "ChannelAttention",
    "Entry",
    "Gates",
    "SpatialAttention",
    "Spec",
    "create",
    "entry",
    "names",
    "parse",
    "register",
]
