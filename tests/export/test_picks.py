"""picks.json: a run that was moved or copied has its own checkpoints."""

import json
import shutil
from pathlib import Path

import pytest

from nassearch.errors import ConfigError, SearchError
from nassearch.export.picks import read_picks, run_of


def search_in(directory: Path, *, run: str) -> Path:
    (directory / "search").mkdir(parents=True)
    (directory / "search" / "picks.json").write_text(json.dumps({"run": run, "picks": []}))
    return directory


@pytest.mark.parametrize("written", [".", "{run}"])
def test_a_run_that_was_moved_or_copied_is_its_own(tmp_path: Path, written: str) -> None:
    """Version 0.1 wrote the absolute path of the run."""
    original = tmp_path / "runs" / "first"
    search_in(original, run=written.format(run=original))
    (original / "recipe.yaml").write_text("")
    copied = Path(shutil.copytree(original, tmp_path / "copied"))
    assert run_of(original).resolve() == original
    assert run_of(copied).resolve() == copied
    moved = original.rename(tmp_path / "runs" / "renamed")
    assert run_of(moved).resolve() == moved
    (tmp_path / "runs" / "latest").symlink_to("renamed", target_is_directory=True)
    assert run_of(tmp_path / "runs" / "latest").resolve() == moved


def test_a_search_beside_its_run_finds_it_where_both_were_moved(tmp_path: Path) -> None:
    search_in(tmp_path / "old" / "searched", run="../run")
    (tmp_path / "old" / "run").mkdir()
    (tmp_path / "old").rename(tmp_path / "new")
    assert run_of(tmp_path / "new" / "searched").resolve() == tmp_path / "new" / "run"


def test_what_is_no_search_says_so(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="holds no finished search"):
        read_picks(tmp_path)
    search_in(tmp_path, run=".")
    (tmp_path / "search" / "picks.json").write_text('{"run": ".", "picks": [], "colour": 1}')
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        read_picks(tmp_path)
