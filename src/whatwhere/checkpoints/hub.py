"""Networks with attention to the Hugging Face hub, and from there."""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..cost.counts import count_parameters
from ..errors import WhatwhereError, need
from ..files import write_text
from ..graph.wrappers import unwrap
from ..networks.build import ModelConfig
from .reading import WEIGHTS, read_safetensors
from .saving import load_model, save
from .spec import ModelSpec

_SPEC = "whatwhere.json"
_ID = r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*"


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    base: str | ModelConfig | None = None,
    options: Mapping[str, Any] | None = None,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload a network with attention",
    license: str | None = None,
) -> str:
    """Upload a network to the Hugging Face hub: ``model.safetensors`` of :func:`whatwhere.save`, and a model card.

    Args:
        model: the network.
        repo_id: ``"user/name"``; made if it is not there.
        base: see :func:`whatwhere.save`.
        options: see :func:`whatwhere.save`.
        private: whether a new repository is private.
        token: a token with the right to write; by default the one of ``hf auth login``.
        message: of the commit.
        license: for the model card, such as ``"apache-2.0"``.

    Returns:
        The address of the commit.

    Raises:
        WhatwhereError: the network cannot be saved, the hub cannot be reached, or it refuses.
    """
    hub = need("huggingface_hub", extra="train")
    if not re.fullmatch(_ID, repo_id):
        raise WhatwhereError(f"repo_id={repo_id!r}: must be 'user/name'")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_folder(model, folder, repo_id, base=base, options=options, license=license)
        api = hub.HfApi(token=token)
        try:
            name = api.create_repo(repo_id, private=private, exist_ok=True, repo_type="model").repo_id
            done = api.upload_folder(repo_id=name, folder_path=folder, commit_message=message, repo_type="model")
        except Exception as error:  # errors of the connection are not the hub's own, nor of one kind
            raise _failed(f"{repo_id} was not uploaded", error) from error
    return str(done.commit_url)


def write_folder(
    model: nn.Module,
    folder: Path,
    name: str,
    *,
    base: str | ModelConfig | None = None,
    options: Mapping[str, Any] | None = None,
    license: str | None = None,
) -> None:
    """Write what :func:`push_to_hub` uploads into a folder."""
    weights = save(model, folder / WEIGHTS, base=base, options=options)
    values = read_safetensors(weights).spec
    write_text(folder / _SPEC, json.dumps(values, indent=2) + "\n")
    spec = ModelSpec.from_json(values, weights)
    write_text(folder / "README.md", _card(name, spec, count_parameters(unwrap(model, replicas=True)), license))


def from_pretrained(
    repo_or_path: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None, device: Any = None
) -> nn.Module:
    """Build a network from a local folder or file, or from a repository on the Hugging Face hub.

    Args:
        repo_or_path: a local path if there is one; else ``"user/name"`` on the hub (kept in its
            cache).
        revision: a branch, tag or commit on the hub.
        token: for private repositories; by default the one of ``hf auth login``.
        device: where to put the network; by default the CPU.

    Raises:
        WhatwhereError: it is neither here nor on the hub, the hub cannot be reached, or the file is none that
            :func:`whatwhere.save` wrote.
    """
    if Path(repo_or_path).exists():
        return load_model(repo_or_path, device=device)
    name = os.fspath(repo_or_path)
    if not re.fullmatch(_ID, name):
        raise WhatwhereError(f"{name!r} is no file or folder here, and no name of a repository ('user/name') either")
    hub = need("huggingface_hub", extra="train")
    try:
        path = hub.hf_hub_download(name, WEIGHTS, revision=revision, token=token)
    except Exception as error:
        raise _failed(f"{name} is no file or folder here, and could not be fetched from the hub", error) from error
    return load_model(path, device=device)


def _failed(what: str, error: Exception) -> WhatwhereError:
    lines = str(error).strip().splitlines() or [""]
    return WhatwhereError(
        f"{what}: {type(error).__name__}: {lines[0][:300]}. Check the name, the connection, and that `hf auth "
        "login` has been done (or give token=)"
    )


def _card(name: str, spec: ModelSpec, parameters: int, license: str | None) -> str:
    """Return the model card: what the network is, and how to use it."""
    kinds: dict[str, list[str]] = {}
    for one in spec.attention:
        kinds.setdefault(one.name, []).append(one.module)
    rows = [
        f"| `{kind}` | {len(sites)} | {', '.join(f'`{site}`' for site in sites)} |" for kind, sites in kinds.items()
    ]
    table = ["| attention | sites | where |", "|---|---|---|", *rows, ""] if rows else ["It has no attention.", ""]
    head = ["---", "library_name: whatwhere", "tags: [attention]"]
    lines = [
        *head,
        *([f"license: {license}"] if license else []),
        "---",
        "",
        f"# {name.rpartition('/')[2]}",
        "",
        f"{spec.base}, {parameters:,} parameters, made with whatwhere {spec.whatwhere}.",
        "",
        *table,
        "```python",
        "import whatwhere as ww",
        "",
        f'model = ww.from_pretrained("{name}").eval()',
        "```",
    ]
    return "\n".join(lines) + "\n"
