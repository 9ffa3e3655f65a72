"""nassearch: train one supernet, measure a device once, read off the best network for a budget."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nassearch.export.weights import load as load
    from nassearch.networks import Subnet as Subnet
    from nassearch.networks import Supernet as Supernet
    from nassearch.space import Architecture as Architecture
    from nassearch.space import SearchSpace as SearchSpace

__version__ = "0.1.0"
__all__ = ["Architecture", "SearchSpace", "Subnet", "Supernet", "load"]


def __getattr__(name: str) -> Any:
    """Public names on first use, so that `import nassearch` costs nothing."""
    from importlib import import_module

    homes = {
        "load": "nassearch.export.weights",
        "Subnet": "nassearch.networks",
        "Supernet": "nassearch.networks",
        "SearchSpace": "nassearch.space",
        "Architecture": "nassearch.space",
    }
    if name not in homes:
        raise AttributeError(f"module 'nassearch' has no attribute '{name}'")
    return getattr(import_module(homes[name]), name)
