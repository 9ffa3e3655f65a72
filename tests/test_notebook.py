"""The notebook runs as it stands, in a directory of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import nassearch

NOTEBOOK = Path(nassearch.__file__).parent.parent / "docs" / "whole_job.ipynb"


def test_the_notebook_does_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type in ("execute_result", "display_data")
    ]
    # the data, the supernet, an accuracy, three tables, a figure, two lists, a comparison, a count
    assert sum("text/html" in data for data in shown) >= 5
    assert any("application/vnd.plotly.v1+json" in data for data in shown)
    assert "True" in [data.get("text/plain") for data in shown]
    assert (tmp_path / "runs" / "latest" / "search" / "picks.json").is_file()
    assert len(list((tmp_path / "runs" / "latest").glob("exports/*/model-int8.onnx"))) >= 1


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]
