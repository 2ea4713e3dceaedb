"""ResNets with attention, named as in the official CBAM and BAM code, written anew from the papers' formulas."""

import torch
from torch import nn
from torch.nn import functional as F


class Squeezed(nn.Module):
    """Named parts without a forward pass of their own."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class CBAM(nn.Module):
    def __init__(self, channels, spatial=True):
        super().__init__()
        hidden = channels // 16
        mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.ChannelGate = Squeezed(mlp=mlp)
        if spatial:
            conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
            self.SpatialGate = Squeezed(spatial=Squeezed(conv=conv, bn=nn.BatchNorm2d(1, momentum=0.01)))

    def forward(self, x):
        mlp = self.ChannelGate.mlp
        x = x * torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))[:, :, None, None]
        if hasattr(self, "SpatialGate"):
            gate = self.SpatialGate.spatial
            maps = torch.stack([x.amax(1), x.mean(1)], 1)
            x = x * torch.sigmoid(gate.bn(gate.conv(maps)))
        return x


class BAM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        n = channels // 16
        self.channel_att = Squeezed(
            gate_c=Squeezed(
                gate_c_fc_0=nn.Linear(channels, n),
                gate_c_bn_1=nn.BatchNorm1d(n),
                gate_c_fc_final=nn.Linear(n, channels),
            )
        )
        parts = {"gate_s_conv_reduce0": nn.Conv2d(channels, n, 1), "gate_s_bn_reduce0": nn.BatchNorm2d(n)}
        for i in range(2):
            parts[f"gate_s_conv_di_{i}"] = nn.Conv2d(n, n, 3, padding=4, dilation=4)
            parts[f"gate_s_bn_di_{i}"] = nn.BatchNorm2d(n)
        self.spatial_att = Squeezed(gate_s=Squeezed(**parts, gate_s_conv_final=nn.Conv2d(n, 1, 1)))

    def forward(self, x):
        c, s = self.channel_att.gate_c, self.spatial_att.gate_s
        what = c.gate_c_fc_final(F.relu(c.gate_c_bn_1(c.gate_c_fc_0(x.mean((2, 3))))))
        where = F.relu(s.gate_s_bn_reduce0(s.gate_s_conv_reduce0(x)))
        for i in range(2):
            where = F.relu(getattr(s, f"gate_s_bn_di_{i}")(getattr(s, f"gate_s_conv_di_{i}")(where)))
        return x * (1 + torch.sigmoid(what[:, :, None, None] * s.gate_s_conv_final(where)))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, cbam):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.cbam = cbam

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y = y if self.cbam is None else self.cbam(y)
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Network(nn.Module):
    """A ResNet with one or two basic blocks a stage, ``kind`` one of "cbam", "bam" and None."""

    def __init__(self, kind, blocks=(1, 2, 1, 1), classes=10, spatial=True):
        super().__init__()
        self.kind = kind
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for number, count in enumerate(blocks, 1):
            width = 32 * 2**number
            stage = nn.Sequential()
            for index in range(count):
                cbam = CBAM(width, spatial) if kind == "cbam" else None
                stage.append(Block(before, width, 2 if number > 1 and index == 0 else 1, cbam))
                before = width
            self.add_module(f"layer{number}", stage)
            if kind == "bam" and number < 4:
                self.add_module(f"bam{number}", BAM(width))
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            x = getattr(self, f"bam{number}")(x) if hasattr(self, f"bam{number}") else x
        return self.fc(x.mean((2, 3)))


def official(kind, seed=0, **options):
    """Return such a network in eval mode with every weight and statistic drawn at random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Network(kind, **options)
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key.endswith("running_var"):
                    value.uniform_(0.5, 2)
                elif key.endswith(("running_mean", "bias")):
                    value.normal_(0, 0.3)
                elif value.ndim == 1:
                    value.uniform_(0.3, 1.2)
    return model.eval()
