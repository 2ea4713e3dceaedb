"""How the attention of other codes is called in their checkpoints, and what it is called here."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from ..layers import entry

_LEAF = "weight|bias|running_mean|running_var|num_batches_tracked"
_STAGE = r"(?:.*\.)?layer\d+"


@dataclass(frozen=True)
class KeyMap:
    """How one code calls the parts of one attention.

    Attributes:
        title: whose code, in words.
        attention: its name here.
        unit: regular expression of the attention's own name; its group ``block`` is what the attention stands in.
        parts: its parts' names, and what they are here.
        where: ``"block"``, after the last normalisation of a residual block, or ``"stage"``, after the numbered stage; either may also
            stand under its very own name.
        swapped: the part whose two input channels (mean and maximum) are the other way round here.
    """

    title: str
    attention: str
    unit: str
    parts: dict[str, str]
    where: str = "block"
    swapped: str = ""

    def match(self, key: str) -> re.Match[str] | None:
        """Take a key apart into ``unit`` (and in it ``block``), ``part`` and ``leaf``."""
        return re.fullmatch(
            rf"(?P<unit>{self.unit})\.(?P<part>{'|'.join(map(re.escape, self.parts))})\.(?P<leaf>{_LEAF})", key
        )


_BAM = {
    "channel_att.gate_c.gate_c_fc_0": "fc1",
    "channel_att.gate_c.gate_c_bn_1": "bn",
    "channel_att.gate_c.gate_c_fc_final": "fc2",
    "spatial_att.gate_s.gate_s_conv_reduce0": "body.0",
    "spatial_att.gate_s.gate_s_bn_reduce0": "body.1",
    "spatial_att.gate_s.gate_s_conv_final": "head",
}
for _i in range(8):
    _BAM[f"spatial_att.gate_s.gate_s_conv_di_{_i}"] = f"body.{3 + 3 * _i}"
    _BAM[f"spatial_att.gate_s.gate_s_bn_di_{_i}"] = f"body.{4 + 3 * _i}"

KEY_MAPS = (
    KeyMap(
        "the official CBAM code",
        "cbam",
        r"(?P<block>.+)\.cbam",
        {
            "ChannelGate.mlp.1": "channel.mlp.fc1",
            "ChannelGate.mlp.3": "channel.mlp.fc2",
            "SpatialGate.spatial.conv": "spatial.conv",
            "SpatialGate.spatial.bn": "spatial.bn",
        },
    ),
    KeyMap("the official BAM code", "bam", r"(?P<block>)(?:.*\.)?bam\d", _BAM, where="stage"),
    KeyMap(
        "timm's CBAM",
        "cbam",
        r"(?P<block>.+)\.se",
        {
            "channel.fc1": "channel.mlp.fc1",
            "channel.fc2": "channel.mlp.fc2",
            "spatial.conv.conv": "spatial.conv",
            "spatial.conv.bn": "spatial.bn",
        },
        swapped="spatial.conv",
    ),
    KeyMap("timm's SE", "se", r"(?P<block>.+)\.se", {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}),
    KeyMap("timm's ECA", "eca", r"(?P<block>.+)\.se", {"conv": "conv"}),
    KeyMap("the official ECA code", "eca", r"(?P<block>.+)\.eca", {"conv": "conv"}),
    KeyMap("SE called se_module", "se", r"(?P<block>.+)\.se_module", {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}),
    KeyMap("SE with fc.0 and fc.2", "se", r"(?P<block>.+)\.se", {"fc.0": "mlp.fc1", "fc.2": "mlp.fc2"}),
    KeyMap(
        "timm's SE in MobileNetV3 and EfficientNet",
        "se",
        r"(?P<block>.+)\.se",
        {"conv_reduce": "mlp.fc1", "conv_expand": "mlp.fc2"},
        where="itself",
    ),
    KeyMap(
        "torchvision's SE in MobileNetV3 and EfficientNet",
        "se",
        r"(?P<block>features\.\d+(?:\.\d+)?\.block)\.\d+",
        {"fc1": "mlp.fc1", "fc2": "mlp.fc2"},
        where="itself",
    ),
)


@dataclass
class Unit:
    """One attention of a checkpoint: its tensors by their keys in the file, and by what they are called here."""

    key_map: KeyMap
    name: str
    block: str
    keys: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def add(self, key: str, name: str, tensor: Tensor) -> None:
        """Take in a tensor, in the shape that it has here: 1×1 convolutions are dense layers."""
        part, _, leaf = name.rpartition(".")
        if "mlp" in part and leaf == "weight" and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
            tensor = tensor.flatten(1)
        if part == self.key_map.swapped and leaf == "weight" and tensor.ndim == 4 and tensor.shape[1] == 2:
            tensor = tensor.flip(1)
        self.keys[name] = key
        self.tensors[name] = tensor

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor by its name here; None where the checkpoint has none."""
        return tuple(self.tensors[name].shape) if name in self.tensors else None

    @property
    def options(self) -> tuple[tuple[str, object], ...]:
        """The options with which the attention here has these shapes, as far as they are not the defaults."""
        told: dict[str, object] = {}
        for name in ("fc1", "mlp.fc1", "channel.mlp.fc1"):
            shape = self.shape(f"{name}.weight")
            if shape is not None and len(shape) == 2 and min(shape) > 0:
                told["reduction"] = max(1, shape[1] // shape[0])
                if shape[1] // 16 == shape[0]:
                    told["reduction"] = 16
                if "mlp" in name:
                    told["bias"] = f"{name}.bias" in self.tensors
        if self.key_map.attention == "cbam":
            told["spatial"] = any(name.startswith("spatial.") for name in self.tensors)
            kernel = self.shape("spatial.conv.weight")
            if kernel is not None and len(kernel) == 4:
                told["kernel_size"] = kernel[-1]
        if self.key_map.attention == "bam":
            told["depth"] = max(sum(bool(re.fullmatch(r"body\.\d+\.weight", n)) for n in self.tensors) // 2 - 1, 1)
        if self.key_map.attention == "eca":
            kernel = self.shape("conv.weight")
            if kernel is not None and len(kernel) == 3:
                told["kernel_size"] = kernel[-1]
        default = entry(self.key_map.attention).options
        return tuple((name, value) for name, value in told.items() if value != default[name].default)


def units(tensors: Iterable[tuple[str, Tensor]]) -> tuple[list[Unit], list[str]]:
    """Gather the attentions among tensors of a checkpoint; return them, and the keys that belong to none."""
    found: dict[tuple[str, str], Unit] = {}
    rest = []
    for key, tensor in tensors:
        for key_map in KEY_MAPS:
            if match := key_map.match(key):
                unit = found.setdefault((key_map.title, match["unit"]), Unit(key_map, match["unit"], match["block"]))
                unit.add(key, f"{key_map.parts[match['part']]}.{match['leaf']}", tensor)
                break
        else:
            rest.append(key)
    return list(found.values()), rest
