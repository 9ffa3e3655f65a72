"""A space at a glance: its stages, its size, and what its smallest and largest networks cost."""

from collections.abc import Sequence
from typing import Any

from nassearch.errors import ConfigError, TableError
from nassearch.latency.device import Device, list_devices, load_device
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.roofline import relative_error, roofline
from nassearch.latency.table import find_table
from nassearch.latency.target import check_host
from nassearch.networks.activation_memory import peak_activation_bytes
from nassearch.networks.cost import network_cost
from nassearch.pipeline.profile import table_places
from nassearch.pipeline.run_directory import LATEST
from nassearch.setting import Setting
from nassearch.space import (
    Architecture,
    PublishedNetwork,
    SearchSpace,
    Slot,
    block_specs,
    list_published_networks,
    load_published_network,
    lower,
    slots,
)


def space_facts(space: SearchSpace) -> dict[str, Any]:
    """The facts that `nassearch describe SPACE` shows; counts are exact."""
    networks = {"smallest": space.smallest, "largest": space.largest}
    return {
        "space": space.name,
        "description": space.definition.description,
        "origin": space.definition.origin,
        "networks": space.size(),
        "genes": len(space.genes),
        "latency_keys": len(block_specs(space)),
        "patches": _patches(space),
        "references": [
            name
            for name in list_published_networks()
            if load_published_network(name).space == space
        ],
        "stages": _stage_rows(space),
        "outputs": space.definition.outputs,
        "costs": {label: network_costs(space, network) for label, network in networks.items()},
        "latency": _latencies(space, list(networks.values()), tuple(networks)),
    }


def reference_facts(reference: PublishedNetwork) -> dict[str, Any]:
    """The facts that `nassearch describe FAMILY:NETWORK` shows."""
    return {
        "network": reference.name,
        "origin": reference.origin,
        "space": reference.space.name,
        "id": reference.architecture.id,
        **network_costs(reference.space, reference.architecture),
        "latency": _latencies(reference.space, [reference.architecture], ("latency",)),
        "architecture": reference.architecture.to_dict(),
    }


def network_costs(space: SearchSpace, architecture: Architecture) -> dict[str, int]:
    """Multiply-accumulates, parameters, and the most float32 activations held at once."""
    specs = lower(space, architecture)
    counted = network_cost(specs)
    return {
        "macs": counted.macs,
        "params": counted.params,
        "peak_activation_bytes": peak_activation_bytes(specs),
    }


def _patches(space: SearchSpace) -> dict[str, list[int]] | None:
    """The patch-based schedules that may be chosen; None where all networks run layer by layer."""
    patches = space.definition.patches
    if patches is None:
        return None
    return {"grid": list(patches.grid), "stages": list(patches.stages)}


def _stage_rows(space: SearchSpace) -> list[dict[str, Any]]:
    """A row for the stem, for each stage (for each op it may choose), and for the head."""
    definition, places = space.definition, {slot.name: slot for slot in slots(space)}
    rows: list[dict[str, Any]] = []
    stem, head = definition.stem, definition.head
    if stem is not None:
        rows.append(
            {
                "stage": "stem",
                "op": stem.op,
                "width": [stem.width],
                "depth": [1],
                "stride": stem.stride,
                "dimensions": {"kernel_size": [stem.kernel_size], "activation": [stem.activation]},
                "resolution_in": _pixels(places["stem"]),
            }
        )
    for index, stage in enumerate(definition.stages):
        rows += [
            {
                "stage": str(index),
                "op": op,
                "width": list(stage.width),
                "depth": list(stage.depth),
                "stride": stage.stride,
                "dimensions": {name: list(values) for name, values in dimensions.items()},
                "resolution_in": _pixels(places[f"stages[{index}].blocks[0]"]),
            }
            for op, dimensions in stage.alternatives()
        ]
    choices = head.model_dump(exclude_none=True)
    if head.graph is not None:
        choices = {"graph": head.graph}
        if head.taps is not None:
            choices["reads stages"] = " ".join(map(str, head.taps.values()))
    elif head.expand_width is None and head.feature_width is None:
        del choices["activation"]  # it follows one of the two
    if not definition.has_head:
        return rows
    heads = [spec for spec in places["head"].specs if spec is not None]
    rows.append(
        {
            "stage": "head",
            "op": "head",
            "width": [heads[0].out_channels],
            "depth": [1],
            "stride": 1,
            "dimensions": {name: [value] for name, value in choices.items()},
            "resolution_in": _pixels(places["head"]),
        }
    )
    return rows


def _pixels(slot: Slot) -> list[int]:
    return sorted({spec.resolution for spec in slot.specs if spec is not None})


def _latencies(
    space: SearchSpace, architectures: Sequence[Architecture], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Predicted milliseconds on each device that has a table of the space or can be estimated."""
    rows = []
    for name in list_devices():
        try:
            device = load_device(name)
        except ConfigError:
            continue  # `list devices` says what is wrong with its file
        setting = device.setting()
        prediction = _predicted(space, architectures, device, setting)
        if prediction is not None:
            milliseconds, provenance = prediction
            named = {f"{label}_ms": ms for label, ms in zip(labels, milliseconds, strict=True)}
            rows.append({"setting": str(setting), **named, "provenance": provenance})
    return rows


def _predicted(
    space: SearchSpace, architectures: Sequence[Architecture], device: Device, setting: Setting
) -> tuple[list[float], str] | None:
    try:
        table = find_table(setting, table_places(LATEST))
        if table is not None:
            check_host(device, table)
            predictor = LatencyPredictor.from_table(table, space)
            return [float(ms) for ms in predictor.predict(architectures)], predictor.provenance
    except TableError:
        pass  # damaged, of another machine or another space: not this space's latency
    if device.rates is None:
        return None
    # The estimate of these blocks alone: a predictor would count every block of the space.
    block_ms = roofline(device, setting)
    sums = [sum(map(block_ms, lower(space, architecture))) for architecture in architectures]
    error = relative_error(device, setting)
    return sums, f"estimated, within a factor of {1 + error:.1f}"
