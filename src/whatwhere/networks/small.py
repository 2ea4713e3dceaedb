"""Small networks for small images (about 32 to 64 pixels), which learn in a minute on a CPU."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .intermediates import intermediates

WIDTHS = (16, 32, 64)


def convolve(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Make a convolution that keeps the size (up to the stride), without bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class Residual(nn.Module):
    """ResNet's basic block: two 3×3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolve(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = convolve(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(convolve(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen four times, 3×3 in each channel, narrow; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int = 4) -> None:
        super().__init__()
        hidden = inputs * widen
        self.expand = nn.Sequential(convolve(inputs, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True))
        self.depthwise = nn.Sequential(
            convolve(hidden, hidden, 3, stride, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)
        )
        self.project = nn.Sequential(convolve(hidden, outputs, 1), nn.BatchNorm2d(outputs))
        self.stays = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.stays else y


class SmallNetwork(nn.Module):
    """A stem, stages, global average pooling and a linear classifier.

    Args:
        stem: from 3 channels to those of the first stage.
        stages: what follows, stage by stage.
        features: channels of the last stage.
        classes: how many classes.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], features: int, classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.head: nn.Module = nn.Linear(features, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, 3, H, W)`` to class scores ``(N, classes)``."""
        scores: Tensor = self.head(self.stages(self.stem(x)).mean((2, 3)))
        return scores

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int] | None = None, *, intermediates_only: bool = True
    ) -> list[Tensor]:
        """Return the maps of the stages with these indices, by default of all: timm's interface."""
        x = self.stem(x)
        return intermediates(x, self.stages, indices, intermediates_only=intermediates_only)

    def prune_intermediate_layers(self, indices: Sequence[int], **_: bool) -> None:
        """Take out what comes after the last of these stages: timm's interface."""
        self.stages = self.stages[: max(indices) + 1]
        self.head = nn.Identity()


def _stem(width: int, stride: int) -> nn.Module:
    return nn.Sequential(convolve(3, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def small_resnet(classes: int, widths: Sequence[int] = WIDTHS, stem_stride: int = 2, blocks: int = 1) -> SmallNetwork:
    """Build a ResNet of basic blocks: half resolution in the first stage, half again in each later one."""
    stages, before = [], widths[0]
    for number, width in enumerate(widths):
        first = Residual(before, width, 1 if number == 0 else 2)
        stages.append(nn.Sequential(first, *(Residual(width, width, 1) for _ in range(blocks - 1))))
        before = width
    return SmallNetwork(_stem(widths[0], stem_stride), stages, widths[-1], classes)


def small_vgg(classes: int, widths: Sequence[int] = WIDTHS) -> SmallNetwork:
    """Build a network without shortcuts: two 3×3 convolutions a stage, max-pooling between stages."""
    stages, before = [], widths[0]
    for number, width in enumerate(widths):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for inputs in (before, width) if number else (width,):  # with the stem the first stage has two as well
            layers += [convolve(inputs, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        stages.append(nn.Sequential(*layers))
        before = width
    return SmallNetwork(_stem(widths[0], 1), stages, widths[-1], classes)


def small_mobilenet(classes: int, widths: Sequence[int] = WIDTHS) -> SmallNetwork:
    """Build a network of inverted residuals: two a stage, from half resolution on."""
    stages, before = [], widths[0]
    for number, width in enumerate(widths):
        first = InvertedResidual(before, width, 1 if number == 0 else 2)
        stages.append(nn.Sequential(first, InvertedResidual(width, width, 1)))
        before = width
    return SmallNetwork(_stem(widths[0], 2), stages, widths[-1], classes)


def small_resnet_32(classes: int, widths: Sequence[int] = WIDTHS) -> SmallNetwork:
    """Build :func:`small_resnet` with full resolution in the first stage, for images of about 32 pixels."""
    return small_resnet(classes, widths, stem_stride=1)


def resnet_20(classes: int, widths: Sequence[int] = WIDTHS) -> SmallNetwork:
    """Build the ResNet-20 for CIFAR-10 of arXiv 1512.03385: three blocks a stage; its shortcuts are convolutions where
    the shape changes.
    """
    return small_resnet(classes, widths, stem_stride=1, blocks=3)


def resnet_56(classes: int, widths: Sequence[int] = WIDTHS) -> SmallNetwork:
    """Build the ResNet-56 for CIFAR-10, nine blocks a stage; else as :func:`resnet_20`."""
    return small_resnet(classes, widths, stem_stride=1, blocks=9)


SMALL: dict[str, Callable[[int, Sequence[int]], SmallNetwork]] = {
    "small-resnet": small_resnet,
    "small-resnet-32": small_resnet_32,
    "resnet-20": resnet_20,
    "resnet-56": resnet_56,
    "small-vgg": small_vgg,
    "small-mobilenet": small_mobilenet,
}


def create_small(name: str, classes: int, widths: Sequence[int] = WIDTHS) -> SmallNetwork:
    """Build one of :data:`SMALL` by name."""
    return SMALL[name](classes, tuple(widths))
