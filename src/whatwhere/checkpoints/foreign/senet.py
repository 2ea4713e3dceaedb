"""Names of SENets converted from Caffe, for ResNets, and two differences in what they compute."""

from collections.abc import Container, Mapping
from typing import Any

from torch import Tensor, nn

from ..renamers import Renamed, renamer


@renamer("senet", title="SENet's names")
def rename_senet(model: nn.Module, wanted: Container[str], tensors: Mapping[str, Tensor]) -> Renamed:
    """Give stem (``layer0.conv1``) and head (``last_linear``) the names that a ResNet has for them."""
    new = {}
    for key in tensors:
        name = key.replace("last_linear.", "fc.", 1) if key.startswith("last_linear.") else key.removeprefix("layer0.")
        if name != key and name in wanted:
            new[key] = name
    stem = any(key.startswith("layer0.") for key in new)
    reasons = _differences(model) if stem else []
    rest = {key: tensor for key, tensor in tensors.items() if key not in new}
    return Renamed({name: tensors[key] for key, name in new.items()}, rest, reasons)


def _differences(model: Any) -> list[str]:
    """Say how a ResNet differs: the padding of its first pooling, the stride in its bottlenecks."""
    found = []
    pool = getattr(model, "maxpool", None)
    if not (isinstance(pool, nn.MaxPool2d) and pool.ceil_mode and pool.padding in (0, (0, 0))):
        found.append(
            "maxpool: these weights are for one without padding: model.maxpool = "
            "torch.nn.MaxPool2d(3, 2, ceil_mode=True)"
        )
    wrong = []
    for stage in ("layer2", "layer3", "layer4"):
        first: Any = next(iter(getattr(model, stage, [])), None)
        bottleneck = hasattr(first, "conv3") and isinstance(first.conv2, nn.Conv2d) and first.conv2.groups == 1
        if bottleneck and (first.conv1.stride, first.conv2.stride) != ((2, 2), (1, 1)):
            wrong.append(f"{stage}.0")
    if wrong:
        found.append(
            f"{', '.join(wrong)}: in these weights' bottlenecks the first convolution has the stride: set "
            "conv1.stride = (2, 2) and conv2.stride = (1, 1) there"
        )
    return found
