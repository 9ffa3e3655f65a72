"""Strategies: which subnets a step trains, on what and how strongly; one file each."""

from pydantic import ConfigDict

from nassearch.config import StrictModel, resolve
from nassearch.errors import ConfigError

STRATEGIES = {
    "delayed-shrinking": "nassearch.training.strategies.delayed_shrinking:DelayedShrinking",
    "growing": "nassearch.training.strategies.growing:Growing",
    "progressive-shrinking": (
        "nassearch.training.strategies.progressive_shrinking:ProgressiveShrinking"
    ),
    "sandwich": "nassearch.training.strategies.sandwich:Sandwich",
    "single-path": "nassearch.training.strategies.single_path:SinglePath",
}


class _UnreadOptions(StrictModel):
    """Options of a strategy that cannot be imported here: a run of it can still be searched."""

    model_config = ConfigDict(extra="allow")


def strategy_options(name: str) -> type[StrictModel]:
    """The model of the keys that only the strategy called `name` reads: its class's `Options`.

    Raises ConfigError where there is no strategy of that name.
    """
    try:
        strategy = resolve(STRATEGIES, name, kind="strategy")
    except ConfigError:
        if ":" in name:
            return _UnreadOptions
        raise
    options: type[StrictModel] = getattr(strategy, "Options", StrictModel)
    return options
