"""`config.yaml` of an export: what the network is, and where every figure about it comes from."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from nassearch import config
from nassearch.config import StrictModel
from nassearch.data.dataset import Data
from nassearch.data.loading import names_code
from nassearch.data.preprocessing import DEFAULT, Preprocessing
from nassearch.errors import CheckpointError, ConfigError, DataError, TableError
from nassearch.files import write_text
from nassearch.latency.host_identity import HostIdentity
from nassearch.networks.cost import network_cost
from nassearch.provenance import Belief, Estimate
from nassearch.setting import WithSetting
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training.evaluation import Accuracy

SCHEMA = 2
CONFIG = "config.yaml"


def _machine(value: object) -> Any:
    try:
        return HostIdentity.from_dict(value) if isinstance(value, Mapping) else value
    except TableError as error:
        raise ValueError(error.what) from error


Machine = Annotated[HostIdentity, BeforeValidator(_machine), PlainSerializer(HostIdentity.to_dict)]


class DataConfig(StrictModel):
    """The images the supernet was trained on, and how they become what the network takes.

    `mean` and `std` are numbers also where the preprocessing leaves them to the images.
    """

    spec: str
    seed: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: Preprocessing = DEFAULT

    @classmethod
    def of(cls, data: Data, *, seed: int) -> "DataConfig":
        return cls(
            spec=data.name,
            seed=seed,
            class_names=data.class_names,
            mean=data.mean,
            std=data.std,
            preprocessing=data.preprocessing,
        )

    def source(self, where: object) -> str:
        """Where the images lie. DataError where that would run code: an export runs none."""
        if names_code(self.spec):
            raise DataError(
                f"its images are made by code, {self.spec}, which an export does not run",
                where=where,
                fix="name the images, or that code, with --data",
            )
        return self.spec

    @property
    def learned(self) -> Preprocessing:
        """What the network's images went through, whatever other images' mean and deviation are."""
        return self.preprocessing.normalised_by(self.mean, self.std)


class ExpectedAccuracy(StrictModel):
    """What the search expects of the accuracy, 0..1, with the 95 % interval of that.

    It is learned from all networks that were evaluated, so it does not share the luck that let this
    one be chosen, as what was observed of it does.
    """

    value: float
    low: float
    high: float


class AccuracyClaim(StrictModel):
    """Top-1 accuracy, 0..1, with its 95 % interval, as observed on the split that chose it.

    `expected` is what is promised, where a search learned what to expect.
    """

    value: float
    low: float
    high: float
    split: str
    num_images: int
    supernet: str
    """Its run and step, as people read it."""
    fingerprint: str | None = None
    """Of the supernet's weights, which stay the same where its run is renamed."""
    top5: float | None = None
    """Share of the images whose class is among the five likeliest, where there are more."""
    expected: ExpectedAccuracy | None = None

    @classmethod
    def of(
        cls,
        accuracy: Accuracy,
        *,
        supernet: str,
        fingerprint: str | None = None,
        belief: Belief | None = None,
    ) -> "AccuracyClaim":
        low, high = accuracy.interval
        expected = None
        if belief is not None:
            expected = ExpectedAccuracy(value=belief.mean, low=belief.low, high=belief.high)
        return cls(
            value=accuracy.value,
            low=low,
            high=high,
            split=accuracy.split,
            num_images=accuracy.num_images,
            supernet=supernet,
            fingerprint=fingerprint,
            top5=accuracy.top5,
            expected=expected,
        )

    @classmethod
    def unmeasured(cls, *, split: str, supernet: str, fingerprint: str) -> "AccuracyClaim":
        """Of a network that tells no classes apart."""
        nothing = math.nan
        return cls(
            value=nothing,
            low=nothing,
            high=nothing,
            split=split,
            num_images=0,
            supernet=supernet,
            fingerprint=fingerprint,
        )

    def to_accuracy(self) -> Accuracy:
        """What `of` was given."""
        interval = (self.low, self.high)
        return Accuracy(self.value, self.split, self.num_images, interval, top5=self.top5)

    def is_same(self, other: "AccuracyClaim") -> bool:
        """Whether both are of one network of one supernet, whatever its run is called now and
        whatever searches expect of it.

        What only one of them knows (earlier versions kept less) tells no difference.
        """
        other = other.model_copy(update={"expected": self.expected})
        if self.top5 is None or other.top5 is None:
            nothing = {"top5": None}
            self, other = self.model_copy(update=nothing), other.model_copy(update=nothing)
        if self.fingerprint is None or other.fingerprint is None:
            return self.model_copy(update={"fingerprint": other.fingerprint}) == other
        return self == other.model_copy(update={"supernet": self.supernet})


class MetricClaim(StrictModel):
    """A user's own metric, with its 95 % interval where its error is known, as observed.

    `expected` is what is promised, where a search learned what to expect.
    """

    name: str
    direction: Literal["max", "min"]
    unit: str = ""
    value: float
    low: float | None = None
    high: float | None = None
    split: str
    num_images: int
    expected: ExpectedAccuracy | None = None

    @classmethod
    def of(
        cls, estimate: Estimate, *, name: str, direction: Literal["max", "min"], unit: str
    ) -> "MetricClaim":
        belief = estimate.belief
        expected = None
        if belief is not None:
            expected = ExpectedAccuracy(value=belief.mean, low=belief.low, high=belief.high)
        return cls(
            name=name,
            direction=direction,
            unit=unit,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            split=estimate.provenance.split or "",
            num_images=estimate.provenance.num_images or 0,
            expected=expected,
        )

    def is_missed_by(self, found: Estimate) -> bool:
        """Whether a number is surely worse than this one; never where an error is not known."""
        if None in (self.low, self.high, found.low, found.high):
            return False
        assert self.low is not None
        assert self.high is not None
        assert found.low is not None
        assert found.high is not None
        return found.high < self.low if self.direction == "max" else found.low > self.high


class LatencyClaim(WithSetting):
    """Milliseconds in one setting.

    `predicted_ms` with its 90 % interval comes from a table (`source`: measured, interpolated or
    estimated); `measured_ms` from the device, at the speed that the reference networks had when the
    table was measured (`reference_ms`, the mean of so many, `references`); `budget_ms` is what was
    promised. `unmeasured` says why nothing was measured.
    """

    source: Literal["measured", "interpolated", "estimated"]
    machine: Machine | None = None
    """The machine that the table was measured on."""
    version: str | None = None
    """The runtime's version it was measured with."""
    predicted_ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    measured_ms: float | None = None
    reference_ms: float | None = None
    references: int = 5
    budget_ms: float | None = None
    unmeasured: str | None = None


class FinetuneConfig(StrictModel):
    """How the network was trained after it left its supernet."""

    parent: str
    parent_data: str
    epochs: int
    lr: float
    seed: int
    teacher: str | None = None
    precisions: tuple[str, ...] | None = None
    """Of each block, as it was simulated in training; None where it was trained in float."""


class ExportConfig(StrictModel):
    """The whole of `config.yaml`.

    `files` holds the SHA-256 of what lies beside it, `formats` what is worth knowing of each.
    """

    schema_version: Annotated[int, Field(alias="schema")] = SCHEMA
    id: str
    architecture: dict[str, object]
    space: dict[str, object]
    fingerprint: str
    macs: int
    params: int
    data: DataConfig
    accuracy: AccuracyClaim
    metric: MetricClaim | None = None
    """Of a network for targets of the user's own."""
    outputs: dict[str, tuple[int, ...]] | None = None
    """What a network with named outputs gives for one image: name -> shape, in their order."""
    latency: tuple[LatencyClaim, ...] = ()
    finetuned: FinetuneConfig | None = None
    formats: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    files: dict[str, str]
    test_fingerprint: str | None = None
    """Of the test images when it was exported, where they are files."""

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        architecture: Architecture,
        *,
        data: DataConfig,
        accuracy: AccuracyClaim,
    ) -> "ExportConfig":
        """What is known of a network before anything is written."""
        cost = network_cost(lower(space, architecture))
        return cls(
            id=architecture.id,
            architecture=architecture.to_dict(),
            space=space.to_dict(),
            fingerprint=space.fingerprint,
            macs=cost.macs,
            params=cost.params,
            data=data,
            accuracy=accuracy,
            formats={},
            files={},
        )

    def search_space(self) -> SearchSpace:
        return SearchSpace.from_dict(_lists(self.space))

    def to_architecture(self) -> Architecture:
        return Architecture.from_dict(_lists(self.architecture))

    def save(self, directory: Path) -> None:
        content = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        write_text(directory / CONFIG, config.dump_yaml(content, width=100))


def read_export(directory: Path) -> ExportConfig:
    """The config of an export; CheckpointError where it is no export, or a file was changed."""
    config.import_nothing_from(directory)
    path = inside(directory, CONFIG)
    if not path.is_file():
        raise CheckpointError(
            "is not an export: it has no config.yaml",
            where=directory,
            fix="name a directory that 'nassearch export' wrote",
        )
    content = config.read_yaml(path)
    if isinstance(content, dict) and content.get("schema") != SCHEMA:
        raise CheckpointError(
            f"has schema {content.get('schema')}, this version reads {SCHEMA}",
            where=path,
            fix="export the network again",
        )
    export = config.parse(ExportConfig, content, where=path)
    _check_identity(export, path)
    for name, expected in export.files.items():
        file = inside(directory, name)
        if not file.is_file():
            raise CheckpointError("is missing", where=file, fix="export the network again")
        found = sha256(file)
        if found != expected:
            raise CheckpointError(
                "was changed since it was exported (its SHA-256 begins"
                f" {found[:12]}, {CONFIG} says {expected[:12]})",
                where=file,
                fix="export the network again",
            )
    return export


def inside(directory: Path, name: str) -> Path:
    """The file called `name` in `directory`; CheckpointError where it would lie elsewhere."""
    path = directory / name
    if Path(name).name != name or path.resolve().parent != directory.resolve():
        raise CheckpointError(
            f"names the file '{name}', which lies outside it",
            where=directory,
            fix="an export holds its files itself; export the network again",
        )
    return path


def _check_identity(export: ExportConfig, path: Path) -> None:
    """CheckpointError where the space or the architecture is not the one that was exported."""
    try:
        space, architecture = export.search_space(), export.to_architecture()
    except ConfigError as error:
        place = f"{path}: {error.where}"
        raise CheckpointError(error.what, where=place, fix="export the network again") from error
    found = {
        "fingerprint": (space.fingerprint, export.fingerprint, "space"),
        "id": (architecture.id, export.id, "architecture"),
    }
    for key, (actual, recorded, name) in found.items():
        if actual != recorded:
            raise CheckpointError(
                f"its {name} was changed since it was exported"
                f" ({key} {recorded}, of what is there {actual})",
                where=path,
                fix="export the network again",
            )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lists(value: object) -> Any:
    """Frozen tuples back to the lists of YAML."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple) else value
