"""sensitivity.json: how much a supernet's largest network minds int8, block by block."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from nassearch import config, files
from nassearch.config import StrictModel
from nassearch.training.sensitivity import BlockSensitivity

FILE = "sensitivity.json"
SCHEMA = 1


class BlockRecord(StrictModel):
    """What int8 in a block adds to the loss, in nats: by its weights, by what its layers read
    within it (0 in files written before that was measured), and by its output.
    """

    key: str
    weights: float
    inner: float = 0.0
    output: float
    relative_error: float

    @property
    def loss_increase(self) -> float:
        return self.weights + self.inner + self.output


class SensitivityRecord(StrictModel):
    """The sensitivities of a supernet's largest network, stem first, and its `loss` in float.

    `supernet` names the weights: those of others are none of theirs.
    """

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    supernet: str
    loss: float
    blocks: tuple[BlockRecord, ...]

    @classmethod
    def of(
        cls, blocks: Sequence[BlockSensitivity], *, supernet: str, loss: float
    ) -> "SensitivityRecord":
        rows = [
            {
                "key": block.key,
                "weights": block.weights.loss_increase,
                "inner": block.inner.loss_increase,
                "output": block.output.loss_increase,
                "relative_error": block.weights.relative_error,
            }
            for block in blocks
        ]
        content = {"schema": SCHEMA, "supernet": supernet, "loss": loss, "blocks": rows}
        return config.parse(cls, content, where=FILE)

    def save(self, run: Path) -> None:
        """Write it into a run's directory."""
        files.write_json(run / FILE, self.model_dump(mode="json", by_alias=True))


def read_sensitivity(run: Path) -> SensitivityRecord | None:
    """What a run's directory holds; None where nothing was measured.

    Raises ConfigError where the file is damaged.
    """
    path = run / FILE
    if not path.is_file():
        return None
    return config.parse(SensitivityRecord, files.read_json(path), where=path)
