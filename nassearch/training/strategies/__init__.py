"""Strategies: which subnets a step trains, on what and how strongly; one file each."""

STRATEGIES = {
    "delayed-shrinking": "nassearch.training.strategies.delayed_shrinking:DelayedShrinking",
    "progressive-shrinking": (
        "nassearch.training.strategies.progressive_shrinking:ProgressiveShrinking"
    ),
    "sandwich": "nassearch.training.strategies.sandwich:Sandwich",
    "single-path": "nassearch.training.strategies.single_path:SinglePath",
}
