"""The runs as the page's script reads them: plain values, candidates by the column."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nassearch.config import format_count, format_milliseconds
from nassearch.latency.efficiency import BYTES, Layers
from nassearch.latency.snapshot import LatencySnapshot
from nassearch.networks import block_cost
from nassearch.networks.cost import network_cost
from nassearch.report.quantity import Quantity
from nassearch.report.record import RunRecord, SearchRecord
from nassearch.report.view import Series, places
from nassearch.space import Architecture, BlockSpec, lower


def run_dict(run: RunRecord, series: Sequence[Series]) -> dict[str, Any]:
    """A run's blocks, and its searches with candidates by the column."""
    block_index = {spec: index for index, spec in enumerate(run.specs)}
    return {
        "name": run.name,
        "path": shlex.quote(str(run.path)),
        "blocks": [_block_dict(spec) for spec in run.specs],
        "searches": [search_dict(run, one.record, one.quantities, block_index) for one in series],
    }


def search_dict(
    run: RunRecord,
    search: SearchRecord,
    columns: Sequence[Quantity],
    block_index: Mapping[BlockSpec, int],
) -> dict[str, Any]:
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
            basis_dict(run, name, snapshot)
            for name in search.latency_names
            for snapshot in [search.snapshot(name)]
            if snapshot is not None
        ],
        "measured": {
            name: {
                str(place[one]): ms
                for (device, one), ms in search.measured.items()
                if device == search.device(name) and one in place
            }
            for name in search.latency_names
        },
    }


def _stages(
    run: RunRecord, architecture: Architecture, block_index: Mapping[BlockSpec, int]
) -> list[list[int]]:
    """The blocks of a network by their index, one list for the stem, each stage, and the head."""
    assert run.space is not None
    indices = [block_index[spec] for spec in lower(run.space, architecture)]
    lengths = [len(stage.blocks) for stage in architecture.stages]
    lengths = [len(indices) - sum(lengths) - 1, *lengths, 1]
    ends = np.cumsum(lengths).tolist()
    return [indices[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _block_dict(spec: BlockSpec) -> dict[str, Any]:
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
        "k": spec.get("kernel_size"),
        "e": spec.get("expand_ratio"),
        "macs": counted.macs,
        "params": counted.params,
        "weights": float(times @ layers.weights) if len(times) else 0.0,
        "moved": float(times @ (layers.inputs + layers.outputs)) if len(times) else 0.0,
    }


def basis_dict(run: RunRecord, latency: str, snapshot: LatencySnapshot) -> dict[str, Any]:
    """A setting's block times in the order of the run's blocks, and its rates where known.

    Operations are two for each multiply-accumulate. Without a datasheet the fastest of the blocks
    stands in for the peak, and the page says so.
    """
    times = [snapshot.blocks.get(spec.key) for spec in run.specs]
    peak = bandwidth = None
    if snapshot.rates is not None and snapshot.precision in snapshot.rates.peak_tflops:
        peak = 1e3 * float(snapshot.rates.peak_tflops[snapshot.precision])
        bandwidth = float(snapshot.rates.bandwidth_gb_s)
    reached = [
        2 * snapshot.batch * block_cost(spec).macs / (time.ms * 1e6)
        for spec, time in zip(run.specs, times, strict=True)
        if time is not None and time.ms > 0
    ]
    return {
        "latency": latency,
        "setting": str(snapshot.setting),
        "device": snapshot.device,
        "source": snapshot.source,
        "batch": snapshot.batch,
        "bytes": BYTES.get(snapshot.precision, 4),
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
            value = by_id[name].values.get("accuracy") if name in by_id else None
            tests = (pick.verified or {}).get("test_accuracy") or {}
            tested = next(iter(tests.values()), None)  # of the export's first format
            for item in pick.latency:
                row = {"search": number, "id": name, "budget": pick.budget, **_promise(item)}
                row["accuracy"] = None if value is None else f"{value.number:.2%}"
                row["tested"] = None
                if tested is not None:
                    row["tested"] = f"{tested['value']:.2%} ({tested['num_images']} images)"
                row["params"] = _params(run, pick.architecture)
                rows.append(row)
    return rows


def export_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Every format of every export that was verified: what it weighs, gets right and takes."""
    rows = []
    for one in run.verified:
        for name, found in one.get("formats", {}).items():
            accuracy = one["test_accuracy"][name]
            memory = found["peak_memory_bytes"]
            rows.append(
                {
                    "id": one["id"],
                    "format": name,
                    "file": found["file"],
                    "size": f"{format_count(found['size_bytes'])}B",
                    "accuracy": f"{accuracy['value']:.2%}",
                    "interval": f"{accuracy['low']:.1%} to {accuracy['high']:.1%}",
                    "difference": f"{found['largest_difference']:.1e}",
                    "latency": format_milliseconds(found["latency_ms"]),
                    "batch": found["batch"],
                    "memory": None if memory is None else f"{format_count(memory)}B",
                }
            )
    return rows


def _promise(item: Mapping[str, Any]) -> dict[str, Any]:
    """A latency that was promised, as text; None where there is no such number."""

    def text(name: str) -> str | None:
        return None if item.get(name) is None else format_milliseconds(item[name])

    low, high = text("low_ms"), text("high_ms")
    return {
        "limit": text("budget_ms"),
        "setting": _setting_text(item),
        "estimated": item["source"] == "estimated",
        "predicted": text("predicted_ms"),
        "interval": None if low is None else f"{low} to {high}",
        "measured": text("measured_ms"),
    }


def _setting_text(item: Mapping[str, Any]) -> str:
    threads = "" if item.get("threads") is None else f", {item['threads']} thread(s)"
    kind = f"{item['runtime']} {item['precision']}"
    return f"{item['device']}: {kind}, batch {item['batch']}{threads}"


def _params(run: RunRecord, architecture: Architecture) -> int:
    assert run.space is not None
    return network_cost(lower(run.space, architecture)).params
