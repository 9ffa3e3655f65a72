"""Writing a subnet to a directory: its formats, its model card and, last, its config."""

from pathlib import Path

from nassearch.errors import NassearchError, OutputError
from nassearch.export.card import CARD, model_card
from nassearch.export.export_config import CONFIG, ExportConfig, read_export, sha256
from nassearch.export.format import DEFAULT, ExportOptions, make_formats
from nassearch.files import atomic_write, write_text
from nassearch.networks import Subnet

VERIFICATION = "verify.json"
_IDENTITY = {"id", "fingerprint", "data", "accuracy", "finetuned"}


def write_export(
    subnet: Subnet,
    directory: Path,
    *,
    facts: ExportConfig,
    order: ExportOptions,
    formats: tuple[str, ...] = DEFAULT,
    force: bool = False,
) -> ExportConfig:
    """Write `subnet` in the given formats and, last, the config that vouches for them.

    An export of the same network keeps its other formats; for another one see `check_place`.
    """
    made = make_formats(formats)
    present = check_place(directory, facts, force=force)
    if present is None:
        clear(directory)
    files = dict(present.files) if present is not None else {}
    known = dict(present.formats) if present is not None else {}
    for name, one in made.items():
        with atomic_write(directory / one.file_name) as temporary:
            known[name] = {"file": one.file_name} | one.write(subnet, temporary, order)
        files[one.file_name] = sha256(directory / one.file_name)
    complete = facts.model_copy(update={"files": files, "formats": known})
    write_text(directory / CARD, model_card(complete, directory, subnet.input_shape))
    complete.save(directory)
    return complete


def check_place(directory: Path, facts: ExportConfig, *, force: bool) -> ExportConfig | None:
    """What of this network was exported to `directory` before; None where nothing was.

    Raises OutputError, unless `force`d, where the directory holds another export (of another
    network, from another training) or files that are none of an export's.
    """
    if not directory.is_dir():
        return None
    try:
        present = read_export(directory)
    except NassearchError:
        present = None
    if present is not None and all(
        getattr(present, name) == getattr(facts, name) for name in _IDENTITY
    ):
        return present
    if force:
        return None
    if (directory / CONFIG).exists():
        raise OutputError(
            "already holds another export",
            where=directory,
            fix="choose another place with --out, or replace it with --force",
        )
    foreign = sorted(path.name for path in directory.iterdir() if not _is_ours(path))
    if foreign:
        raise OutputError(
            f"holds '{foreign[0]}', which is no part of an export",
            where=directory,
            fix="choose another place with --out, or write into it with --force",
        )
    return None


def clear(directory: Path) -> None:
    """Remove what belongs to an export: its config, which vouches for the rest, first."""
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir(), key=lambda path: path.name != CONFIG):
        if _is_ours(path):
            path.unlink()


def _is_ours(path: Path) -> bool:
    names = (CONFIG, CARD, VERIFICATION)
    return path.is_file() and (path.name in names or path.name.lstrip(".").startswith("model"))
