"""Latency tables: what each block takes in one setting, with where every figure comes from.

A table is one CSV that pandas reads with `comment="#"`; its commented header is YAML. Whole
networks measured on the device lie beside it in `<setting>-networks.csv`.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from nassearch.errors import ConfigError, MissingKeyError, TableError
from nassearch.files import write_text
from nassearch.latency.plausibility import check_blocks
from nassearch.setting import Setting
from nassearch.space import Architecture, BlockSpec, SearchSpace

SCHEMA = 1
SOURCES = ("measured", "interpolated", "estimated")
COLUMNS = ("key", "median_ms", "p10_ms", "p90_ms", "runs", "source")
NETWORK_COLUMNS = ("space", "genes", "resolution", "median_ms", "p10_ms", "runs")
ENERGY = "energy_mj"  # a column of either file, where somebody measured it
ELSEWHERE = "elsewhere_ms"  # a column of the networks, where their blocks were timed as well
BLOCK_OPTIONS, NETWORK_OPTIONS = (ENERGY,), (ENERGY, ELSEWHERE)
# What a header says of one profile: its own figures stand at the top, those of every space that was
# profiled into the table under `profiles`.
PROFILE_FACTS = (
    "date",
    "rounds",
    "noise_floor",
    "standard_error",
    "target_error",
    "stopped",
    "interpolated",
    "interpolation_error",
)
# No block of an image classifier takes this long; seconds or microseconds were probably meant.
IMPLAUSIBLE_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Milliseconds of a block or a network: median, 10th and 90th percentile over `runs` runs.

    `energy_mj`: millijoules of one run, where they were measured as well.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    source: str = "measured"
    energy_mj: float | None = None


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """A whole network measured on the device, by its genes in a space (name:fingerprint).

    `elsewhere_ms`: the sum of its blocks as they were timed in the other networks of its profile,
    which is what the table would say of it had it not been measured.
    """

    space: str
    genes: tuple[int, ...]
    resolution: int
    measurement: Measurement
    leave_one_out_ms: float | None = None

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        architecture: Architecture,
        measurement: Measurement,
        *,
        leave_one_out_ms: float | None = None,
    ) -> "MeasuredNetwork":
        """`architecture` may be of a resolution that `space` does not offer."""
        offered = architecture.resolution in space.resolutions
        inside = architecture if offered else replace(architecture, resolution=space.resolutions[0])
        genes = space.encode(inside)
        return cls(_identity(space), genes, architecture.resolution, measurement, leave_one_out_ms)


@dataclass(frozen=True)
class LatencyTable:
    """Block key -> Measurement in one setting, and whole networks of the same setting.

    One table serves every space and grows as spaces are profiled. `facts` is the rest of the
    header: runtime version, date, CPU, protocol, noise floor of the latest profile, and under
    `profiles` what it says of each space's.
    """

    setting: Setting
    blocks: Mapping[str, Measurement]
    networks: tuple[MeasuredNetwork, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Measurement:
        if key not in self.blocks:
            self.require([key], space="NAME")
        return self.blocks[key]

    def require(self, keys: Iterable[str], *, space: str) -> None:
        """Raise MissingKeyError, naming the command that measures them, where keys are missing."""
        missing = [key for key in keys if key not in self.blocks]
        if missing:
            raise MissingKeyError(
                f"lacks {len(missing)} of the space's blocks, for instance {missing[0]}",
                where=self.setting,
                fix=f"measure them: nassearch profile --device {self.setting.device}"
                f" --space {space} --runtime {self.setting.runtime}",
            )

    def require_space(self, space: SearchSpace, specs: Iterable[BlockSpec]) -> None:
        """Raise MissingKeyError where a block of the space is missing."""
        self.require((spec.key for spec in specs), space=space.source)

    def pairs(self, space: SearchSpace) -> list[tuple[SearchSpace, Architecture, MeasuredNetwork]]:
        """The measured networks as architectures; spaces that are not at hand are left out.

        `space` is tried first, then the spaces that ship, by the name in the row. A network of a
        resolution that its space does not offer belongs to that space with this resolution added.
        """
        spaces: dict[str, SearchSpace | None] = {_identity(space): space}
        wider: dict[tuple[str, int], SearchSpace] = {}
        found = []
        for network in self.networks:
            if network.space not in spaces:
                spaces[network.space] = _shipped(network.space)
            owner = spaces[network.space]
            if owner is None:
                continue
            architecture = owner.decode(network.genes)
            if architecture.resolution != network.resolution:
                place = (network.space, network.resolution)
                if place not in wider:
                    wider[place] = with_resolution(owner, network.resolution)
                owner = wider[place]
                architecture = replace(architecture, resolution=network.resolution)
            found.append((owner, architecture, network))
        return found

    def energy(self, specs: Iterable[BlockSpec]) -> float | None:
        """Millijoules of a network, the sum over its blocks; None where a block's is not known."""
        known = [self.blocks[s.key].energy_mj if s.key in self.blocks else None for s in specs]
        return None if None in known else sum(one for one in known if one is not None)

    def geometric_mean_ms(
        self, space: SearchSpace, architectures: Sequence[Architecture]
    ) -> float | None:
        """The geometric mean of what these networks of `space` took; None where one is missing."""
        name = _identity(space)
        found = {
            network.genes: network.measurement.median_ms
            for network in self.networks
            if network.space == name
        }
        times = [found.get(space.encode(one)) for one in architectures]
        known = [ms for ms in times if ms is not None]
        return math.prod(known) ** (1 / len(known)) if len(known) == len(times) else None

    def merged(self, newer: "LatencyTable") -> "LatencyTable":
        """This table with the rows of a newer one of the same setting put in.

        What was measured stays where the newer table only interpolates.
        """
        if newer.setting != self.setting:
            raise TableError(
                f"cannot be merged with a table of {newer.setting}", where=self.setting
            )
        networks = {
            (network.space, network.genes, network.resolution): network
            for network in (*self.networks, *newer.networks)
        }
        facts = {name: fact for name, fact in self.facts.items() if name not in PROFILE_FACTS}
        profiles = {**self.profiles, **newer.profiles}
        kept = {
            key: m
            for key, m in newer.blocks.items()
            if m.source == "measured" or key not in self.blocks
        }
        return replace(
            newer,
            blocks={**self.blocks, **kept},
            networks=tuple(networks.values()),
            facts={**facts, **newer.facts, **({"profiles": profiles} if profiles else {})},
        )

    @property
    def profiles(self) -> Mapping[str, Mapping[str, Any]]:
        """What the header says of each space's profile, by the space's name:fingerprint."""
        found: Mapping[str, Mapping[str, Any]] = self.facts.get("profiles", {})
        return found

    def profiled(self, space: SearchSpace) -> "LatencyTable":
        """This table with its header's figures noted as those of the profile of `space`."""
        own = {name: self.facts[name] for name in PROFILE_FACTS if name in self.facts}
        return replace(
            self, facts={**self.facts, "profiles": {**self.profiles, _identity(space): own}}
        )

    def noise_floor(self, space: SearchSpace) -> float:
        """That of the profile of `space`; the largest where the table holds only other spaces'."""
        own = self.profiles.get(_identity(space))
        told = [self.facts, *self.profiles.values()] if own is None else [own]
        return max(float(facts.get("noise_floor", 0.0)) for facts in told)

    def save(self, directory: Path) -> Path:
        """Write `<directory>/<device>/<setting>.csv` and, beside it, the networks."""
        path = directory / self.setting.device / f"{self.setting.stem}.csv"
        rows = [
            (key, m.median_ms, m.p10_ms, m.p90_ms, m.runs, m.source, m.energy_mj)
            for key, m in sorted(self.blocks.items())
        ]
        write_text(path, self._header() + _csv(rows, COLUMNS, BLOCK_OPTIONS))
        if self.networks:
            network_rows = [
                (
                    network.space,
                    "-".join(map(str, network.genes)),
                    network.resolution,
                    network.measurement.median_ms,
                    network.measurement.p10_ms,
                    network.measurement.runs,
                    network.measurement.energy_mj,
                    network.leave_one_out_ms,
                )
                for network in self.networks
            ]
            text = self._header() + _csv(network_rows, NETWORK_COLUMNS, NETWORK_OPTIONS)
            write_text(networks_path(path), text)
        return path

    def _header(self) -> str:
        setting = self.setting
        facts = {
            "schema": SCHEMA,
            "device": setting.device,
            "runtime": setting.runtime,
            "precision": setting.precision,
            "batch": setting.batch,
            "threads": setting.threads,
            **self.facts,
        }
        text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=90)
        return "".join(f"# {line}\n" for line in text.splitlines())

    @classmethod
    def load(cls, path: Path, setting: Setting) -> "LatencyTable":
        """The table at `path`; TableError where it is damaged or of another setting."""
        header, frame = _read(path, COLUMNS, BLOCK_OPTIONS)
        _check_setting(path, header, setting)
        blocks: dict[str, Measurement] = {}
        for row in frame.itertuples():
            where = f"{path}: {row.key}"
            if row.key in blocks:
                raise TableError("the key stands twice", where=where)
            BlockSpec.from_key(str(row.key))
            if row.source not in SOURCES:
                raise TableError(
                    f"unknown source '{row.source}'",
                    where=where,
                    fix=f"one of {', '.join(SOURCES)}",
                )
            blocks[str(row.key)] = _measurement(row, where, source=str(row.source))
        check_blocks({key: m.median_ms for key, m in blocks.items()}, setting, where=path)
        networks: tuple[MeasuredNetwork, ...] = ()
        beside = networks_path(path)
        if beside.is_file():
            other, frame = _read(beside, NETWORK_COLUMNS, NETWORK_OPTIONS)
            _check_setting(beside, other, setting)
            networks = tuple(_network(row, beside) for row in frame.itertuples())
        known = ("schema", "device", "runtime", "precision", "batch", "threads")
        facts = {name: value for name, value in header.items() if name not in known}
        return cls(setting, blocks, networks, facts)


def with_resolution(space: SearchSpace, resolution: int) -> SearchSpace:
    """`space` with one resolution more."""
    offered = sorted({*space.resolutions, resolution})
    return SearchSpace.from_dict({**space.to_dict(), "resolution": offered})


def _identity(space: SearchSpace) -> str:
    return f"{space.name}:{space.fingerprint}"


def _shipped(identity: str) -> SearchSpace | None:
    """The space that ships under this name, if it is still the same one."""
    try:
        space = SearchSpace.load(identity.partition(":")[0])
    except ConfigError:  # a space of the user's that is not at hand
        return None
    return space if _identity(space) == identity else None


def networks_path(path: Path) -> Path:
    """The file of whole networks beside a table."""
    return path.with_name(f"{path.stem}-networks.csv")


def find_table(setting: Setting, places: Sequence[Path]) -> LatencyTable | None:
    """The table of a setting in the first of `places` that has one."""
    for place in places:
        path = place / setting.device / f"{setting.stem}.csv"
        if path.is_file():
            return LatencyTable.load(path, setting)
    return None


def _csv(
    rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...], options: tuple[str, ...]
) -> str:
    """A CSV of `columns` and of those `options` that a row has."""
    frame = pd.DataFrame(rows, columns=[*columns, *options])
    frame = frame.drop(columns=[name for name in options if frame[name].isna().all()])
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _read(
    path: Path, columns: tuple[str, ...], options: tuple[str, ...]
) -> tuple[dict[str, Any], pd.DataFrame]:
    try:
        text = path.read_text(encoding="utf-8")
        head = "".join(
            line.removeprefix("#").removeprefix(" ") + "\n"
            for line in text.splitlines()
            if line.startswith("#")
        )
        header = yaml.safe_load(head)
        frame = pd.read_csv(io.StringIO(text), comment="#")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TableError(f"is not a latency table ({error})", where=path) from error
    if not isinstance(header, dict) or "schema" not in header:
        raise TableError("has no header that says its setting", where=path)
    if header["schema"] != SCHEMA:
        raise TableError(
            f"has schema {header['schema']}, this version reads {SCHEMA}",
            where=path,
            fix="profile the device again",
        )
    if tuple(frame.columns) != (*columns, *(name for name in options if name in frame.columns)):
        raise TableError(
            f"has the columns {', '.join(frame.columns)}", where=path, fix=", ".join(columns)
        )
    empty = frame[frame[list(columns)].isna().any(axis=1)]
    if len(empty):
        raise TableError(f"row {int(empty.index[0]) + 1} lacks a value", where=path)
    return header, frame


def _check_setting(path: Path, header: Mapping[str, Any], setting: Setting) -> None:
    for name in ("device", "runtime", "precision", "batch", "threads"):
        if header.get(name) != getattr(setting, name):
            raise TableError(
                f"was measured with {name} {header.get(name)}, not {getattr(setting, name)}",
                where=path,
                fix="ask for its own setting, or profile the device in this one",
            )


def _measurement(row: Any, where: str, *, source: str) -> Measurement:
    median, low = float(row.median_ms), float(row.p10_ms)
    high = float(getattr(row, "p90_ms", median))
    if not 0 < median < IMPLAUSIBLE_MS:
        raise TableError(
            f"{median:g} ms is not plausible", where=where, fix="latencies are in milliseconds"
        )
    if not 0 <= low <= median <= high:
        raise TableError("percentile 10, median and percentile 90 are out of order", where=where)
    energy = float(getattr(row, ENERGY, math.nan))
    if energy <= 0:
        raise TableError(f"{energy:g} mJ is not plausible", where=where)
    return Measurement(
        median, low, high, int(row.runs), source, None if math.isnan(energy) else energy
    )


def _network(row: Any, path: Path) -> MeasuredNetwork:
    where = f"{path}: {row.genes}"
    try:
        genes = tuple(int(gene) for gene in str(row.genes).split("-"))
    except ValueError as error:
        raise TableError("genes are numbers joined by '-'", where=where) from error
    elsewhere = float(getattr(row, ELSEWHERE, math.nan))
    if elsewhere <= 0:
        raise TableError(f"{elsewhere:g} ms of its blocks is not plausible", where=where)
    return MeasuredNetwork(
        str(row.space),
        genes,
        int(row.resolution),
        _measurement(row, where, source="measured"),
        None if math.isnan(elsewhere) else elsewhere,
    )
