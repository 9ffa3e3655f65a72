"""Training: strategies that decide which subnets a step trains, and the one loop that runs them."""

STRATEGIES = {
    "delayed-shrinking": "nassearch.training.delayed_shrinking:DelayedShrinking",
    "progressive-shrinking": "nassearch.training.progressive_shrinking:ProgressiveShrinking",
    "sandwich": "nassearch.training.sandwich:Sandwich",
    "single-path": "nassearch.training.single_path:SinglePath",
}
