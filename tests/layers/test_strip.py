"""Strip pooling: its formula again in NumPy, its start, maps of one row."""

import numpy as np
import pytest
import torch

import whatwhere as ww

from .lines_numpy import CLOSE, a_map, batch_norm, convolve, gate, like_torch, randomised, statistics_follow


def numpy_gates(w, x, options, training):
    """The gates, and what each normalisation takes; ``training`` says it for the rows' and the columns' one."""
    z_h, z_w = convolve(w, "conv1", x.mean(3, keepdims=True)), convolve(w, "conv2", x.mean(2, keepdims=True))
    u = batch_norm(w, "bn1", z_h, training[0]) + batch_norm(w, "bn2", z_w, training[1])
    return gate(convolve(w, "conv3", np.maximum(u, 0)), options), z_h, z_w


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, {"gate": "hard_sigmoid"}, {"identity": True}], ids=str)
def test_formula(options, training):
    x = a_map(3, 7, 6, 5)
    attention, w = randomised(ww.StripPooling(7, **options), training)
    want, z_h, z_w = numpy_gates(w, x.numpy(), options, 2 * (training,))
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)
    if training:
        statistics_follow(attention, w, "bn1", z_h, 0.1)
        statistics_follow(attention, w, "bn2", z_w, 0.1)


def test_one_row_takes_the_running_statistics_of_the_rows():
    x = a_map(1, 5, 1, 6)
    attention, w = randomised(ww.StripPooling(5), training=True)
    want = numpy_gates(w, x.numpy(), {}, (False, True))[0]
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)
    assert attention.bn1.running_var.equal(torch.from_numpy(w["bn1.running_var"]))


def test_the_official_start():
    torch.manual_seed(0)
    attention = ww.StripPooling(64)
    assert all(like_torch(conv) for conv in (attention.conv1, attention.conv2, attention.conv3))
    assert [conv.bias is None for conv in (attention.conv1, attention.conv2, attention.conv3)] == [True, True, False]
    assert attention.gates(torch.randn(4, 64, 9, 9)).full.mean().item() == pytest.approx(0.5, abs=0.05)
    assert sum(p.numel() for p in attention.parameters()) == 7 * 64**2 + 5 * 64


def test_the_last_convolution_learns_from_the_identity():
    attention = ww.StripPooling(6, identity=True)
    (attention(torch.randn(2, 6, 5, 4)) * torch.rand(2, 6, 5, 4)).sum().backward()
    assert attention.conv3.weight.grad.abs().max() > 0


def test_names_with_a_prefix():
    trained = randomised(ww.StripPooling(8))[0].float()
    state = {f"layer4.2.spm.{key}": value for key, value in trained.state_dict().items()}
    torch.testing.assert_close(ww.StripPooling(8).load_official(state).state_dict(), trained.state_dict())
