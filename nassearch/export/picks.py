"""`picks.json`: the networks that a search chose, what it promises of them, what it measured."""

from pathlib import Path

from nassearch.config import Finite, StrictModel, parse
from nassearch.errors import SearchError
from nassearch.export.export_config import LatencyClaim
from nassearch.files import read_json

PICKS = "picks.json"


class PickRecord(StrictModel):
    """A pick as its file holds it."""

    budget: str
    architecture: dict[str, object]
    latency: tuple[LatencyClaim, ...]


class MeasuredRecord(StrictModel):
    """A measured latency as its file holds it; version 0.1 kept the device's name alone."""

    device: str
    id: str
    ms: Finite
    noise_floor: Finite
    setting: str | None = None


class PicksFile(StrictModel):
    """The whole of `picks.json`; `run` is relative to the directory that `search/` lies in."""

    run: str
    command: str = ""
    picks: tuple[PickRecord, ...]
    measured: tuple[MeasuredRecord, ...] = ()
    remark: str | None = None


def read_picks(search: Path) -> PicksFile:
    """The choices of the search that ended last in `search`; SearchError where none did."""
    path = search / "search" / PICKS
    if not path.is_file():
        raise SearchError("holds no finished search", where=search, fix="run 'nassearch search'")
    return load_picks(path)


def load_picks(path: Path) -> PicksFile:
    """The choices in the file at `path`; ConfigError where it is damaged."""
    return parse(PicksFile, read_json(path), where=path)


def run_of(search: Path) -> Path:
    """The run that a search was made of: the directory itself where it holds a run.

    A run that was moved or copied with its searches thus has its own checkpoints.
    """
    if (search / "recipe.yaml").is_file():
        return search
    return search / read_picks(search).run
