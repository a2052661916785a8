"""Every notebook runs from top to bottom, with parameters small enough for seconds, and is kept without its output."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[3] / "notebooks").glob("*.ipynb"))
# Run after the cell that is tagged `parameters`. A notebook without an entry runs as it is.
SMALL = {
    "01_bandwidth_forecasting.ipynb": "members, updates, pieces_per_set, folds, trees = 1, 15, 30, 2, 3",
    "02_placement.ipynb": "generations, population, windows, hosts, compared, compared_hosts = 2, 4, 2, 6, 2, 6",
}


def _read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook works in a directory of its own, with keys and settings of its own."""
    for name, value in {
        "HOME": "home",
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "jupyter",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "MPLCONFIGDIR": "matplotlib",
        "NOVACRON_MODEL_KEY": "model.key",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return tmp_path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom(path: Path, elsewhere: Path) -> None:
    notebook = _read(path)
    if path.name in SMALL:
        after = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        assert len(after) == 1, "one cell is tagged `parameters`"
        notebook.cells.insert(after[0] + 1, nbformat.v4.new_code_cell(SMALL[path.name]))
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(elsewhere)}}
    )
    client.execute()  # a cell that fails raises with its traceback
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    drawn = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert drawn, "a notebook shows something"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_its_output(path: Path) -> None:
    for cell in _read(path).cells:
        if cell.cell_type == "code":
            assert not cell.outputs, "clear all outputs before it is committed"
            assert cell.execution_count is None


def test_every_entry_has_its_notebook() -> None:
    assert set(SMALL) <= {path.name for path in NOTEBOOKS}
