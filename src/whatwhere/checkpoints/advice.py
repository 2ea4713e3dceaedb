"""What to do about a checkpoint that does not fit."""

from collections.abc import Mapping, Sequence

from ..layers import ATTENTIONS, Attention, Entry, create
from .spec import ModelSpec
from .units import Unit


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
        site = own[0].split(".attention.")[0]
        start = f"{site}.attention."
        names = _named([key.removeprefix(start) for key in own if key.startswith(start)])
        name = repr(names[0]) if len(names) == 1 else "NAME"
        which = f" (NAME is one of {', '.join(names)})" if len(names) > 1 else ""
        lines.append(
            f"the file has whatwhere's attention, at {site} and elsewhere: first whatwhere.insert(model, {name}, …)"
            f"{which} with the options that it was made with"
        )
    parents = {key.rpartition(".")[0] for key in wrong if key not in inside}
    if len(parents) == 1 and (parent := parents.pop()):
        lines.append(f'to keep the network\'s own {parent}: skip="{parent}.*"')
    return lines


def unregistered(spec: ModelSpec) -> list[str]:
    """Say which attentions of a file nobody has registered here, each with what to import first."""
    return [
        f"unknown attention {name!r}, which nothing here registers: {_first(module)}"
        for name, module in {one.name: one.defined_in for one in spec.attention}.items()
        if name not in ATTENTIONS
    ]


def _first(module: str) -> str:
    if module in ("", "__main__", "__mp_main__"):
        where = "the script that wrote the file" if module else "a package that the file does not name"
        return f"it came from {where}; first import what registers it (command line: --import MODULE or FILE.py)"
    return f"first `import {module}` (command line: --import {module}, or the path of its .py file)"


def _named(keys: Sequence[str]) -> list[str]:
    """Return the names of the attentions that share most keys with an attention of the file, as they are by default."""
    shared = {found.name: len(set(keys) & _default_keys(found)) for found in ATTENTIONS.values()}
    most = max(shared.values())
    return [name for name, count in shared.items() if count == most and most > 0]


def _default_keys(found: Entry) -> set[str]:
    channels = found.channel_divisor * -(-max(found.min_channels, 64) // found.channel_divisor)
    return set(create(found.name, channels, device="meta").state_dict())


def _insertions(found: Sequence[Unit]) -> list[str]:
    """Return the calls that give a network attention like that of the checkpoint."""
    name = found[0].entry.name
    if found[0].key_map.where == "stage":
        at = [unit.module for unit in found]
        return [f'whatwhere.insert(model, "{name}", at={at}, identity=False{_said(found[0])})']
    kinds: dict[str, list[Unit]] = {}
    for unit in found:
        kinds.setdefault(_said(unit), []).append(unit)
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
        stage = unit.module.rpartition(".")[0]
        whole = all(other in same for other in found if other.module.startswith(f"{stage}."))
        sites.append(stage if whole else unit.module)
    return list(dict.fromkeys(sites))


def _said(unit: Unit) -> str:
    return "".join(f", {option}={value!r}" for option, value in unit.options)
