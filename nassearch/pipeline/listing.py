"""What there is: lists of plugins, spaces and devices, and the facts about one of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nassearch import config, objectives
from nassearch.errors import ConfigError
from nassearch.export import FORMATS
from nassearch.export.export_config import read_export
from nassearch.latency.device import list_devices, load_device
from nassearch.ops import OPS, check_space
from nassearch.pipeline.describe import reference_facts, space_facts
from nassearch.runtimes import RUNTIMES
from nassearch.search.algorithms import ALGORITHMS
from nassearch.space import (
    SearchSpace,
    is_published_network,
    list_published_networks,
    load_published_network,
)
from nassearch.training.strategies import STRATEGIES


def listing(what: str) -> list[dict[str, str]]:
    """The plugins, spaces or devices of a kind."""
    tables: dict[str, Mapping[str, str]] = {
        "strategies": STRATEGIES,
        "algorithms": ALGORITHMS,
        "runtimes": RUNTIMES,
        "objectives": objectives.OBJECTIVES,
        "ops": OPS,
        "formats": FORMATS,
    }
    if what in tables:
        return [{"name": name, "from": source} for name, source in tables[what].items()]
    if what == "devices":
        found = [load_device(name) for name in list_devices()]
        return [{"name": device.name, "description": device.description} for device in found]
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
        f"cannot list '{what}'{config.nearest(what, list(known))}", fix=", ".join(known)
    )


def description(name: str) -> dict[str, Any]:
    """The facts about a space, a published network, a device or an export, whichever it is."""
    if (Path(name) / "config.yaml").is_file():
        export = read_export(Path(name))
        return export.model_dump(mode="json", by_alias=True, exclude={"space"})
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
            fix=f"known: {', '.join(known)}",
        )
    return space_facts(check_space(SearchSpace.load(name)))
