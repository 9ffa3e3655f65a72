"""Strict configuration: YAML to frozen models, lookup by name, quantities with units."""

import difflib
import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from nassearch.errors import BudgetError, ConfigError

ROOT = Path(__file__).resolve().parent
_PREFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_MILLISECONDS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3}


class StrictModel(BaseModel):
    """A frozen record that refuses unknown keys and does not convert types silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path) -> Any:
    """The YAML document at `path`, loaded safely; ConfigError names the file and the line."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read ({error.strerror or error})", where=path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not text"
        raise ConfigError(f"is not valid YAML ({problem})", where=f"{path}{line}") from error


def parse(model: type[Model], value: object, *, where: object) -> Model:
    """`value` as `model`; ConfigError names `where`, the key path and what is allowed."""
    if not isinstance(value, Mapping):
        raise ConfigError("must be a mapping of keys to values", where=where)
    try:
        return model.model_validate(_tuples(value))
    except ValidationError as error:
        first = error.errors()[0]
        location = _key_path(first["loc"])
        if first["type"] == "extra_forbidden":
            known = sorted(_fields_at(model, first["loc"][:-1]))
            near = nearest(str(first["loc"][-1]), known)
            raise ConfigError(
                f"unknown key '{location}'{near}", where=where, fix=f"allowed: {', '.join(known)}"
            ) from error
        if first["type"] == "missing":
            raise ConfigError(f"the key '{location}' is missing", where=where) from error
        message = first["msg"].removeprefix("Value error, ")
        shown = repr(first["input"])
        got = f" (got {shown})" if len(shown) <= 60 else ""
        place = f"{location}: " if location else ""
        raise ConfigError(f"{place}{message}{got}", where=where) from error


def load(model: type[Model], path: Path) -> Model:
    """The YAML file at `path` as `model`."""
    return parse(model, read_yaml(path), where=path)


def _tuples(value: object) -> Any:
    """YAML lists as tuples, which is what frozen models hold."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    return value


def _key_path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[a-z_][a-z_0-9]*", part):
            path += f".{part}" if path else part
        # anything else is a union tag that pydantic adds and no user wrote
    return path


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """The field names allowed at a place inside `model` (best effort, for the message)."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None or isinstance(part, int) or part not in current.model_fields:
            continue
        current = _model_in(current.model_fields[part].annotation) or current
    return set(current.model_fields) if current is not None else set()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def nearest(name: str, known: list[str]) -> str:
    """', did you mean x?' for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, known, n=2)
    return f", did you mean {' or '.join(close)}?" if close else ""


def resolve(table: Mapping[str, str], name: str, *, kind: str) -> Any:
    """The plugin called `name` in `table`, or the attribute a user names as 'package.module:Attr'.

    Tables hold dotted paths, so that listing plugins imports none of them.
    """
    target = table.get(name, name if ":" in name else None)
    if target is None:
        raise ConfigError(
            f"unknown {kind} '{name}'{nearest(name, list(table))}",
            fix=f"known: {', '.join(table)}, or your own as 'package.module:Attr'",
        )
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        if name in table:
            raise
        raise ConfigError(f"cannot import the {kind} '{name}' ({error})") from error


def data_directories(folder: str) -> list[Path]:
    """Where files of a kind ('search_spaces', 'latency_tables', 'experiments') are looked for.

    The working directory first, so that a user's own file wins, then what ships with the package
    (inside the wheel, or beside the package in a source checkout).
    """
    places = [Path.cwd() / folder, ROOT / folder, ROOT.parent / folder]
    return [place for index, place in enumerate(places) if place not in places[:index]]


def find_file(folder: str, name: str, *, kind: str) -> Path:
    """The YAML file called `name` in `folder`, or the file at the path `name`."""
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"there is no such {kind} file", where=path)
        return path
    for directory in data_directories(folder):
        path = directory / f"{name}.yaml"
        if path.is_file():
            return path
    known = list_files(folder)
    raise ConfigError(
        f"unknown {kind} '{name}'{nearest(name, known)}",
        fix=f"known: {', '.join(known)}, or the path of a .yaml file",
    )


def list_files(folder: str) -> list[str]:
    """The names of the YAML files that `find_file` finds."""
    return sorted(
        {path.stem for place in data_directories(folder) for path in place.glob("*.yaml")}
    )


def parse_milliseconds(text: str) -> float:
    """'5ms', '800us', '0.1s' to milliseconds; a bare number is refused."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*(s|ms|us|µs)?\s*", text)
    if match is None or match.group(2) is None or float(match.group(1)) <= 0:
        problem = (
            "needs a unit" if match is not None and match.group(2) is None else "is not a time"
        )
        raise BudgetError(f"'{text}' {problem}", fix="write a latency as 5ms, 800us or 0.1s")
    return float(match.group(1)) * _MILLISECONDS[match.group(2)]


def parse_seconds(text: str) -> float:
    """'2min', '90s' to seconds; a bare number is refused."""
    number, unit = text.strip()[:-3], text.strip()[-3:]
    if unit == "min":
        return parse_milliseconds(f"{number}s") * 60 / 1e3
    return parse_milliseconds(text) / 1e3


def parse_share(text: str) -> float:
    """'0.5%' to 0.005, up to '100%'; a bare number is refused."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not (text.strip().endswith("%") and 0 < share <= 1):
        raise BudgetError(f"'{text}' is not a share", fix="write it as 0.5%")
    return share


def parse_count(text: str) -> float:
    """'3M', '250K', '1.5MB', '4096' to a plain number (of parameters, operations or bytes)."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kKMG]?)(i?)(B?)\s*", text)
    if match is None or float(match.group(1)) <= 0:
        raise BudgetError(f"'{text}' is not a quantity", fix="write it as 3M, 250K, 1.5MB or 4096")
    number, prefix, binary, _ = match.groups()
    scale = _PREFIXES[prefix.upper()]
    if binary:
        scale = {1e3: 2.0**10, 1e6: 2.0**20, 1e9: 2.0**30}.get(scale, 1.0)
    return float(number) * scale


def format_milliseconds(value: float) -> str:
    """A latency as people write it: '5.12 ms' or '430 µs'."""
    return f"{value * 1e3:.0f} µs" if value < 1.0 else f"{value:.2f} ms"


def format_count(value: float) -> str:
    """A count as people write it: '5.4 M'."""
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= scale:
            return f"{value / scale:.3g} {suffix}"
    return f"{value:g}"
