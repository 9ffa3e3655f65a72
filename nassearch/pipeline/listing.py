"""Lists of plugins, spaces and devices, and the facts about one of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nassearch import config, objectives
from nassearch.errors import ConfigError
from nassearch.export import FORMATS
from nassearch.export.export_config import read_export
from nassearch.latency.device import list_devices, load_device
from nassearch.ops import OPS, check_space
from nassearch.pipeline.adopt import SPACE_FILE, read_layers
from nassearch.pipeline.describe import reference_facts, space_facts
from nassearch.runtimes import RUNTIMES
from nassearch.runtimes.runtime import availability
from nassearch.search.algorithms import ALGORITHMS
from nassearch.space import (
    SearchSpace,
    is_published_network,
    list_published_networks,
    load_published_network,
)
from nassearch.training.strategies import STRATEGIES


def list_plugins(what: str) -> list[dict[str, str]]:
    """List the plugins, spaces or devices of a kind.

    Args:
        what: spaces, devices, strategies, algorithms, runtimes, objectives, ops or formats.

    Returns:
        A dictionary for each, with its `name`.

    Raises:
        ConfigError: There is no such kind.

    Examples:
        >>> import nassearch as ns
        >>> [row["name"] for row in ns.list_plugins("formats")]
        ['weights', 'onnx', 'pt2', 'int8']
    """
    tables: dict[str, Mapping[str, str]] = {
        "strategies": STRATEGIES,
        "algorithms": ALGORITHMS,
        "runtimes": RUNTIMES,
        "objectives": objectives.OBJECTIVES,
        "ops": OPS,
        "formats": FORMATS,
    }
    if what == "runtimes":
        return [
            {"name": name, "runs here": availability(name), "from": source}
            for name, source in RUNTIMES.items()
        ]
    if what in tables:
        return [{"name": name, "from": source} for name, source in tables[what].items()]
    if what == "devices":
        return [{"name": name, "description": _device_line(name)} for name in list_devices()]
    if what == "spaces":
        spaces = [SearchSpace.load(name) for name in config.list_files("search_spaces")]
        return [
            {
                "name": space.name,
                "networks": f"{space.size():.3g}",
                "origin": space.definition.origin,
                "description": space.definition.description,
            }
            for space in spaces
        ]
    known = ("spaces", "devices", *tables)
    raise ConfigError(
        f"cannot list '{what}'{config.nearest(what, list(known))}",
        where="nassearch list",
        fix=f"name one of {', '.join(known)}",
    )


def _device_line(name: str) -> str:
    """What a device is, or what is wrong with its file: one's mistake is not the others'."""
    try:
        return load_device(name).description
    except ConfigError as error:
        return f"cannot be read: {error}"


def describe(name: str) -> dict[str, Any]:
    """Describe a space, a published network, a device or an export, whichever it is.

    Args:
        name: A name that `list_plugins` gives, a space's YAML file, or the directory of an export
            or of an adopted network.

    Returns:
        The facts about it, as JSON holds them.

    Raises:
        ConfigError: There is nothing of that name.

    Examples:
        >>> import nassearch as ns
        >>> ns.describe("raspberry_pi_4")["name"]
        'raspberry_pi_4'
    """
    if (Path(name) / "config.yaml").is_file():
        export = read_export(Path(name))
        content = export.model_dump(mode="json", by_alias=True, exclude={"space"})
        return {"space": export.space["name"], **content}
    layers = read_layers(Path(name) if Path(name).is_dir() else Path(name).parent)
    if layers is not None:
        space = SearchSpace.load(Path(name) / SPACE_FILE if Path(name).is_dir() else name)
        return {**space_facts(check_space(space)), "layers": layers}
    if name in list_devices():
        return load_device(name).model_dump(mode="json", exclude_none=True)
    if is_published_network(name):
        reference = load_published_network(name)
        check_space(reference.space)
        return reference_facts(reference)
    if name not in config.list_files("search_spaces") and not Path(name).is_file():
        known = [*config.list_files("search_spaces"), *list_published_networks(), *list_devices()]
        raise ConfigError(
            f"'{name}' is no space, network, device or export{config.nearest(name, known)}",
            where="nassearch describe",
            fix=f"known: {', '.join(known)}",
        )
    return space_facts(check_space(SearchSpace.load(name)))
