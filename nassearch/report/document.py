"""The runs as the page's script reads them: plain values, candidates by the column."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nassearch.config import format_count, format_milliseconds
from nassearch.export.export_config import LatencyClaim
from nassearch.latency.efficiency import BYTES, Layers
from nassearch.latency.snapshot import LatencySnapshot, key_in
from nassearch.networks import block_cost
from nassearch.networks.cost import network_cost
from nassearch.provenance import Estimate
from nassearch.report.quantity import Quantity
from nassearch.report.record import DrawnBlock, RunRecord, SearchRecord
from nassearch.report.view import Series, places
from nassearch.setting import Setting
from nassearch.space import Architecture, BlockSpec, lower


def run_dict(run: RunRecord, series: Sequence[Series]) -> dict[str, object]:
    """A run's blocks, and its searches with candidates by the column."""
    block_index = {block: index for index, block in enumerate(run.blocks)}
    return {
        "name": run.name,
        "path": shlex.quote(str(run.path)),
        "blocks": [_block_dict(*block) for block in run.blocks],
        "searches": [
            search_dict(run, item.record, item.quantities, block_index) for item in series
        ],
    }


def search_dict(
    run: RunRecord,
    search: SearchRecord,
    columns: Sequence[Quantity],
    block_index: Mapping[DrawnBlock, int],
) -> dict[str, object]:
    architectures = [candidate.architecture for candidate in search.candidates]
    place = places(search.candidates)
    return {
        "id": search.past.directory.name,
        "ids": [architecture.id for architecture in architectures],
        "pixels": [architecture.resolution for architecture in architectures],
        "stages": [_stages(run, architecture, block_index) for architecture in architectures],
        "front": sorted(place[name] for name in search.front_ids),
        "chosen": [
            [place[pick.architecture.id], pick.budget]
            for pick in search.picks
            if pick.architecture.id in place
        ],
        "columns": [column.to_dict() for column in columns],
        "settings": [
            snapshot_dict(run, name, snapshot)
            for name in search.settings
            for snapshot in [search.snapshot(name)]
            if snapshot is not None
        ],
        "measured": {
            name: {
                str(place[identity]): ms
                for identity, ms in search.measured_ms(name).items()
                if identity in place
            }
            for name in search.settings
        },
    }


def _stages(
    run: RunRecord, architecture: Architecture, block_index: Mapping[DrawnBlock, int]
) -> list[list[int]]:
    """The blocks of a network by their index, one list for the stem, each stage, and the head."""
    indices = [block_index[block] for block in run.blocks_of(architecture)]
    lengths = [len(stage.blocks) for stage in architecture.stages]
    lengths = [len(indices) - sum(lengths) - 1, *lengths, 1]
    ends = np.cumsum(lengths).tolist()
    return [indices[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _block_dict(spec: BlockSpec, precision: str | None) -> dict[str, object]:
    counted = block_cost(spec)
    layers = Layers.of([layer for layer, _ in counted.layers], batch=1)
    times = np.array([number for _, number in counted.layers], dtype=np.float64)
    return {
        "key": spec.key,
        "op": spec.op,
        "i": spec.in_channels,
        "o": spec.out_channels,
        "r": spec.resolution,
        "s": spec.stride,
        "p": precision,
        "k": spec.get("kernel_size"),
        "e": spec.get("expand_ratio"),
        "macs": counted.macs,
        "params": counted.params,
        "weights": float(times @ layers.weights) if len(times) else 0.0,
        "moved": float(times @ (layers.inputs + layers.outputs)) if len(times) else 0.0,
    }


def snapshot_dict(run: RunRecord, latency: str, snapshot: LatencySnapshot) -> dict[str, object]:
    """A setting's block times in the order of the run's blocks, and its rates where known.

    Operations are two for each multiply-accumulate. Without a datasheet the fastest of the blocks
    stands in for the peak, and the page says so.
    """
    times = [snapshot.blocks.get(key_in(spec.key, precision)) for spec, precision in run.blocks]
    peak = bandwidth = None
    if snapshot.rates is not None and snapshot.setting.precision in snapshot.rates.peak_tflops:
        peak = 1e3 * float(snapshot.rates.peak_tflops[snapshot.setting.precision])
        bandwidth = float(snapshot.rates.bandwidth_gb_s)
    reached = [
        2 * snapshot.setting.batch * block_cost(spec).macs / (time.ms * 1e6)
        for (spec, _), time in zip(run.blocks, times, strict=True)
        if time is not None and time.ms > 0
    ]
    return {
        "latency": latency,
        "setting": str(snapshot.setting),
        "device": snapshot.setting.device,
        "source": snapshot.source,
        "batch": snapshot.setting.batch,
        "bytes": BYTES.get(snapshot.setting.precision, 4),
        "constant_ms": snapshot.constant_ms,
        "ms": [None if time is None else float(f"{time.ms:.5g}") for time in times],
        "peak_gops": peak,
        "fastest_gops": max(reached, default=None),
        "bandwidth_gb_s": bandwidth,
        "rates_source": None if snapshot.rates is None else snapshot.rates.source,
    }


def chosen_rows(run: RunRecord) -> list[dict[str, Any]]:
    """The network of each budget, newest search first: promised, measured, verified."""
    rows = []
    for number, search in enumerate(run.searches):
        by_id = {candidate.architecture.id: candidate for candidate in search.candidates}
        for pick in search.picks:
            name = pick.architecture.id
            values = by_id[name].values if name in by_id else {}
            value, metric = values.get("accuracy"), _metric(values)
            tests = (pick.verified or {}).get("test_accuracy") or {}
            tested = next(iter(tests.values()), None)  # of the export's first format
            own = next(iter((pick.verified or {}).get("test_metric", {}).values()), None)
            for item in pick.latency:
                row = {"search": number, "id": name, "budget": pick.budget, **_promise(item)}
                row["accuracy"] = None if value is None else f"{value.value:.2%}"
                if metric is not None:
                    row["accuracy"] = f"{metric[0]} {metric[1].value:.4g}"
                row["tested"] = None
                if own is not None:
                    row["tested"] = f"{own['value']:.4g} ({own['num_images']} images)"
                if tested is not None:
                    row["tested"] = f"{tested['value']:.2%} ({tested['num_images']} images)"
                row["params"] = _params(run, pick.architecture)
                rows.append(row)
    return rows


def _metric(values: Mapping[str, Estimate]) -> tuple[str, Estimate] | None:
    """A user's own metric by its name; None where accuracies were measured."""
    shipped = ("accuracy", "loss")
    found = (
        (name, value)
        for name, value in values.items()
        if value.provenance.split is not None and name not in shipped
    )
    return next(found, None)


def export_rows(run: RunRecord) -> list[dict[str, object]]:
    """A row for every format of every verified export: size, accuracy, latency and memory."""
    rows = []
    for verified in run.verified:
        for name, check in verified.get("formats", {}).items():
            accuracy = verified["test_accuracy"].get(name)
            metric = verified.get("test_metric", {}).get(name)
            shown, interval = "not measured", ""
            if accuracy is not None:
                shown = f"{accuracy['value']:.2%}"
                interval = f"{accuracy['low']:.1%} to {accuracy['high']:.1%}"
            elif metric is not None:
                shown = f"{metric['value']:.4g}"
            memory = check["peak_memory_bytes"]
            rows.append(
                {
                    "id": verified["id"],
                    "format": name,
                    "file": check["file"],
                    "size": f"{format_count(check['size_bytes'])}B",
                    "accuracy": shown,
                    "interval": interval,
                    "difference": f"{check['largest_difference']:.1e}",
                    "latency": format_milliseconds(check["latency_ms"]),
                    "batch": check["batch"],
                    "memory": None if memory is None else f"{format_count(memory)}B",
                }
            )
    return rows


def _promise(claim: LatencyClaim) -> dict[str, object]:
    """A latency that was promised, as text; None where there is no such number."""

    def text(milliseconds: float | None) -> str | None:
        return None if milliseconds is None else format_milliseconds(milliseconds)

    low, high = text(claim.low_ms), text(claim.high_ms)
    return {
        "limit": text(claim.budget_ms),
        "setting": _setting_text(claim.setting),
        "estimated": claim.source == "estimated",
        "predicted": text(claim.predicted_ms),
        "interval": None if low is None else f"{low} to {high}",
        "measured": text(claim.measured_ms),
        "unmeasured": claim.unmeasured,
    }


def _setting_text(setting: Setting) -> str:
    threads = "" if setting.threads is None else f", {setting.threads} thread(s)"
    return (
        f"{setting.device}: {setting.runtime} {setting.precision}, batch {setting.batch}{threads}"
    )


def _params(run: RunRecord, architecture: Architecture) -> int:
    assert run.space is not None
    return network_cost(lower(run.space, architecture)).params
