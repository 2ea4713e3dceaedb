"""Small networks with attention whose gates move, or do not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """A residual branch whose last layer is ``last``."""

    def __init__(self, channels: int, last: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.last = last

    def forward(self, x):
        return F.relu(x + self.last(F.relu(self.conv(x))))


class Network(nn.Module):
    """A stem, blocks, and class scores; batch norms have statistics of their own."""

    def __init__(self, *blocks: nn.Module, channels: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter and statistic away from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.copy_(0.2 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def block():
    return Block


@pytest.fixture
def network():
    """Build a network of blocks that end in a convolution and in a batch norm, unless blocks are given."""

    def make(*blocks: nn.Module, channels: int = 12) -> nn.Module:
        torch.manual_seed(0)
        chosen = blocks or (
            Block(channels, nn.Conv2d(channels, channels, 3, padding=1)),
            Block(channels, nn.BatchNorm2d(channels)),
        )
        return Network(*chosen, channels=channels)

    return make


@pytest.fixture
def moving():
    """Give attentions weights that make their gates differ from image to image."""
    return randomise


@pytest.fixture
def still():
    """Move everything away from the start, but leave channel gates the same for every image: biases only."""

    def settle(model: nn.Module) -> nn.Module:
        randomise(model)
        for name, parameter in model.named_parameters():
            if name.endswith("mlp.fc2.weight"):
                nn.init.zeros_(parameter)
        return model

    return settle


@pytest.fixture
def images():
    return torch.randn(24, 3, 10, 9, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def snapshot():
    """Everything of a model that a careless function could change."""

    def take(model: nn.Module):
        modules = [
            (n, type(m), m.training, tuple(m._forward_hooks.values()), tuple(m._forward_pre_hooks.values()))
            for n, m in model.named_modules()
        ]
        tensors = [
            (n, id(t), t.requires_grad, t.detach().clone())
            for n, t in (*model.named_parameters(), *model.named_buffers())
        ]
        gradients = [(n, None if p.grad is None else (id(p.grad), p.grad.clone())) for n, p in model.named_parameters()]
        return modules, tensors, gradients

    return take


@pytest.fixture
def same():
    """Compare two snapshots bit for bit."""

    def check(one, other) -> bool:
        modules, tensors, gradients = zip(one, other, strict=True)
        return (
            modules[0] == modules[1]
            and [t[:3] for t in tensors[0]] == [t[:3] for t in tensors[1]]
            and all(a[3].equal(b[3]) for a, b in zip(*tensors, strict=True))
            and all(
                a[0] == b[0]
                and (a[1] is None) == (b[1] is None)
                and (a[1] is None or (a[1][0] == b[1][0] and a[1][1].equal(b[1][1])))
                for a, b in zip(*gradients, strict=True)
            )
        )

    return check
