"""Latency tables: what each block takes in one setting, with where every figure comes from."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nassearch.errors import ConfigError, MissingKeyError, TableError
from nassearch.latency.host_identity import HostIdentity
from nassearch.latency.measurement import MeasuredNetwork, Measurement, space_identity
from nassearch.latency.plausibility import check_blocks
from nassearch.latency.table_file import (
    blocks_frame,
    networks_frame,
    networks_path,
    read_blocks,
    read_networks,
    write_file,
)
from nassearch.runtimes import RUNTIMES
from nassearch.setting import SETTING_FIELDS, Setting
from nassearch.space import Architecture, BlockSpec, SearchSpace

IDENTITY = "identity"
UNIT = "unit"  # the header says it where whoever imported the figures did
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


@dataclass(frozen=True)
class LatencyTable:
    """Block key -> Measurement in one setting, and whole networks of the same setting.

    One table serves every space and grows as spaces are profiled. `facts` is the rest of the
    header: runtime version, date, the machine, protocol, noise floor of the latest profile, and
    under `profiles` what it says of each space's.

    Examples:
        >>> import nassearch as ns
        >>> table = ns.load_table("zen4/openvino-int8-b1-t1")
        >>> str(table.setting), table.to_pandas().columns[1]
        ('zen4/openvino-int8-b1-t1', 'median_ms')
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
                fix=how_to_measure(self.setting, space),
            )

    def require_space(self, space: SearchSpace, specs: Iterable[BlockSpec]) -> None:
        """Raise MissingKeyError where a block of the space is missing."""
        self.require((spec.key for spec in specs), space=space.source)

    def pairs(self, space: SearchSpace) -> list[tuple[SearchSpace, Architecture, MeasuredNetwork]]:
        """The measured networks as architectures; spaces that are not at hand are left out.

        `space` is tried first, then the spaces that ship, by the name in the row. A network of a
        resolution that its space does not offer belongs to that space with this resolution added.
        """
        spaces: dict[str, SearchSpace | None] = {space_identity(space): space}
        wider: dict[tuple[str, int], SearchSpace] = {}
        pairs = []
        for network in self.networks:
            if network.space not in spaces:
                shipped = _shipped(network.space)
                spaces[network.space] = shipped and shipped.mixed(space.precisions)
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
            pairs.append((owner, architecture, network))
        return pairs

    def energy(self, specs: Iterable[BlockSpec]) -> float | None:
        """Millijoules of a network, the sum over its blocks; None where a block's is not known."""
        known = [self.blocks[s.key].energy_mj if s.key in self.blocks else None for s in specs]
        return None if None in known else sum(energy for energy in known if energy is not None)

    def geometric_mean_ms(
        self, space: SearchSpace, architectures: Sequence[Architecture]
    ) -> float | None:
        """The geometric mean of what these networks of `space` took; None where one is missing."""
        name = space_identity(space)
        measured_ms = {
            network.genes: network.measurement.median_ms
            for network in self.networks
            if network.space == name
        }
        times = [measured_ms.get(space.encode(architecture)) for architecture in architectures]
        known = [ms for ms in times if ms is not None]
        return math.prod(known) ** (1 / len(known)) if len(known) == len(times) else None

    def merged(self, newer: "LatencyTable") -> "LatencyTable":
        """This table with the rows of a newer one of the same setting put in.

        What was measured stays where the newer table only interpolates.
        """
        self.check_mergeable(newer.setting, newer.identity)
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

    def check_mergeable(self, setting: Setting, identity: HostIdentity | None) -> None:
        """Raise TableError where what was measured in `setting` on a machine does not belong here.

        A table without an identity takes that of the first newer profile.
        """
        if setting != self.setting:
            raise TableError(
                f"cannot be merged with a table of {setting}",
                where=self.setting,
                fix="keep each setting in a file of its own",
            )
        own = self.identity
        difference = None if own is None or identity is None else identity.difference(own)
        if difference is not None:
            raise TableError(
                f"was measured on another machine ({difference})",
                where=self.setting,
                fix="give this machine a name of its own with --device, or choose another --out",
            )

    @property
    def profiles(self) -> Mapping[str, Mapping[str, Any]]:
        """What the header says of each space's profile, by the space's name:fingerprint."""
        profiles: Mapping[str, Mapping[str, Any]] = self.facts.get("profiles", {})
        return profiles

    def profiled(self, space: SearchSpace) -> "LatencyTable":
        """This table with its header's figures noted as those of the profile of `space`."""
        own = {name: self.facts[name] for name in PROFILE_FACTS if name in self.facts}
        return replace(
            self, facts={**self.facts, "profiles": {**self.profiles, space_identity(space): own}}
        )

    def noise_floor(self, space: SearchSpace) -> float | None:
        """That of the profile of `space`, a share; the largest where the table holds only other
        spaces', None where nobody knows (imported measurements).
        """
        own = self.profiles.get(space_identity(space))
        profiles = [self.facts, *self.profiles.values()] if own is None else [own]
        floors = [float(facts["noise_floor"]) for facts in profiles if "noise_floor" in facts]
        return max(floors, default=None)

    @property
    def identity(self) -> HostIdentity | None:
        """The machine it was measured on; None where the header does not say (version 0.1)."""
        value = self.facts.get(IDENTITY)
        return None if value is None else HostIdentity.from_dict(value, where=self.setting)

    def to_pandas(self) -> pd.DataFrame:
        """The blocks, a row each: key, median_ms, p10_ms, p90_ms, runs, source."""
        return blocks_frame(self.blocks)

    def networks_to_pandas(self) -> pd.DataFrame:
        """The whole networks, a row each: space, genes, resolution, median_ms, p10_ms, runs."""
        return networks_frame(self.networks)

    def _repr_html_(self) -> str:
        floors = [
            float(facts["noise_floor"])
            for facts in (self.facts, *self.profiles.values())
            if "noise_floor" in facts
        ]
        rows = {
            "setting": str(self.setting),
            "blocks": str(len(self.blocks)),
            "networks": str(len(self.networks)),
            "noise floor": f"{max(floors):.1%}" if floors else "unknown",
            "machine": str(self.identity or self.facts.get("host", "unknown")),
        }
        cells = "".join(
            f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in rows.items()
        )
        return f"<table>{cells}</table>"

    def check(self, *, where: object = "") -> None:
        """Raise TableError, naming the row, where a figure cannot be; what is saved loads again."""
        place = where or self.setting
        rows: list[tuple[str, str | None]] = [(k, m.problem) for k, m in self.blocks.items()]
        rows += [("-".join(map(str, n.genes)), n.problem) for n in self.networks]
        for name, problem in rows:
            if problem is not None:
                raise TableError(
                    problem, where=f"{place}: {name}", fix="latencies are in milliseconds"
                )
        medians = {key: measured.median_ms for key, measured in self.blocks.items()}
        check_blocks(medians, self.setting, where=place, unit_given=UNIT in self.facts)

    def path(self, directory: Path) -> Path:
        """Where `save` writes it: `<directory>/<device>/<setting>.csv`."""
        return directory / self.setting.device / f"{self.setting.stem}.csv"

    def save(self, directory: Path) -> Path:
        """Write its file and, beside it, the networks; nothing where it would not load again."""
        self.check()
        path = self.path(directory)
        write_file(path, self.setting, self.facts, self.to_pandas())
        if self.networks:
            write_file(networks_path(path), self.setting, self.facts, self.networks_to_pandas())
        return path

    @classmethod
    def load(cls, path: Path, setting: Setting | None = None) -> "LatencyTable":
        """The table at `path`, with the networks beside it.

        Args:
            path: The file of its blocks.
            setting: The one it must be of; None takes what its header says.

        Raises:
            TableError: It is damaged or of another setting; the message names the row.
        """
        own, facts, blocks = read_blocks(path)
        _check_setting(path, own, setting or own)
        networks: tuple[MeasuredNetwork, ...] = ()
        beside = networks_path(path)
        if beside.is_file():
            other, networks = read_networks(beside)
            _check_setting(beside, other, own)
        table = cls(own, blocks, networks, facts)
        table.check(where=path)
        if IDENTITY in facts:
            HostIdentity.from_dict(facts[IDENTITY], where=path)
        return table


def how_to_measure(setting: Setting, space: str) -> str:
    """What to do about latencies that a table lacks."""
    if setting.runtime in RUNTIMES or ":" in setting.runtime:
        return f"measure them: nassearch profile {setting.options} --space {space}"
    return (
        f"{setting.runtime} does not run here, import what was measured elsewhere:"
        f" nassearch profile {setting.options} --import FILE"
    )


def with_resolution(space: SearchSpace, resolution: int) -> SearchSpace:
    """`space` with one resolution more."""
    offered = sorted({*space.resolutions, resolution})
    return SearchSpace.from_dict({**space.to_dict(), "resolution": offered}).mixed(space.precisions)


def find_table(setting: Setting, places: Sequence[Path]) -> LatencyTable | None:
    """The table of a setting in the first of `places` that has one."""
    for place in places:
        path = place / setting.device / f"{setting.stem}.csv"
        if path.is_file():
            return LatencyTable.load(path, setting)
    return None


def _shipped(identity: str) -> SearchSpace | None:
    """The space that ships under this name, if it is still the same one."""
    try:
        space = SearchSpace.load(identity.partition(":")[0])
    except ConfigError:  # a space of the user's that is not at hand
        return None
    return space if space_identity(space) == identity else None


def _check_setting(path: Path, own: Setting, asked: Setting) -> None:
    for name in SETTING_FIELDS:
        if getattr(own, name) != getattr(asked, name):
            raise TableError(
                f"was measured with {name} {getattr(own, name)}, not {getattr(asked, name)}",
                where=path,
                fix="ask for its own setting, or profile the device in this one",
            )
