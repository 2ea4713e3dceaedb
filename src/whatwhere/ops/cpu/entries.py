"""What Python calls: each function cuts one move into tasks and starts the threads. Compiled once per dtype and kept on
disk.
"""

import sys
from typing import Any

from numba import njit
from numba.core import event

from . import channels_last, filters, planar, whole
from .launch import launch

_entries: set[Any] = set()


def entry(function: Any) -> Any:
    """Decorator: compile when first called, and keep the result on disk."""
    compiled = njit(nogil=True, cache=True, error_model="numpy")(function)
    _entries.add(compiled)
    return compiled


class _Notice(event.Listener):
    """Says once in a process that it is compiling, so that a first call is not silent for seconds."""

    said = False

    def on_start(self, begun: Any) -> None:
        if begun.data.get("dispatcher") in _entries and not _Notice.said:
            _Notice.said = True
            print(
                "whatwhere: compiling kernels for this CPU, once, some seconds (`whatwhere warmup` does it ahead)",
                file=sys.stderr,
            )

    def on_end(self, ended: Any) -> None:
        pass


event.register("numba:compile", _Notice())


@entry
def planar_squeeze_space(tag, x, shift, sign, out, spots, n, c, p, rows, kinds, threads, runtime):
    args = (tag, x, shift, sign, out, spots, n, c, p, rows, kinds)
    launch(planar.squeeze_space, -(-n * c // rows), threads, runtime, args)


@entry
def planar_squeeze_channels(tag, x, shift, scale, bias, out, spots, n, c, p, tiles, tile, threads, runtime):
    args = (tag, x, shift, scale, bias, out, spots, c, p, tiles, tile)
    launch(planar.squeeze_channels, n * tiles, threads, runtime, args)


@entry
def planar_apply_gates(tag, x, shift, scale, bias, spatial, residual, y, n, c, p, rows, relu, threads, runtime):
    args = (tag, x, shift, scale, bias, spatial, residual, y, n, c, p, rows, relu)
    launch(planar.apply_gates, -(-n * c // rows), threads, runtime, args)


@entry
def planar_apply_gates_backward(
    tag, g, x, y, masked, shift, scale, bias, spatial, sums, place, n, c, p, chunks, chunk, threads, runtime
):
    args = (tag, g, x, y, masked, shift, scale, bias, spatial, sums, place, c, p, chunks, chunk)
    launch(planar.apply_gates_backward, n * chunks, threads, runtime, args)


@entry
def planar_squeeze_channels_backward(tag, x, shift, lines, channels, sums, n, c, p, rows, threads, runtime):
    args = (tag, x, shift, lines, channels, sums, n, c, p, rows)
    launch(planar.squeeze_channels_backward, -(-n * c // rows), threads, runtime, args)


@entry
def planar_gather(
    tag, g, x, shift, scale, spatial, lines, channels, points, spots, dx, n, c, p, rows, kinds, threads, runtime
):
    args = (tag, g, x, shift, scale, spatial, lines, channels, points, spots, dx, n, c, p, rows, kinds)
    launch(planar.gather, -(-n * c // rows), threads, runtime, args)


@entry
def last_squeeze_space(tag, x, shift, sign, out, spots, n, c, p, tiles, tile, kinds, threads, runtime):
    args = (tag, x, shift, sign, out, spots, c, p, tiles, tile, kinds)
    launch(channels_last.squeeze_space, n * tiles, threads, runtime, args)


@entry
def last_squeeze_channels(tag, x, shift, scale, bias, out, spots, n, c, p, rows, threads, runtime):
    args = (tag, x, shift, scale, bias, out, spots, n, c, p, rows)
    launch(channels_last.squeeze_channels, -(-n * p // rows), threads, runtime, args)


@entry
def last_apply_gates(tag, x, shift, scale, bias, spatial, residual, y, n, c, p, rows, relu, threads, runtime):
    args = (tag, x, shift, scale, bias, spatial, residual, y, n, c, p, rows, relu)
    launch(channels_last.apply_gates, -(-n * p // rows), threads, runtime, args)


@entry
def last_apply_gates_backward(
    tag, g, x, y, masked, shift, scale, bias, spatial, sums, place, n, c, p, chunks, chunk, threads, runtime
):
    args = (tag, g, x, y, masked, shift, scale, bias, spatial, sums, place, c, p, chunks, chunk)
    launch(channels_last.apply_gates_backward, n * chunks, threads, runtime, args)


@entry
def last_squeeze_channels_backward(tag, x, shift, lines, channels, sums, n, c, p, chunks, chunk, threads, runtime):
    args = (tag, x, shift, lines, channels, sums, c, p, chunks, chunk)
    launch(channels_last.squeeze_channels_backward, n * chunks, threads, runtime, args)


@entry
def last_gather(
    tag, g, x, shift, scale, spatial, lines, channels, points, spots, dx, n, c, p, rows, kinds, threads, runtime
):
    args = (tag, g, x, shift, scale, spatial, lines, channels, points, spots, dx, n, c, p, rows, kinds)
    launch(channels_last.gather, -(-n * p // rows), threads, runtime, args)


@entry
def correlate(tag, padded, weight, out, n, inputs, outputs, h, w, k, h_padded, w_padded, turned, threads, runtime):
    args = (tag, padded, weight, out, inputs, outputs, h, w, k, h_padded, w_padded, turned)
    launch(filters.correlate, n * outputs, threads, runtime, args)


@entry
def weigh(tag, g, padded, dweight, n, inputs, outputs, h, w, k, h_padded, w_padded, slot, threads, runtime):
    args = (tag, g, padded, dweight, n, inputs, outputs, h, w, k, h_padded, w_padded, slot)
    launch(filters.weigh, outputs * inputs * k, threads, runtime, args)


@entry
def planar_glance(tag, x, y, residual, relu, what, where, n, c, p, threads, runtime):
    launch(whole.planar_image, n, threads, runtime, (tag, x, y, residual, relu, what, where, n, c, p))


@entry
def last_glance(tag, x, y, residual, relu, what, where, n, c, p, threads, runtime):
    launch(whole.last_image, n, threads, runtime, (tag, x, y, residual, relu, what, where, n, c, p))
