"""Whether an archive of `torch.export` holds a program of tensors, and nothing Python would run.

Loading one imports, unpickles and compiles what it names: operators are looked up by dotted names
below `torch`, symbols are evaluated, guards and argument names become source code, shared libraries
are opened. An archive from a stranger may hold any of these; ours have none.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from nassearch.errors import CheckpointError
from nassearch.files import compressed_entry

_ENTRY = re.compile(
    r"[^/]+/(models/model\.json|data/(weights|constants)/[\w.]+|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id))"
)
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.\w+")
_WITH_FILES = re.compile(r"torch\.ops\.aten\.(from_file|save|load)\b")
_SYMBOLS = re.compile(r"(Symbol\('[su]\d+'(, \w+=True)*\)|\d+|[-+/() ,]|\*(?!\*))*")
_CODE = re.compile(r"[();@`\n\r\f\v]|\blambda\b|__import__")
# constants that torch would unpickle, whatever they do
_OBJECTS = ("custom_obj_", "opaque_obj_")


def check_archive(path: Path) -> None:
    """Raise CheckpointError where the archive at `path` holds more than graphs and tensors."""
    try:
        with ZipFile(path) as archive:
            packed = compressed_entry(archive)
            if packed is not None:
                raise _refused(path, f"the compressed file '{packed}'")
            for entry in archive.infolist():
                if _ENTRY.fullmatch(entry.filename) is None:
                    raise _refused(path, f"the file '{entry.filename}'")
                if entry.filename.endswith(".json"):
                    for key, text in _texts(json.loads(archive.read(entry)), ""):
                        _check_text(path, key, text)
    except (BadZipFile, ValueError, RuntimeError) as error:
        raise CheckpointError(
            "is no archive of torch.export", where=path, fix="export the network again"
        ) from error


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Every text of a document, keys too, with the key it stands under; not metadata."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield "", name
            if name != "metadata":
                yield from _texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value


def _check_text(path: Path, key: str, text: str) -> None:
    if key == "path_name" and text.startswith(_OBJECTS):
        raise _refused(path, "Python objects")
    if key == "guards_code":
        raise _refused(path, "code")
    if key == "target" and (not _OPERATOR.fullmatch(text) or _WITH_FILES.match(text)):
        raise _refused(path, f"the operator '{text[:60]}'")
    if key == "expr_str":
        if _SYMBOLS.fullmatch(text) is None:
            raise _refused(path, f"the expression '{text[:60]}'")
    elif _CODE.search(text):
        raise _refused(path, f"the text '{text[:60]}'")


def _refused(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"holds {' '.join(what.split())}, which no network needs",
        where=path,
        fix="load it with torch itself if you trust who wrote it",
    )
