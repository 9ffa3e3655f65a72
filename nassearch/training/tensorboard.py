"""Metrics for TensorBoard, beside metrics.jsonl."""

from collections.abc import Mapping
from pathlib import Path


def write(run_dir: Path, record: Mapping[str, object]) -> None:
    """Add an epoch's line of metrics to the event files in `run_dir`/tensorboard."""
    from tensorboardX import SummaryWriter  # comes with ray[tune]

    with SummaryWriter(str(run_dir / "tensorboard")) as writer:
        for name, value in record.items():
            if isinstance(value, int | float) and name != "epoch":
                writer.add_scalar(name, value, global_step=record["epoch"])
