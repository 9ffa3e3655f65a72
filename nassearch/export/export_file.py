"""`config.yaml` of an export: what the network is, and where every figure about it comes from."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from nassearch import config
from nassearch.config import StrictModel
from nassearch.errors import CheckpointError
from nassearch.files import write_text
from nassearch.latency.setting import Setting
from nassearch.space import Architecture, SearchSpace

SCHEMA = 1
CONFIG = "config.yaml"


class DataFile(StrictModel):
    """The images the supernet was trained on, and how they are normalised."""

    spec: str
    seed: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class AccuracyFile(StrictModel):
    """Top-1 accuracy, 0..1, with its 95 % interval, on the split that chose the network."""

    value: float
    low: float
    high: float
    split: str
    num_images: int
    supernet: str


class LatencyFile(StrictModel):
    """Milliseconds in one setting.

    `predicted_ms` with its 90 % interval comes from a table (`source`: measured, interpolated or
    estimated); `measured_ms` from the device, at the speed the reference network had when the
    table was measured (`reference_ms`); `budget_ms` is what was promised.
    """

    device: str
    runtime: str
    precision: str
    batch: int
    threads: int | None = None
    source: Literal["measured", "interpolated", "estimated"]
    predicted_ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    measured_ms: float | None = None
    reference_ms: float | None = None
    budget_ms: float | None = None

    @property
    def setting(self) -> Setting:
        return Setting(self.device, self.runtime, self.precision, self.batch, self.threads)


class ExportFile(StrictModel):
    """The whole of `config.yaml`. `files` holds the SHA-256 of what lies beside it."""

    schema_version: Annotated[int, Field(alias="schema")] = SCHEMA
    id: str
    architecture: dict[str, Any]
    space: dict[str, Any]
    fingerprint: str
    macs: int
    params: int
    data: DataFile
    accuracy: AccuracyFile
    latency: tuple[LatencyFile, ...] = ()
    files: dict[str, str]

    def search_space(self) -> SearchSpace:
        return SearchSpace.from_dict(_lists(self.space))

    def to_architecture(self) -> Architecture:
        return Architecture.from_dict(_lists(self.architecture))

    def save(self, directory: Path) -> None:
        content = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        write_text(directory / CONFIG, text)


def read_export(directory: Path) -> ExportFile:
    """The config of an export; CheckpointError where it is no export, or a file was changed."""
    path = directory / CONFIG
    if not path.is_file():
        raise CheckpointError(
            "is not an export: it has no config.yaml",
            where=directory,
            fix="name a directory that 'nassearch export' wrote",
        )
    content = config.read_yaml(path)
    if isinstance(content, dict) and content.get("schema") != SCHEMA:
        raise CheckpointError(
            f"has schema {content.get('schema')}, this version reads {SCHEMA}", where=path
        )
    export = config.parse(ExportFile, content, where=path)
    for name, expected in export.files.items():
        file = directory / name
        if not file.is_file():
            raise CheckpointError("is missing", where=file, fix="export the network again")
        if sha256(file) != expected:
            raise CheckpointError(
                "was changed since it was exported (its hash differs)",
                where=file,
                fix="export the network again",
            )
    return export


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lists(value: Any) -> Any:
    """Frozen tuples back to the lists of YAML."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple) else value
