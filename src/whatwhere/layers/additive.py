r"""Scores of additive attention, whose large activations are made anew in the backward pass.

A score is :math:`u \cdot \tanh(a + q)`, where a belongs to a channel or a position and q to the state that asks. The
vectors inside tanh, K numbers for every channel or position and every state, are by far the largest of all activations:
they are made in parts that fit in the cache, and not kept.

tanh(z) is computed as 2σ(2z) − 1, which is several times faster on a CPU and as exact in the sum of a score. With
s = σ(2z), the slope of tanh is 4s(1 − s).
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART = 1 << 17
"""How many numbers a part has, about."""


def channel_scores(values: Tensor, weight: Tensor, query: Tensor, vector: Tensor) -> Tensor:
    r"""Return the scores of channels that are described by one number each, :math:`u \cdot \tanh(v_c w + q)`.

    Args:
        values: v, ``(N, R, C)``, or ``(N, 1, C)`` where all states look at the same map.
        weight: w, ``(K,)``.
        query: q, ``(N, R, K)``.
        vector: u, ``(K,)``.

    Returns:
        ``(N, R, C)``, in the dtype of ``vector``.

    Example:
        >>> one = torch.ones
        >>> channel_scores(one(2, 1, 5), one(3), torch.zeros(2, 4, 3), one(3)).shape
        torch.Size([2, 4, 5])
    """
    values = values.expand(-1, query.shape[1], -1)
    with _own_dtype(vector):
        scores: Tensor = _ChannelScores.apply(*(one.to(vector.dtype) for one in (values, weight, query, vector)))
    return scores


def position_scores(projected: Tensor, query: Tensor, vector: Tensor) -> Tensor:
    r"""Return the scores of positions, :math:`u \cdot \tanh(p_i + q)`.

    Args:
        projected: p, ``(N, M, K)``, the same for all states.
        query: q, ``(N, R, K)``.
        vector: u, ``(K,)``.

    Returns:
        ``(N, R, M)``.

    Example:
        >>> position_scores(torch.ones(2, 5, 3), torch.zeros(2, 4, 3), torch.ones(3)).shape
        torch.Size([2, 4, 5])
    """
    with _own_dtype(vector):
        scores: Tensor = _PositionScores.apply(*(one.to(vector.dtype) for one in (projected, query, vector)))
    return scores


def scaled_position_scores(maps: Tensor, scale: Tensor, weight: Tensor, query: Tensor, vector: Tensor) -> Tensor:
    r"""Return the scores of positions in a map whose channels each state has scaled,
    :math:`u \cdot \tanh(W (s \odot V_i) + q)`.

    Args:
        maps: V, ``(N, M, C)``.
        scale: s, ``(N, R, C)``.
        weight: W, ``(K, C)``.
        query: q, ``(N, R, K)``.
        vector: u, ``(K,)``.

    Returns:
        ``(N, R, M)``.

    Example:
        >>> one = torch.ones
        >>> scaled_position_scores(one(2, 5, 6), one(2, 4, 6), one(3, 6), torch.zeros(2, 4, 3), one(3)).shape
        torch.Size([2, 4, 5])
    """
    with _own_dtype(vector):
        parts = (one.to(vector.dtype) for one in (maps, scale, weight, query, vector))
        scores: Tensor = _ScaledPositionScores.apply(*parts)
    return scores


Backward = Callable[[Any, Tensor], tuple[Tensor | None, ...]]


def _own_dtype(vector: Tensor) -> Any:
    """Leave autocast: the forward pass and the backward pass compute in the parameters' dtype."""
    return torch.autocast(vector.device.type, enabled=False)


def _without_autocast(backward: Backward) -> Backward:
    """Let a backward pass that is called inside autocast compute in its own dtype."""

    @functools.wraps(backward)
    def run(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with _own_dtype(grad):
            return backward(ctx, grad)

    return run


def _parts(rows: int, numbers: int) -> Iterator[slice]:
    step = max(1, PART // max(1, numbers))
    for start in range(0, rows, step):
        yield slice(start, start + step)


class _ChannelScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, query: Tensor, vector: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight, query, vector)
        flat, asked = values.reshape(-1, values.shape[-1]), query.reshape(-1, query.shape[-1])
        scores = torch.empty_like(flat)
        for part in _parts(len(flat), flat.shape[1] * len(weight)):
            scores[part] = _outer_sigmoid(flat[part], weight, asked[part]) @ vector
        return scores.mul_(2).sub_(vector.sum()).view(values.shape)

    @staticmethod
    @once_differentiable
    @_without_autocast
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # The gradient of z is 4 g u s (1 - s): all that is needed are its sums, products of s (1 - s) with few numbers.
        values, weight, query, vector = ctx.saved_tensors
        flat, asked = values.reshape(-1, values.shape[-1]), query.reshape(-1, query.shape[-1])
        grad = grad.reshape(flat.shape)
        grad_values, grad_query = torch.empty_like(flat), torch.empty_like(asked)
        grad_weight, grad_vector = torch.zeros_like(weight), torch.zeros_like(vector)
        slope, times = 4 * vector * weight, torch.stack((grad, grad * flat), 1)
        for part in _parts(len(flat), flat.shape[1] * len(weight)):
            sigmoid = _outer_sigmoid(flat[part], weight, asked[part])
            g = grad[part]
            grad_vector += g.reshape(-1) @ sigmoid.view(-1, len(weight))
            inner = torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1)
            grad_values[part] = g * (inner @ slope)
            sums = torch.bmm(times[part], inner)
            grad_query[part] = sums[:, 0]
            grad_weight += sums[:, 1].sum(0)
        grad_vector.mul_(2).sub_(grad.sum())
        scale = 4 * vector
        return grad_values.view(values.shape), grad_weight * scale, (grad_query * scale).view(query.shape), grad_vector


def _outer_sigmoid(values: Tensor, weight: Tensor, query: Tensor) -> Tensor:
    """Return σ(2(v_c w_k + q_k)), ``(rows, C, K)``: a product of two columns with two rows, then σ."""
    columns = torch.stack((values, torch.ones_like(values)), 2)
    rows = torch.stack((weight.expand_as(query), query), 1).mul_(2)
    return torch.bmm(columns, rows).sigmoid_()


class _PositionScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, query: Tensor, vector: Tensor) -> Tensor:
        ctx.save_for_backward(projected, query, vector)
        scores = query.new_empty(*query.shape[:2], projected.shape[1])
        for part in _parts(len(query), query.shape[1] * projected.shape[1:].numel()):
            scores[part] = _added_sigmoid(projected[part, None], query[part]) @ vector
        return scores.mul_(2).sub_(vector.sum())

    @staticmethod
    @once_differentiable
    @_without_autocast
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        projected, query, vector = ctx.saved_tensors
        grad_projected = torch.empty_like(projected) if ctx.needs_input_grad[0] else None
        grad_query, grad_vector = torch.empty_like(query), torch.zeros_like(vector)
        for part in _parts(len(query), query.shape[1] * projected.shape[1:].numel()):
            sigmoid, g = _added_sigmoid(projected[part, None], query[part]), grad[part]
            grad_vector += g.reshape(-1) @ sigmoid.reshape(-1, len(vector))
            inner = torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1)
            grad_query[part] = torch.matmul(g[:, :, None], inner)[:, :, 0]
            if grad_projected is not None:
                grad_projected[part] = inner.mul_(g[..., None]).sum(1)
        grad_vector.mul_(2).sub_(grad.sum())
        scale = 4 * vector
        return None if grad_projected is None else grad_projected * scale, grad_query * scale, grad_vector


class _ScaledPositionScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, scale: Tensor, weight: Tensor, query: Tensor, vector: Tensor) -> Tensor:
        ctx.save_for_backward(maps, scale, weight, query, vector)
        scores = query.new_empty(*query.shape[:2], maps.shape[1])
        for part in _parts(len(query), query.shape[1] * maps.shape[1:].numel()):
            projected = torch.matmul(maps[part, None] * scale[part, :, None], weight.t())
            scores[part] = _added_sigmoid(projected, query[part]) @ vector
        return scores.mul_(2).sub_(vector.sum())

    @staticmethod
    @once_differentiable
    @_without_autocast
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, scale, weight, query, vector = ctx.saved_tensors
        grad_maps = torch.empty_like(maps) if ctx.needs_input_grad[0] else None
        grad_scale, grad_query = torch.empty_like(scale), torch.empty_like(query)
        grad_weight, grad_vector = torch.zeros_like(weight), torch.zeros_like(vector)
        for part in _parts(len(query), query.shape[1] * maps.shape[1:].numel()):
            own, s, g = maps[part, None], scale[part, :, None], grad[part]
            scaled = own * s
            sigmoid = _added_sigmoid(torch.matmul(scaled, weight.t()), query[part])
            grad_vector += g.reshape(-1) @ sigmoid.reshape(-1, len(vector))
            inner = torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1).mul_(g[..., None]).mul_(4 * vector)
            grad_query[part] = inner.sum(2)
            grad_weight += inner.reshape(-1, len(vector)).t() @ scaled.reshape(-1, scaled.shape[-1])
            into = torch.matmul(inner, weight)
            if grad_maps is not None:
                grad_maps[part] = (into * s).sum(1)
            grad_scale[part] = into.mul_(own).sum(2)
        grad_vector.mul_(2).sub_(grad.sum())
        return grad_maps, grad_scale, grad_weight, grad_query, grad_vector


def _added_sigmoid(projected: Tensor, query: Tensor) -> Tensor:
    """Return σ(2(p + q)), ``(n, R, M, K)``, of ``(n, 1 or R, M, K)`` and ``(n, R, K)``."""
    return (projected + query[:, :, None]).mul_(2).sigmoid_()
