"""Every error nassearch raises on purpose, in one tree.

NassearchError                      the command line prints it as one line and exits 2
├── ConfigError                     a YAML file, a flag or a value in one of them
│   ├── SpaceError                  a search space that cannot work
│   └── ArchitectureError           an architecture outside its space
├── AdoptionError                   a user's network that cannot become a space
├── DataError                       images that are missing, empty or of another kind
├── CheckpointError                 a checkpoint or export that is damaged or foreign
├── TableError                      a latency table that is damaged or of another setting
│   └── MissingKeyError             a table that lacks blocks the space needs
├── RuntimeUnavailableError         a runtime or device that is not on this machine
├── BudgetError                     a budget that cannot be read or reached
├── SearchError                     a search that cannot go on
├── ExportError                     a network that a format cannot hold
├── ClusterError                    a Ray cluster that does not answer or is too small
└── OutputError                     a place that cannot be written

`Interrupted` is no error but a `KeyboardInterrupt` that says what was saved before it passed.
"""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal to end, after what was done was saved; its text says what and where."""


class NassearchError(Exception):
    """What went wrong, where, and how to fix it, on one line."""

    def __init__(self, what: str, *, where: object = "", fix: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.fix = fix
        prefix = f"{self.where}: " if self.where else ""
        suffix = f"; {fix}" if fix else ""
        super().__init__(f"{prefix}{what}{suffix}")


class ConfigError(NassearchError):
    """A YAML file, a flag or a value in one of them is wrong.

    `key` is the path of the key that is, "training.lr"; empty where it is none.
    """

    key = ""


class SpaceError(ConfigError):
    """A search space that cannot work."""


class ArchitectureError(ConfigError):
    """An architecture that does not belong to its space."""


class AdoptionError(NassearchError):
    """A user's own network that cannot be traced, or cannot become a search space."""


class DataError(NassearchError):
    """Images that are missing, empty or of another kind than the space expects."""


class CheckpointError(NassearchError):
    """A checkpoint or an export that is damaged, incomplete or of another space."""


class TableError(NassearchError):
    """A latency table that is damaged or was measured in another setting."""


class MissingKeyError(TableError):
    """A latency table that lacks blocks the space needs."""


class RuntimeUnavailableError(NassearchError):
    """A runtime, execution provider or device that is not on this machine."""


class BudgetError(NassearchError):
    """A budget that cannot be read, or that no architecture of the space can meet."""


class SearchError(NassearchError):
    """A search that cannot start or go on."""


class ExportError(NassearchError):
    """A network that an export format cannot hold."""


class ClusterError(NassearchError):
    """A Ray cluster that does not answer, or that has fewer workers than are asked for."""


class OutputError(NassearchError):
    """A place that cannot be written to."""
