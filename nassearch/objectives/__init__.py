"""Objectives: quantities of an architecture that a search can trade or bound."""

OBJECTIVES = {
    "accuracy": "nassearch.objectives.measured:Accuracy",
    "loss": "nassearch.objectives.measured:ValidationLoss",
    "latency": "nassearch.objectives.cheap:Latency",
    "macs": "nassearch.objectives.cheap:Macs",
    "params": "nassearch.objectives.cheap:Params",
    "peak_activation_bytes": "nassearch.objectives.cheap:PeakActivationBytes",
    "peak_memory_bytes": "nassearch.objectives.cheap:PeakMemoryBytes",
    "size_bytes": "nassearch.objectives.cheap:SizeBytes",
    "sensitivity": "nassearch.objectives.cheap:Sensitivity",
    "zero_cost": "nassearch.objectives.cheap:ZeroCost",
    "effectiveness": "nassearch.objectives.cheap:Effectiveness",
}
