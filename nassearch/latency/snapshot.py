"""What the latencies of a search were made of, kept beside it: tables change, and so do devices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nassearch.config import Finite, StrictModel, parse
from nassearch.errors import TableError
from nassearch.files import read_json, write_json
from nassearch.latency.device import Device, RatesFile
from nassearch.latency.mixed_predictor import MixedPredictor
from nassearch.latency.predictor import LatencyPredictor, Pair, Source
from nassearch.latency.table import LatencyTable
from nassearch.setting import WithSetting

SCHEMA = 1
FILE = "latency.json"


class BlockTime(StrictModel):
    """What a block adds to a network's milliseconds, and where its own time comes from."""

    ms: Finite
    source: Source


class ComparedNetwork(StrictModel):
    """A whole network: measured, and predicted by a fit that had not seen it."""

    space: str
    genes: tuple[int, ...]
    measured_ms: Finite
    predicted_ms: Finite


class LatencySnapshot(WithSetting):
    """The latencies of one setting: a network takes `constant_ms` and its blocks' milliseconds.

    `ratio` is the half-width of the interval as a share of the prediction, `noise_floor` the
    table's; None where they are not known. `rates` are the device's, from its datasheet.
    """

    source: Source
    constant_ms: Finite
    ratio: Finite | None = None
    noise_floor: Finite | None = None
    host: str | None = None
    rates: RatesFile | None = None
    blocks: dict[str, BlockTime]
    networks: tuple[ComparedNetwork, ...] = ()

    @classmethod
    def of(
        cls,
        predictor: LatencyPredictor | MixedPredictor,
        table: LatencyTable | None,
        device: Device,
    ) -> "LatencySnapshot":
        """The snapshot of a predictor's latencies."""
        if isinstance(predictor, MixedPredictor):
            return cls._of_mixed(predictor, device)
        calibration = predictor.calibration
        facts = {} if table is None else table.facts
        blocks = {
            spec.key: BlockTime(
                ms=calibration.block_ms(spec, ms),
                source=predictor.source if table is None else _source(table, spec.key),
            )
            for spec, ms in predictor.block_ms.items()
        }
        networks = _compared(predictor.pairs, calibration.residuals)
        return cls(
            setting=predictor.setting,
            source=predictor.source,
            constant_ms=calibration.constant,
            ratio=calibration.ratio,
            noise_floor=None if table is None else table.noise_floor(predictor.space),
            host=None if table is None else str(facts.get("host", "")) or None,
            rates=device.rates,
            blocks=blocks,
            networks=networks,
        )

    @classmethod
    def _of_mixed(cls, predictor: MixedPredictor, device: Device) -> "LatencySnapshot":
        """The snapshot of a mixed setting: blocks by key and precision, without their borders."""
        blocks = {
            key_in(spec.key, precision): BlockTime(
                ms=predictor.block_ms(spec, precision), source=part.source
            )
            for precision, part in predictor.parts.items()
            for spec in part.block_ms
        }
        return cls(
            setting=predictor.setting,
            source=predictor.source,
            constant_ms=predictor.borders.constant,
            ratio=predictor.ratio,
            noise_floor=predictor.noise_floor,
            rates=device.rates,
            blocks=blocks,
            networks=_compared(predictor.pairs, predictor.borders.residuals),
        )


def key_in(key: str, precision: str | None) -> str:
    """The key of a block in a snapshot: of a mixed setting, in one of its precisions."""
    return key if precision is None else f"{key}@{precision}"


def _compared(pairs: Sequence[Pair], residuals: Sequence[float]) -> tuple[ComparedNetwork, ...]:
    """The networks that were measured, beside what was predicted of them without them."""
    return tuple(
        ComparedNetwork(
            space=f"{space.name}:{space.fingerprint}",
            genes=space.encode(architecture),
            measured_ms=measured,
            predicted_ms=measured * (1 - residual),
        )
        for (space, architecture, measured), residual in zip(
            pairs, residuals, strict=len(residuals) > 0
        )
    )


class _File(StrictModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    settings: tuple[LatencySnapshot, ...]


def write_snapshots(directory: Path, snapshots: Sequence[LatencySnapshot]) -> Path:
    """Write `latency.json` into a search's directory."""
    path = directory / FILE
    settings = [snapshot.model_dump(mode="json", exclude_none=True) for snapshot in snapshots]
    write_json(path, {"schema": SCHEMA, "settings": settings})
    return path


def read_snapshots(directory: Path) -> tuple[LatencySnapshot, ...]:
    """The snapshots of a search; none where it was made before they were kept.

    Raises ConfigError where the file is damaged.
    """
    path = directory / FILE
    if not path.is_file():
        return ()
    return parse(_File, read_json(path), where=path).settings


def _source(table: LatencyTable, key: str) -> Any:
    try:
        return table[key].source
    except TableError:  # a block of another space, known from a whole network only
        return "interpolated"
