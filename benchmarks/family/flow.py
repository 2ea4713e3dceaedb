"""The flow of data through an attention, drawn from a recorded pass as a Mermaid chart."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

import whatwhere as ww

C, H, W = 256, 14, 12
"""The map of the recorded pass; sizes are written in terms of these."""
_SIDES = {C: "C", H: "H", W: "W", H * W: "HW", H + W: "H+W", 1: "1"}
_SILENT = (
    "flatten unflatten view reshape _unsafe_view unsqueeze squeeze select getitem _assert_tensor_metadata to expand"
    " expand_as clone contiguous stack alias slice detach type_as unbind permute transpose numpy_T t mT dropout"
)
_WORDS = {
    "mul": "·",
    "add": "+",
    "sub": "−",
    "rsub": "−",
    "div": "÷",
    "sigmoid": "σ",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "hardtanh": "ReLU6",
    "silu": "SiLU",
    "hardswish": "hard swish",
    "batch_norm": "BatchNorm",
    "group_norm": "GroupNorm",
    "layer_norm": "LayerNorm",
    "cat": "join",
    "amax": "max",
    "adaptive_avg_pool2d": "mean",
    "avg_pool2d": "average pool",
    "avg_pool1d": "average pool",
    "max_pool2d": "max pool",
    "upsample_nearest2d": "nearest",
    "scaled_dot_product_attention": "dot-product attention",
    "matmul": "product of matrices",
    "bmm": "product of matrices",
    "einsum": "product of matrices",
    "linalg_vector_norm": "norm",
    "pow": "power",
    "rsqrt": "1/√",
    "sqrt": "√",
    "split": "split",
    "chunk": "split",
    "split_with_sizes": "split",
}


def flow_chart(attention: ww.Attention) -> str:
    """Return a Mermaid chart of what an attention of C channels does to a map, as recorded by ``torch.export``.

    Operations that only change shapes or types are left out, and chains of one input are one box. Boxes say the shape
    of what comes out, without the batch.
    """
    with ww.backend("reference"):
        program = torch.export.export(attention.eval(), (torch.zeros(2, C, H, W),))
    (x,) = (node for node in program.graph.nodes if node.op == "placeholder" and node.name == "x")
    boxes = {x: _Box("x", x)}
    at: dict[fx.Node, fx.Node] = {x: x}
    made: dict[tuple[Any, ...], fx.Node] = {}
    for node in program.graph.nodes:
        inputs = list(dict.fromkeys(at[i] for i in _flat([*node.args, *node.kwargs.values()]) if i in at))
        if node.op != "call_function" or not inputs:
            continue
        word = _name(node)
        if word in _SILENT.split() and len(inputs) == 1:
            at[node] = inputs[0]
            if inputs[0] is not x and _tensor(node) is not None:
                boxes[inputs[0]].shape = node
            continue
        if word in _SILENT.split():
            word = "join"
        rest = [str(value) for value in node.args if not (isinstance(value, fx.Node) and value in at)]
        same = made.setdefault((word, *inputs, *rest), node)
        at[node] = same
        if same is node:
            boxes[node] = _Box(_describe(node, word), node, inputs)
    return _draw(boxes)


class _Box:
    def __init__(self, text: str, shape: fx.Node, inputs: Iterable[fx.Node] = ()) -> None:
        self.lines = [text]
        self.shape = shape
        self.inputs = list(inputs)


def _draw(boxes: dict[fx.Node, _Box]) -> str:
    uses: dict[fx.Node, list[fx.Node]] = {node: [] for node in boxes}
    for node, box in boxes.items():
        for one in box.inputs:
            uses[one].append(node)
    used = _leading_to(list(boxes)[-1], boxes)
    for node in list(boxes):
        box = boxes[node]
        if node not in used:
            del boxes[node]
        elif len(box.inputs) == 1 and box.inputs[0] in boxes and len(boxes[box.inputs[0]].inputs) > 0:
            (before,) = box.inputs
            if [u for u in uses[before] if u in used] == [node]:
                merged = boxes[before]
                merged.lines += box.lines
                merged.shape = box.shape
                boxes[node] = merged
    names: dict[int, str] = {}
    lines = ["flowchart TD"]
    for box in dict.fromkeys(boxes.values()):
        names[id(box)] = f"n{len(names)}"
        text = "<br/>".join([*box.lines, f"<i>{_shape(box.shape)}</i>"])
        lines.append(f'    {names[id(box)]}["{text}"]')
        lines += [f"    {names[id(boxes[one])]} --> {names[id(box)]}" for one in box.inputs if one in boxes]
    return "\n".join(lines)


def _leading_to(last: fx.Node, boxes: dict[fx.Node, _Box]) -> set[fx.Node]:
    found, todo = set(), [last]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += boxes[node].inputs
    return found


def _flat(values: Iterable[Any]) -> Iterable[fx.Node]:
    for value in values:
        if isinstance(value, fx.Node):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _flat(value)


def _name(node: fx.Node) -> str:
    name = getattr(node.target, "__name__", str(node.target))
    return name.split(".")[0].rstrip("_")


def _tensor(node: fx.Node) -> torch.Tensor | None:
    value = node.meta.get("val")
    return value if isinstance(value, torch.Tensor) else None


def _describe(node: fx.Node, word: str) -> str:
    """Say what an operation is, a convolution with its kernel and widths."""
    if word in ("conv1d", "conv2d"):
        weight = _tensor(node.args[1])  # type: ignore[arg-type]
        assert weight is not None
        outputs, inputs, *kernel = weight.shape
        dilation = (node.args[5] if len(node.args) > 5 else None) or [1]
        groups = node.args[6] if len(node.args) > 6 else 1
        assert isinstance(groups, int)
        assert isinstance(dilation, (list, tuple))
        depthwise = groups > 1 and inputs == 1 and outputs == groups
        words = ["depthwise"] if depthwise else []
        words += ["conv", "×".join(map(str, kernel))]
        words += [] if depthwise else [f"{_side(inputs * groups)}→{_side(outputs)}"]
        words += [f"{groups} groups"] if groups > 1 and not depthwise else []
        words += [f"dilation {dilation[0]}"] if max(dilation) > 1 else []  # type: ignore[type-var]
        return " ".join(words)
    if word == "linear":
        weight = _tensor(node.args[1])  # type: ignore[arg-type]
        assert weight is not None
        return f"dense {_side(weight.shape[1])}→{_side(weight.shape[0])}"
    text = _WORDS.get(word, word)
    other = [value for value in node.args if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if word in ("mul", "add", "sub", "div", "rsub") and len(other) == 1:
        return f"{text} {other[0]:g}"
    if word in ("mean", "sum", "max", "amax", "softmax", "var", "std", "linalg_vector_norm"):
        return f"{text} over {_axes(node)}" if _axes(node) else text
    return text


def _axes(node: fx.Node) -> str:
    """Say what a reduction goes over, from the shapes before and after."""
    source = node.args[0]
    before = _tensor(source) if isinstance(source, fx.Node) else None
    axes = node.args[1] if len(node.args) > 1 else None
    axes = [axes] if isinstance(axes, int) else axes
    if before is None or not isinstance(axes, (list, tuple)) or not all(isinstance(a, int) for a in axes):
        return ""
    return ", ".join(_side(before.shape[a]) for a in axes)  # type: ignore[index]


def _side(size: int) -> str:
    if size in _SIDES:
        return _SIDES[size]
    if size > 4 and C % size == 0:
        return f"C/{C // size}"
    if size % C == 0:
        return f"{size // C}C"
    return str(size)


def _shape(node: fx.Node) -> str:
    tensor = _tensor(node)
    if tensor is None or math.prod(tensor.shape) == 0:
        return ""
    return " × ".join(_side(size) for size in tensor.shape[1:])
