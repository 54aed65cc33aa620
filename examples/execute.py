"""Run the notebooks and keep what they show (`make notebooks`); the tests run them, too, and keep nothing."""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
TIMEOUT_S = 120
_SHARED = ("models", "docs", "examples/neuralhydrology-run")


def executed(path: Path, folder: Path) -> NotebookNode:
    """The notebook with its outputs, run as in the repository, but so that whatever it writes is below `folder`.

    Raises:
        CellExecutionError: a cell failed.
    """
    for name in _SHARED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    notebook = nbformat.read(path, as_version=4)
    here = {"metadata": {"path": str(folder / "examples")}}
    # the commands of this environment, and the inline pictures of a notebook, wherever it is run
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("MPLBACKEND", None)
    client = NotebookClient(notebook, timeout=TIMEOUT_S, resources=here, record_timing=False)
    client.execute(env=environment)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """A text that came in pieces, and how it was cut depends on the moment, is one output."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == "stream" and output.name == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def main() -> None:
    """Run the notebooks that are named, all of them where none is."""
    chosen = [path for path in NOTEBOOKS if not sys.argv[1:] or path.stem in sys.argv[1:]]
    for path in chosen:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)


if __name__ == "__main__":
    main()
