"""One attention a file, and the registry that knows them all by name.

Every module of this package is imported here, so a new attention is one new file with one :func:`register` line.
"""

import importlib
import pkgutil

from .a2 import DoubleAttention as DoubleAttention
from .attention import Attention, GatedAttention, Gates

# The imports "X as X" of classes are for type checkers, which cannot follow the loop below. Nothing else needs them.
from .bam import BAM as BAM
from .cbam import CBAM as CBAM
from .ccnet import CrissCrossAttention as CrissCrossAttention
from .channel import ChannelAttention as ChannelAttention
from .danet import DANetChannelAttention as DANetChannelAttention
from .danet import PositionAttention as PositionAttention
from .dfc import DFC as DFC
from .eca import ECA as ECA
from .excitation import Excitation as Excitation
from .factory import Spec as Spec
from .factory import create
from .factory import parse as parse
from .gc import GlobalContext as GlobalContext
from .key_map import KeyMap
from .non_local import NonLocal as NonLocal
from .registry import ATTENTIONS as ATTENTIONS
from .registry import Entry as Entry
from .registry import add_key_map as add_key_map
from .registry import entry as entry
from .registry import entry_of as entry_of
from .registry import names, register
from .sca import SCA as SCA
from .se import SE as SE
from .spatial import SpatialAttention as SpatialAttention

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

_classes = {found.cls.__name__: found.cls for found in ATTENTIONS.registered()}
globals().update(_classes)

__all__ = ["SCA", "Attention", "GatedAttention", "Gates", "KeyMap", "create", "names", "register", *_classes]
