"""nassearch: train one supernet, measure a device once, read off the best network for a budget.

The whole job, with objects or with directories:

    import nassearch as ns

    data = ns.load_data("digits")
    supernet = ns.train_supernet("digits_tiny", data, epochs=20)
    table = ns.profile_device("digits_tiny", device="host", seconds=20)
    result = ns.search_subnets(supernet, devices=[table], budgets=["30%", "60%"])
    exports = ns.export_subnets(result.picks, formats=["onnx", "int8"])
    ns.verify_exports(exports)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nassearch.data.dataset import Data as Data
    from nassearch.data.loading import load_data as load_data
    from nassearch.export.weights import load as load
    from nassearch.latency.table import LatencyTable as LatencyTable
    from nassearch.networks import Subnet as Subnet
    from nassearch.networks import Supernet as Supernet
    from nassearch.pipeline.export import ExportedNetwork as ExportedNetwork
    from nassearch.pipeline.front_door.exports import export_subnets as export_subnets
    from nassearch.pipeline.front_door.exports import finetune_export as finetune_export
    from nassearch.pipeline.front_door.exports import import_subnet as import_subnet
    from nassearch.pipeline.front_door.exports import load_export as load_export
    from nassearch.pipeline.front_door.exports import verify_exports as verify_exports
    from nassearch.pipeline.front_door.latencies import import_measurements as import_measurements
    from nassearch.pipeline.front_door.latencies import load_table as load_table
    from nassearch.pipeline.front_door.latencies import predict_latency as predict_latency
    from nassearch.pipeline.front_door.latencies import profile_device as profile_device
    from nassearch.pipeline.front_door.latencies import write_bundle as write_bundle
    from nassearch.pipeline.front_door.searches import load_search as load_search
    from nassearch.pipeline.front_door.searches import run_recipe as run_recipe
    from nassearch.pipeline.front_door.searches import search_subnets as search_subnets
    from nassearch.pipeline.front_door.searches import write_report as write_report
    from nassearch.pipeline.front_door.supernets import adopt as adopt
    from nassearch.pipeline.front_door.supernets import export_supernet as export_supernet
    from nassearch.pipeline.front_door.supernets import import_supernet as import_supernet
    from nassearch.pipeline.front_door.supernets import load_space as load_space
    from nassearch.pipeline.front_door.supernets import load_supernet as load_supernet
    from nassearch.pipeline.front_door.supernets import train_recipe as train_recipe
    from nassearch.pipeline.front_door.supernets import train_supernet as train_supernet
    from nassearch.pipeline.listing import describe as describe
    from nassearch.pipeline.listing import list_plugins as list_plugins
    from nassearch.pipeline.search_result import SearchResult as SearchResult
    from nassearch.pipeline.trained_supernet import TrainedSupernet as TrainedSupernet
    from nassearch.space import Architecture as Architecture
    from nassearch.space import SearchSpace as SearchSpace

__version__ = "0.2.0"

_HOMES = {
    "Architecture": "space",
    "Data": "data.dataset",
    "ExportedNetwork": "pipeline.export",
    "LatencyTable": "latency.table",
    "SearchResult": "pipeline.search_result",
    "SearchSpace": "space",
    "Subnet": "networks",
    "Supernet": "networks",
    "TrainedSupernet": "pipeline.trained_supernet",
    "adopt": "pipeline.front_door.supernets",
    "describe": "pipeline.listing",
    "export_subnets": "pipeline.front_door.exports",
    "export_supernet": "pipeline.front_door.supernets",
    "finetune_export": "pipeline.front_door.exports",
    "import_measurements": "pipeline.front_door.latencies",
    "import_subnet": "pipeline.front_door.exports",
    "import_supernet": "pipeline.front_door.supernets",
    "list_plugins": "pipeline.listing",
    "load": "export.weights",
    "load_data": "data.loading",
    "load_export": "pipeline.front_door.exports",
    "load_search": "pipeline.front_door.searches",
    "load_space": "pipeline.front_door.supernets",
    "load_supernet": "pipeline.front_door.supernets",
    "load_table": "pipeline.front_door.latencies",
    "predict_latency": "pipeline.front_door.latencies",
    "profile_device": "pipeline.front_door.latencies",
    "run_recipe": "pipeline.front_door.searches",
    "search_subnets": "pipeline.front_door.searches",
    "train_recipe": "pipeline.front_door.supernets",
    "train_supernet": "pipeline.front_door.supernets",
    "verify_exports": "pipeline.front_door.exports",
    "write_bundle": "pipeline.front_door.latencies",
    "write_report": "pipeline.front_door.searches",
}
"""Public name -> the module that holds it, read on first use: `import nassearch` costs nothing."""

__all__ = [
    "Architecture",
    "Data",
    "ExportedNetwork",
    "LatencyTable",
    "SearchResult",
    "SearchSpace",
    "Subnet",
    "Supernet",
    "TrainedSupernet",
    "adopt",
    "describe",
    "export_subnets",
    "export_supernet",
    "finetune_export",
    "import_measurements",
    "import_subnet",
    "import_supernet",
    "list_plugins",
    "load",
    "load_data",
    "load_export",
    "load_search",
    "load_space",
    "load_supernet",
    "load_table",
    "predict_latency",
    "profile_device",
    "run_recipe",
    "search_subnets",
    "train_recipe",
    "train_supernet",
    "verify_exports",
    "write_bundle",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """The public name `name`, imported now."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nassearch' has no attribute '{name}'")
    return getattr(import_module(f"nassearch.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
