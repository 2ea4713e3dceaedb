"""From an ONNX file in float32 to one in int8."""

from pathlib import Path

from ..errors import WhatwhereError, need
from ..graph.batches import Batches


def quantise(source: Path, target: Path, batches: Batches) -> None:
    """Write ``source`` to ``target`` with int8 weights (a scale a channel) and int8 maps (a scale a tensor).

    Static quantisation of ONNX Runtime: the maps' ranges are the smallest and largest values over ``images``, and the
    file holds pairs of QuantizeLinear and DequantizeLinear around every operation that has an int8 form.
    """
    quantization = need("onnxruntime.quantization", extra="export")
    shapes = need("onnxruntime.quantization.shape_inference", extra="export")
    onnx = need("onnx", extra="export")
    name = onnx.load(source).graph.input[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, object] | None:
            images, _ = next(self.batches, (None, None))
            return None if images is None else {name: images.cpu().contiguous().numpy()}

    prepared = target.with_name(target.name + ".prepared")
    try:
        shapes.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(str(prepared), str(target), Reader(), per_channel=True)
    except WhatwhereError:
        raise
    except Exception as error:
        raise WhatwhereError(f"the network cannot be quantised: {type(error).__name__}: {error}") from error
    finally:
        prepared.unlink(missing_ok=True)
