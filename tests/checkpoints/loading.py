"""A small ResNet to load into, and what must be true of a load that fails."""

import pytest
import torch
from torchvision.models.resnet import BasicBlock, ResNet

import whatwhere as ww

STAGES = ["layer1", "layer2", "layer3"]


def resnet(classes=10):
    return ResNet(BasicBlock, [1, 2, 1, 1], num_classes=classes)


def with_attention(kind, **options):
    model = resnet()
    if kind:
        ww.insert(model, kind, at=STAGES if kind == "bam" else None, identity=False, example=images(), **options)
    return model


def images(dtype=torch.float32):
    return torch.randn(2, 3, 64, 64, dtype=dtype, generator=torch.Generator().manual_seed(1))


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(before, model):
    after = model.state_dict()
    return before.keys() == after.keys() and all(
        torch.equal(value, after[key]) and value.dtype == after[key].dtype for key, value in before.items()
    )


def refused(model, path, **options):
    """The message with which loading fails; the network is afterwards as it was."""
    before = state(model)
    with pytest.raises(ww.WhatwhereError) as caught:
        ww.load(model, path, **options)
    assert same(before, model)
    return str(caught.value)
