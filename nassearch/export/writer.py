"""Writing a subnet to a directory: its formats, its model card and, last, its config."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nassearch.data.dataset import Data
from nassearch.errors import ExportError, NassearchError, OutputError
from nassearch.export.card import CARD, model_card
from nassearch.export.export_config import CONFIG, ExportConfig, read_export, sha256
from nassearch.export.format import DEFAULT, Format, make_formats, takes_photos
from nassearch.files import LOCK, OWNER, atomic_write, final_name, write_text
from nassearch.networks import Subnet
from nassearch.networks.wiring import LOGITS, is_wired, named
from nassearch.progress import Progress, silent

VERIFICATION = "verify.json"
_IDENTITY = {"id", "fingerprint", "data", "finetuned"}


def write_export(
    subnet: Subnet,
    directory: Path,
    *,
    facts: ExportConfig,
    data: Data,
    formats: Sequence[str] = DEFAULT,
    options: Mapping[str, object] | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ExportConfig:
    """Write `subnet` in the given formats and, last, the config that vouches for them.

    An export of the same network keeps its other formats; for another one see `check_place`.

    Args:
        subnet: The network, in evaluation mode.
        directory: Where the export is to lie.
        facts: What is known of the network; of its formats and files nothing yet.
        data: The network's images.
        formats: Names of formats.
        options: What is asked of the formats, each reads its own: `batch`, `max_accuracy_loss`.
        force: Replace another export that lies there.
        progress: Who watches.

    Returns:
        The config, with what there is to know of each format.

    Raises:
        ConfigError: There is no such format or option.
        OutputError: As of `check_place`; nothing was written.
        ExportError: A format cannot hold the network.
    """
    made = make_formats(formats, options)
    refuse_unfit(made, data, outputs=subnet.output_names)
    present = check_place(directory, facts, force=force)
    clear(directory, only_leftovers=present is not None)
    files = dict(present.files) if present is not None else {}
    known = dict(present.formats) if present is not None else {}
    for name, format in made.items():
        path = directory / format.file_name
        with atomic_write(path) as temporary:
            written = format.write(subnet, temporary, data=data, progress=progress)
        known[name] = {"file": path.name} | written
        files[path.name] = sha256(path)
    update = {
        "files": files,
        "formats": known,
        "test_fingerprint": data.test_fingerprint,
        "outputs": output_shapes(subnet),
    }
    complete = facts.model_copy(update=update)
    write_text(directory / CARD, model_card(complete, directory, subnet.input_shape))
    complete.save(directory)
    return complete


def output_shapes(subnet: Subnet) -> dict[str, tuple[int, ...]] | None:
    """What a network with named outputs gives for one image; None of logits."""
    if not is_wired(subnet.specs):
        return None
    with torch.no_grad():
        given = named(subnet(torch.zeros(1, *subnet.input_shape)))
    return {name: tuple(tensor.shape[1:]) for name, tensor in given.items()}


def refuse_unfit(formats: Mapping[str, Format], data: Data, *, outputs: Sequence[str]) -> None:
    """ExportError where a format cannot be of a network without classes."""
    for name, format in formats.items():
        photos = takes_photos(format)
        if (data.has_targets or tuple(outputs) != (LOGITS,)) and (photos or not format.exact):
            what = "takes photos of classes" if photos else "is fitted to an accuracy"
            raise ExportError(
                f"{what}, and this network tells no classes apart",
                where=f"format {name}",
                fix="export without --preprocess-in-graph"
                if photos
                else "export config, weights, onnx or pt2; search for a device in fp32",
            )


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
    if (
        present is not None
        and all(getattr(present, name) == getattr(facts, name) for name in _IDENTITY)
        and present.accuracy.is_same(facts.accuracy)
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
    foreign = sorted(
        path.name
        for path in directory.iterdir()
        if path.name not in (LOCK, OWNER) and not _is_ours(path)
    )
    if foreign:
        raise OutputError(
            f"holds '{foreign[0]}', which is no part of an export",
            where=directory,
            fix="choose another place with --out, or write into it with --force",
        )
    return None


def clear(directory: Path, *, only_leftovers: bool = False) -> None:
    """Remove what belongs to an export: its config, which vouches for the rest, first.

    Leftovers are the temporary files of a command that was killed.
    """
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir(), key=lambda path: path.name != CONFIG):
        if _is_ours(path) and not (only_leftovers and final_name(path) == path.name):
            path.unlink()


def _is_ours(path: Path) -> bool:
    name = final_name(path)
    return path.is_file() and (name in (CONFIG, CARD, VERIFICATION) or name.startswith("model"))
