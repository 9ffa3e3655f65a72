"""Exporting picks: from a finished search to files that run anywhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nassearch.data.identity import DataIdentity
from nassearch.errors import ConfigError, Interrupted
from nassearch.export.export_config import (
    AccuracyClaim,
    DataConfig,
    ExportConfig,
    LatencyClaim,
    MetricClaim,
)
from nassearch.export.format import DEFAULT, Batch, make_formats
from nassearch.export.weights import load
from nassearch.export.writer import check_place, refuse_unfit, write_export
from nassearch.files import owned
from nassearch.networks import Subnet
from nassearch.networks.wiring import LOGITS
from nassearch.pipeline.pick import Pick
from nassearch.pipeline.search_result import SearchResult
from nassearch.progress import Progress, silent
from nassearch.runtimes import RUNTIMES
from nassearch.runtimes.runtime import runtime_class
from nassearch.search.journal import load_latest
from nassearch.search.problem import ACCURACY
from nassearch.training import checkpoint


@dataclass(frozen=True)
class ExportedNetwork:
    """An export on disk, what its config says, and the pick it was made of where that is known.

    Examples:
        >>> import nassearch as ns
        >>> [export, *_] = ns.export_subnets("runs/latest", out="exports")
        >>> export.load().input_shape
        (1, 8, 8)
    """

    directory: Path
    config: ExportConfig
    pick: Pick | None = None

    @property
    def remarks(self) -> list[str]:
        """What is worth knowing of its files, a line each."""
        formats = self.config.formats.values()
        return [f"{facts['file']} is {facts['remark']}" for facts in formats if "remark" in facts]

    def load(self) -> Subnet:
        """The network as a plain module in evaluation mode; CheckpointError without weights."""
        return load(self.directory)

    def to_row(self) -> dict[str, Any]:
        """A row of a table: the network, its accuracy or metric, its files."""
        metric = self.config.metric
        own = {} if metric is None else {metric.name: metric.value}
        return {
            "id": self.config.id,
            "budget": None if self.pick is None else self.pick.budget,
            "accuracy": self.config.accuracy.value,
            "top5": self.config.accuracy.top5,
            **own,
            "params": self.config.params,
            "macs": self.config.macs,
            "formats": ", ".join(self.config.formats),
            "directory": str(self.directory),
        }

    def _repr_html_(self) -> str:
        return pd.DataFrame([self.to_row()]).to_html(index=False)


def export_picks(
    picks: Sequence[Pick],
    *,
    formats: Sequence[str] | None = None,
    batch: Batch | None = None,
    max_accuracy_loss: float = 0.01,
    options: Mapping[str, Any] | None = None,
    out: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> list[ExportedNetwork]:
    """Write picks: each network once, however many budgets chose it; an export for each pick.

    Chosen for several budgets, a network keeps the tightest. Graphs take `batch` images at once, by
    default as many as was promised; each format reads what it knows of the `options`. Everything
    that can be refused is checked before anything is written.
    """
    chosen = tuple(formats) if formats is not None else promised_formats(picks)
    asked = {"max_accuracy_loss": max_accuracy_loss, **(options or {})}
    made = make_formats(chosen, asked if batch is None else {"batch": batch, **asked})
    for pick in picks:
        names = pick.supernet.space.definition.outputs
        if pick.supernet.images is not None:
            refuse_unfit(made, pick.supernet.data, outputs=tuple(names or (LOGITS,)))
    facts: dict[Path, tuple[Pick, ExportConfig]] = {}
    for pick in picks:
        directory = (pick.search / "exports" if out is None else out) / pick.architecture.id
        known = facts.get(directory)
        if known is None or _budgets(pick.latency) < _budgets(known[1].latency):
            facts[directory] = (pick, _facts(pick))
    for directory, (_, config) in facts.items():
        check_place(directory, config, force=force)
    for supernet in {pick.supernet.directory: pick.supernet for pick in picks}.values():
        recorded = checkpoint.load(supernet.directory).data
        if recorded:  # an import without images has none
            supernet.data.warn_of_other_test_images(
                DataIdentity.from_dict(recorded).test_fingerprint,
                since="when the supernet was trained",
            )
    written: dict[str, ExportedNetwork] = {}
    for number, (directory, (pick, config)) in enumerate(facts.items()):
        try:
            progress("exporting", number / len(facts))
            with owned(directory, doing="export"):
                complete = write_export(
                    pick.supernet.extract(pick.architecture),
                    directory,
                    facts=config,
                    data=pick.supernet.data,
                    formats=chosen,
                    options={"batch": batch or _promised_batch(pick), **asked},
                    force=force,
                    progress=progress,
                )
        except KeyboardInterrupt as error:
            raise Interrupted(_whole_text(written, len(facts))) from error
        written[directory.name] = ExportedNetwork(directory, complete, pick)
    progress("exporting", 1.0)
    return [replace(written[pick.architecture.id], pick=pick) for pick in picks]


def _whole_text(written: Mapping[str, ExportedNetwork], total: int) -> str:
    """What an interrupted export kept: the networks before the one under way."""
    places = ", ".join(str(item.directory) for item in written.values())
    found = f"{len(written)} of {total} networks are exported"
    return f"{found}{f' ({places})' if places else ''}, the same command writes the others"


def promised_formats(picks: Sequence[Pick]) -> tuple[str, ...]:
    """The usual formats, and the files that the picks' latencies are promised for."""
    needed = {name for pick in picks for name in _graphs(pick)}
    return (*DEFAULT, *sorted(needed.difference(DEFAULT)))


def _promised_batch(pick: Pick) -> Batch:
    """The images that a pick's graphs take at once; any number, where that differs."""
    batches = {batch for found in _graphs(pick).values() for batch in found}
    return "dynamic" if len(batches) > 1 else next(iter(batches), 1)


def _graphs(pick: Pick) -> dict[str, set[int]]:
    """The format of each file that a pick's latencies are promised for, and the batches."""
    graphs: dict[str, set[int]] = {}
    for setting in (claim.setting for claim in pick.latency):
        if setting.runtime in RUNTIMES or ":" in setting.runtime:
            name = runtime_class(setting.runtime).graph_formats.get(setting.precision)
            if name is not None:
                graphs.setdefault(name, set()).add(setting.batch)
    return graphs


def pick_networks(result: SearchResult, pick: str) -> list[Pick]:
    """The picks of a search that a word stands for.

    `pick` is best (the choice for each budget), knee, all (the front), or an architecture's id.
    Raises ConfigError where there is no such network.
    """
    if pick == "best":
        return list(result.picks)
    front = result.front
    candidates = [front.knee()] if pick == "knee" else list(front)
    if pick not in ("knee", "all"):
        candidates = [item for item in front if item.architecture.id == pick]
    if not candidates:
        known = ", ".join(candidate.architecture.id for candidate in front)
        raise ConfigError(
            f"no network '{pick}' on the front",
            where="pick",
            fix=f"name best, knee, all, or one of {known}",
        )
    latencies = {item.architecture: item.latency for item in reversed(result.picks)}
    return [
        Pick(
            "",
            candidate,
            latencies.get(candidate.architecture, ()),
            result.supernet,
            result.directory,
        )
        for candidate in candidates
    ]


def _facts(pick: Pick) -> ExportConfig:
    """What there is to say about a network before it is written."""
    supernet = pick.supernet
    if supernet.data.has_targets:
        return _facts_of_targets(pick)
    accuracy = supernet.evaluator.accuracy(pick.architecture)
    found = pick.candidate.values.get(ACCURACY)
    return ExportConfig.of(
        supernet.space,
        pick.architecture,
        data=DataConfig.of(supernet.data, seed=supernet.recipe.seed),
        accuracy=AccuracyClaim.of(
            accuracy,
            supernet=supernet.name,
            fingerprint=supernet.fingerprint,
            belief=None if found is None else found.belief,
        ),
    ).model_copy(update={"latency": pick.latency})


def _facts_of_targets(pick: Pick) -> ExportConfig:
    """What is known of a network that tells no classes apart: what its search measured."""
    supernet, metric = pick.supernet, None
    for axis in load_latest(pick.search, space=supernet.space).front.axes:
        value = pick.candidate.values[axis.name]
        if value.provenance.split is not None:
            metric = MetricClaim.of(value, name=axis.kind, direction=axis.direction, unit=axis.unit)
            break
    return ExportConfig.of(
        supernet.space,
        pick.architecture,
        data=DataConfig.of(supernet.data, seed=supernet.recipe.seed),
        accuracy=AccuracyClaim.unmeasured(
            split="val", supernet=supernet.name, fingerprint=supernet.fingerprint
        ),
    ).model_copy(update={"latency": pick.latency, "metric": metric})


def _budgets(promised: Sequence[LatencyClaim]) -> list[float]:
    return [item.budget_ms if item.budget_ms is not None else math.inf for item in promised]
