"""What to do about a checkpoint that does not fit."""

import re
from collections.abc import Mapping, Sequence

from ..layers import Attention
from .key_maps import Unit

_SIGNS = {  # the parts by which attention from here is known
    "cbam": r"\.(channel|spatial)\.(mlp|conv|bn)\.",
    "bam": r"\.(body|head)\.",
    "se": r"\.mlp\.",
    "eca": r"\.attention\.conv\.",
}


def advise(
    found: Sequence[Unit],
    refused: bool,
    mismatched: Sequence[str],
    unexpected: Sequence[str],
    there: Mapping[str, Attention],
) -> list[str]:
    """Return what to do, a line for each remedy."""
    lines = []
    wrong = [key.split(" ")[0] for key in mismatched]
    inside = [key for key in wrong if any(key.startswith(f"{site}.") for site in there)]
    insertable = [unit for unit in found if unit.key_map.where != "itself"]
    if insertable and (refused or inside or unexpected):
        first = "whatwhere.remove(model), then " if there else ""
        lines.append(f"so that the attention fits: {first}{'; '.join(_insertions(insertable))}")
    own = [key for key in unexpected if ".attention." in key]
    if own:
        name = next((name for name, sign in _SIGNS.items() if re.search(sign, own[0])), "NAME")
        lines.append(
            f"the file has attention from here at {own[0].split('.attention.')[0]} and elsewhere: first whatwhere.insert(model, {name!r}, …) "
            "with the options that it was made with"
        )
    parents = {key.rpartition(".")[0] for key in wrong if key not in inside}
    if len(parents) == 1 and (parent := parents.pop()):
        lines.append(f'to keep the network\'s own {parent}: skip="{parent}.*"')
    return lines


def _insertions(found: Sequence[Unit]) -> list[str]:
    """Return the calls that give a network attention like that of the checkpoint."""
    if found[0].key_map.where == "stage":
        stages = [f"{unit.name[: -len('bam1')]}layer{unit.name[-1]}" for unit in found]
        return [f'whatwhere.insert(model, "bam", at={stages}, identity=False{_said(found[0])})']
    kinds: dict[str, list[Unit]] = {}
    for unit in found:
        kinds.setdefault(_said(unit), []).append(unit)
    name = found[0].key_map.attention
    if len(kinds) == 1:
        return [f'whatwhere.insert(model, "{name}", identity=False{next(iter(kinds))})']
    return [
        f'whatwhere.insert(model, "{name}", at={[f"{p}.*" for p in _stages(same, found)]}, identity=False{said})'
        for said, same in kinds.items()
    ]


def _stages(same: Sequence[Unit], found: Sequence[Unit]) -> list[str]:
    """Return the stages of some attentions where all of a stage's are among them, and the blocks of the others."""
    sites = []
    for unit in same:
        stage = unit.block.rpartition(".")[0]
        whole = all(other in same for other in found if other.block.startswith(f"{stage}."))
        sites.append(stage if whole else unit.block)
    return list(dict.fromkeys(sites))


def _said(unit: Unit) -> str:
    return "".join(f", {option}={value!r}" for option, value in unit.options)
