"""A notebook as a page: its text, its code, and what the code gave when the notebook was last run."""

import base64
import json
from pathlib import Path
from typing import Any


def as_markdown(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and the images that it shows by their paths beside the page."""
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source.strip():
            parts.append(f"```python\n{source}\n```")
            for place, output in enumerate(cell["outputs"]):
                parts += _output(output, f"{path.stem}-files/{number}-{place}.png", images)
    parts.append(f"The notebook itself: <a href='{path.name}' download>{path.name}</a>.")
    return "\n\n".join(parts) + "\n", images


def _output(output: dict[str, Any], name: str, images: dict[str, bytes]) -> list[str]:
    if output["output_type"] == "stream":
        return [f"```text\n{''.join(output['text']).rstrip()}\n```"]
    data = output.get("data", {})
    if "image/png" in data:
        images[name] = base64.b64decode("".join(data["image/png"]))
        return [f"![What the cell shows]({name})"]
    if "text/html" in data:
        lines = "".join(data["text/html"]).splitlines()
        return ['<div class="output">' + "".join(line.strip() for line in lines) + "</div>"]
    if "text/plain" in data:
        return [f"```text\n{''.join(data['text/plain']).rstrip()}\n```"]
    return []
