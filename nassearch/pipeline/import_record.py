"""`import.json`: where the weights of an imported run come from, and on whose terms."""

from pathlib import Path

from nassearch.config import StrictModel, parse
from nassearch.files import read_json, write_json

FILE = "import.json"


class ImportRecord(StrictModel):
    """What was loaded of a published file, what was left out, and the licence of its weights.

    `preprocessing` names what its authors did to images, which this run does too.
    """

    title: str
    origin: str
    licence: str
    file: str
    sha256: str
    space: str
    num_tensors: int
    left_out: tuple[str, ...]
    preprocessing: str | None = None

    @property
    def lines(self) -> list[str]:
        """What a person is told."""
        left_out = ", ".join(self.left_out) or "nothing"
        return [
            f"{self.title}: {self.num_tensors} tensors loaded into the space {self.space}",
            f"left out of {self.file}: {left_out}",
            f"origin: {self.origin}",
            f"licence: {self.licence}",
        ]

    def save(self, run: Path) -> None:
        write_json(run / FILE, self.model_dump(mode="json"))


def read_import(run: Path) -> ImportRecord | None:
    """How a run's supernet was imported; None where it was trained."""
    path = run / FILE
    return parse(ImportRecord, read_json(path), where=path) if path.is_file() else None
