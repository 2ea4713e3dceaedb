"""One attention a file, and the registry that knows them all by name.

Every module of this package is imported here, so a new attention is one new file with one :func:`register` line.
"""

import importlib
import pkgutil

from .a2 import DoubleAttention as DoubleAttention
from .attention import Attention, GatedAttention, Gates

# The imports "X as X" of classes are for type checkers, which cannot follow the loop below. Nothing else needs them.
from .bam import BAM as BAM
from .caa import CAA as CAA
from .cbam import CBAM as CBAM
from .ccnet import CrissCrossAttention as CrissCrossAttention
from .channel import ChannelAttention as ChannelAttention
from .coordatt import CoordinateAttention as CoordinateAttention
from .danet import DANetChannelAttention as DANetChannelAttention
from .danet import PositionAttention as PositionAttention
from .dfc import DFC as DFC
from .eca import ECA as ECA
from .ela import ELA as ELA
from .ema import EfficientMultiScaleAttention as EfficientMultiScaleAttention
from .epsa import EPSA as EPSA
from .ese import ESE as ESE
from .excitation import Excitation as Excitation
from .factory import Spec as Spec
from .factory import create
from .factory import parse as parse
from .fca import FCA as FCA
from .gam import GAM as GAM
from .gc import GlobalContext as GlobalContext
from .gct import GCT as GCT
from .ge import GatherExcite as GatherExcite
from .key_map import KeyMap
from .lka import LKA as LKA
from .lka import LSKA as LSKA
from .lsk import LSK as LSK
from .mlca import MLCA as MLCA
from .nam import NAM as NAM
from .non_local import NonLocal as NonLocal
from .parnet import ParNetAttention as ParNetAttention
from .polarized import PolarizedParallel as PolarizedParallel
from .polarized import PolarizedSequential as PolarizedSequential
from .registry import ATTENTIONS as ATTENTIONS
from .registry import Entry as Entry
from .registry import add_key_map as add_key_map
from .registry import entry as entry
from .registry import entry_of as entry_of
from .registry import names, register
from .sca import SCA as SCA
from .scsa import SCSA as SCSA
from .scse import SCSE as SCSE
from .se import SE as SE
from .sge import SGE as SGE
from .shuffle import ShuffleAttention as ShuffleAttention
from .simam import SimAM as SimAM
from .sk import SelectiveKernel as SelectiveKernel
from .spatial import SpatialAttention as SpatialAttention
from .splat import SplitAttention as SplitAttention
from .srm import SRM as SRM
from .strip import StripPooling as StripPooling
from .triplet import TripletAttention as TripletAttention

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

_classes = {found.cls.__name__: found.cls for found in ATTENTIONS.registered()}
globals().update(_classes)

__all__ = ["SCA", "Attention", "GatedAttention", "Gates", "KeyMap", "create", "names", "register", *_classes]
