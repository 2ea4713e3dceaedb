"""Gates: channels and positions beside each other, from normalisations, from cells and from lines."""

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ..case import Case


class _Registry(dict[str, Any]):
    """What CenterMask's file registers networks in; nothing of it is needed."""

    def register(self, name: str) -> Any:
        return lambda function: function


def _modules(**contents: dict[str, Any]) -> dict[str, ModuleType]:
    """Return modules by their names (two underscores for a point), and the packages that they are in."""
    found: dict[str, ModuleType] = {}
    for name, values in contents.items():
        path = name.replace("__", ".").split(".")
        for end in range(1, len(path) + 1):
            found.setdefault(".".join(path[:end]), ModuleType(".".join(path[:end])))
        found[".".join(path)].__dict__.update(values)
    return found


def _rearrange(x: Tensor, pattern: str, **sizes: int) -> Tensor:
    """Compute the two patterns of einops that SCSA has: cut channels and join positions, and back."""
    if pattern.endswith("(h w)"):
        return x.reshape(len(x), sizes["head_num"], sizes["head_dim"], -1)
    return x.reshape(len(x), -1, sizes["h"], sizes["w"])


SMP = "qubvel-org/segmentation_models.pytorch"
COPIES = "xmu-xiaoma666/External-Attention-pytorch"
POLARIZED = "model/attention/PolarizedSelfAttention.py"
PSA = "semantic-segmentation/network/PSA.py"
SCSE = "squeeze_and_excitation/squeeze_and_excitation.py"
VOVNET = "maskrcnn_benchmark/modeling/backbone/vovnet.py"
CENTERMASK = _modules(
    maskrcnn_benchmark__utils__registry={"Registry": _Registry},
    maskrcnn_benchmark__layers={"FrozenBatchNorm2d": None, "DFConv2d": None},
    maskrcnn_benchmark__modeling__make_layers={"group_norm": None},
)
OPENMMLAB = _modules(mmengine__model={"BaseModule": nn.Module}, einops={"rearrange": _rearrange})
SCSA = "mmpretrain/models/attentions/SCSA.py"

CASES = [
    Case("scse", "ai-med/squeeze_and_excitation", SCSE, lambda code: code.ChannelSpatialSELayer(64)),
    Case(
        "scse",
        "ai-med/squeeze_and_excitation",
        SCSE,
        lambda code: code.ChannelSpatialSELayer(21, 5),
        {"reduction": 5},
        channels=21,
        title="r = 5, 21 channels",
    ),
    Case(
        "scse",
        SMP,
        "segmentation_models_pytorch/base/modules.py",
        lambda code: code.SCSEModule(64),
        {"combine": "add", "reduction": 16},
        title="added",
    ),
    *(
        Case(
            "ese",
            "youngwanLEE/CenterMask",
            VOVNET,
            lambda code, channels=channels: code.eSEModule(channels),
            channels=channels,
            imports=CENTERMASK,
            title=title,
        )
        for channels, title in ((64, ""), (21, "21 channels"))
    ),
    *(
        Case(
            name,
            "DeLightCMU/PSA",
            PSA,
            lambda code, theirs=theirs, channels=channels: getattr(code, theirs)(channels, channels),
            channels=channels,
            title=title,
        )
        for name, theirs in (("polarized_p", "PSA_p"), ("polarized_s", "PSA_s"))
        for channels, title in ((64, ""), (22, "22 channels"))
    ),
    *(
        Case(
            name,
            COPIES,
            POLARIZED,
            lambda code, theirs=theirs: getattr(code, theirs)(64),
            {"form": "paper"},
            title="form of the paper",
        )
        for name, theirs in (
            ("polarized_p", "ParallelPolarizedSelfAttention"),
            ("polarized_s", "SequentialPolarizedSelfAttention"),
        )
    ),
    Case("nam", "Christian-lyc/NAM", "MODELS/attention.py", lambda code: code.Att(64, None)),
    Case(
        "nam",
        "Christian-lyc/NAM",
        "MODELS/attention.py",
        lambda code: code.Channel_Att(21),
        channels=21,
        title="21 channels",
    ),
    *(
        Case(
            "mlca",
            "wandahangFY/MLCA",
            "MLCA.py",
            lambda code, channels=channels, options=options: code.MLCA(channels, **options),
            options,
            channels=channels,
            size=size,
            title=title,
        )
        for channels, size, options, title in (
            (64, (14, 12), {}, ""),
            (128, (7, 7), {"local_weight": 0.3}, "local weight 0.3, 7 × 7"),
            (21, (9, 20), {"local_size": 4}, "4 × 4 cells, 21 channels"),
            (20, (3, 1), {}, "3 × 1"),
        )
    ),
    Case("gam", "dengbuqi/GAM_Pytorch", "CAM.py", lambda code: code.GAM(64, 64)),
    Case(
        "gam",
        "dengbuqi/GAM_Pytorch",
        "CAM.py",
        lambda code: code.GAM(21, 21, 3),
        {"reduction": 3},
        channels=21,
        title="r = 3, 21 channels",
    ),
    Case(
        "gam",
        "z1069614715/objectdetection_script",
        "cv-attention/GAM.py",
        lambda code: code.GAM_Attention(64),
        {"channel_gate": True, "padding": "zeros"},
        title="with a sigmoid and zeros",
    ),
    *(
        Case(
            "scsa",
            "HZAI-ZJNU/SCSA",
            SCSA,
            lambda code, theirs=theirs, channels=channels: code.SCSA(channels, **{"head_num": 1, **theirs}),
            options,
            channels=channels,
            size=size,
            imports=OPENMMLAB,
            title=title,
        )
        for channels, size, theirs, options, title in (
            (64, (14, 12), {}, {}, ""),
            (64, (23, 16), {}, {}, "windows that do not fill the map"),
            (48, (14, 14), {"head_num": 8, "qkv_bias": True}, {"heads": 8, "bias": True}, "8 heads, biases"),
            (24, (9, 8), {"window_size": -1}, {"window_size": None}, "the whole map"),
            (24, (9, 8), {"window_size": 3, "down_sample_mode": "max_pool"}, {"window_size": 3, "pool": "max"}, "max"),
            (20, (8, 7), {"group_kernel_sizes": [1, 3, 3, 11]}, {"kernel_sizes": (1, 3, 3, 11)}, "other kernels"),
        )
    ),
]
