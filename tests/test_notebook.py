"""The notebook of the documents runs, from its first cell to its last."""

import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "first-steps.ipynb"


def run(folder):
    """Return the notebook as a kernel of this Python leaves it, run in a folder."""
    from jupyter_client.manager import AsyncKernelManager

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kernel = AsyncKernelManager(kernel_name="python3")
    kernel.kernel_spec.argv[0] = sys.executable  # not that of a kernel somebody installed
    nbclient.NotebookClient(notebook, km=kernel, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_notebook_runs(tmp_path):
    shown = [output.get("data", {}) for cell in run(tmp_path).cells for output in cell.get("outputs", [])]
    assert "<table>" in shown[0]["text/html"]
    assert any("network" in data.get("text/html", "") for data in shown)
    assert "image/png" in shown[-1]


def test_the_notebook_says_what_it_shows():
    """The committed notebook was run, without an error."""
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in cells)
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)


def test_the_notebook_names_no_folder_of_the_machine_it_ran_on():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not any(folder in text for folder in ("/root/", "/home/", "/tmp/", "site-packages"))
