"""Strict configuration: YAML to frozen models, lookup by name, quantities with units."""

import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nassearch.errors import BudgetError, ConfigError

ROOT = Path(__file__).resolve().parent
UNKNOWN_KEY = "unknown_key"
"""The type of a validator's own error for an unknown key; its context says what is `known`."""
_PREFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_MILLISECONDS = {"s": 1e3, "ms": 1.0, "us": 1e-3}
MAX_NODES = 1_000_000
"""Values that a YAML document may hold, each alias counted as what it stands for."""


class StrictModel(BaseModel):
    """A frozen record that refuses unknown keys and does not convert types silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Model = TypeVar("Model", bound=BaseModel)
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Loader(yaml.SafeLoader):
    """Safe YAML without its surprises: 1e-3 is a number, a date is text, no key stands twice."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = key_node.value  # a merge may stand for keys that are given here, too
            if not key_node.tag.endswith(":merge"):
                key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"holds the key '{key}' twice", key_node.start_mark
                )
            seen.update({key} if isinstance(key, Hashable) else ())
        super().flatten_mapping(node)


class _Dumper(yaml.SafeDumper):
    """Writes text that `_Loader` would read as a number in quotes."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.2's floats; YAML 1.1, which PyYAML reads, wants a point in them. Without a sign they are
# short: the eight hexadecimal digits of a network's id may read 12e45678.
_FLOAT = re.compile(r"[-+]?([0-9]+[eE][-+][0-9]+|[0-9]{1,3}[eE][0-9]{1,2})$")
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def parse_yaml(text: str, *, where: object) -> Any:
    """The YAML document `text`.

    Raises:
        ConfigError: naming `where` and the line, where it is no YAML, a mapping holds a key twice,
            or its aliases stand for more than MAX_NODES values.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count_nodes(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        problem = str(error.problem)
        if not problem.startswith("holds "):
            problem, fix = f"is not valid YAML ({problem})", "mend this line, or quote its texts"
        else:
            fix = "keep one" if "twice" in problem else "write the values out, without & and *"
        raise ConfigError(problem, where=f"{where}{line}", fix=fix) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        raise ConfigError(
            f"is not valid YAML ({'nested too deeply' if deep else 'not text'})",
            where=where,
            fix="write it with fewer brackets in brackets" if deep else "save it as UTF-8 text",
        ) from error
    finally:
        if loader is not None:
            loader.dispose()


def _count_nodes(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """The values below `node`; an alias counts as often as it is used (a few can be billions)."""
    known = counts.get(id(node), 0)
    if known is None:
        problem = "holds an alias of what it stands in"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    if known:
        return known
    counts[id(node)] = None
    total = 1
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for item in child if isinstance(child, tuple) else (child,):
            total += _count_nodes(item, counts)
    if total > MAX_NODES:
        problem = f"holds more than {MAX_NODES} values"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    counts[id(node)] = total
    return total


def dump_yaml(value: object, *, width: int = 80) -> str:
    """`value` as the YAML that `parse_yaml` reads back equal, keys in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width)
    return text


def read_yaml(path: Path) -> Any:
    """The YAML document at `path`; ConfigError, naming file and line, as of `parse_yaml`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read ({error.strerror or error})",
            where=path,
            fix="name a file that is there and that you may read",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            "is not valid YAML (not text)", where=path, fix="save it as UTF-8 text"
        ) from error
    return parse_yaml(text, where=path)


def parse(model: type[Model], value: object, *, where: object) -> Model:
    """`value` as `model`; ConfigError names `where`, the key path and what is allowed."""
    if not isinstance(value, Mapping):
        raise ConfigError(
            "must be a mapping of keys to values", where=where, fix=f"write {_example(model)}"
        )
    try:
        return model.model_validate(_tuples(value))
    except ValidationError as error:
        refusal = _refusal(model, error, where)
        refusal.key = _key_path(error.errors()[0]["loc"])
        raise refusal from error


def _refusal(model: type[BaseModel], error: ValidationError, where: object) -> ConfigError:
    """The first thing that a model found wrong, in one line."""
    first = error.errors()[0]
    location = _key_path(first["loc"])
    if first["type"] in ("extra_forbidden", UNKNOWN_KEY):
        known = sorted(first.get("ctx", {}).get("known") or _fields_at(model, first["loc"][:-1]))
        near = nearest(str(first["loc"][-1]), known)
        return ConfigError(
            f"unknown key '{location}'{near}", where=where, fix=f"allowed: {', '.join(known)}"
        )
    if first["type"] == "missing":
        return ConfigError(
            f"the key '{location}' is missing", where=where, fix=f"add {location}: VALUE"
        )
    shown = repr(first["input"])
    got = f" (got {shown})" if len(shown) <= 60 else ""
    what, fix = _problem(first["msg"])
    place = f"{location}: " if location else ""
    return ConfigError(f"{place}{what}{got}", where=where, fix=fix)


def _example(model: type[BaseModel]) -> str:
    """The first line of a mapping that `model` reads."""
    return f"{next(iter(model.model_fields), 'key')}: VALUE, one key a line"


def _problem(message: str) -> tuple[str, str]:
    """What is wrong and how to fix it, of a message of pydantic or of a validator of ours."""
    rule = re.fullmatch(r"(?:Input|String|Tuple|List|Dictionary) should (.+)", message)
    if rule is not None:
        wish = re.sub(r"a valid (dictionary|mapping).*", "a mapping of keys to values", rule[1])
        return "does not fit", f"it must {wish.replace('tuple', 'list')}"
    what, _, fix = message.removeprefix("Value error, ").partition("; ")
    return what, fix


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


_beside: list[Path] = []  # the folders of files that a user named, the latest first
_foreign: set[Path] = set()


def look_beside(path: Path) -> None:
    """Let `resolve` find the modules that the user's file at `path` names beside it, too."""
    _beside.insert(0, path.resolve().parent)


def import_nothing_from(directory: Path) -> None:
    """Let `resolve` pass over modules in `directory`: a run or an export may be a stranger's."""
    _foreign.add(directory.resolve())


def resolve(table: Mapping[str, str], name: str, *, kind: str) -> Any:
    """The plugin called `name` in `table`, or the attribute a user names as 'package.module:Attr'.

    Tables hold dotted paths, so that listing plugins imports none of them. A user's module is
    looked for where Python looks, beside the files the user named (`look_beside`) and in the
    working directory, but not in a run or an export (`import_nothing_from`).

    Raises:
        ConfigError: where there is no such plugin, or importing it fails.
    """
    target = table.get(name, name if ":" in name else None)
    if target is None:
        raise ConfigError(
            f"unknown {kind} '{name}'{nearest(name, list(table))}",
            fix=f"known: {', '.join(table)}, or your own as 'package.module:Attr'",
        )
    module_name, _, attribute = target.partition(":")
    if name in table:
        return getattr(importlib.import_module(module_name), attribute)
    try:
        _find_module(module_name)
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"cannot import the {kind} '{name}' ({type(error).__name__}: {error})",
            fix="its module is looked for beside the file that names it, in the working directory"
            " and on PYTHONPATH",
        ) from error


def _find_module(name: str) -> None:
    """Put the folder that holds the module, if Python finds none, at the end of its path."""
    top = name.partition(".")[0]
    if top in sys.modules or importlib.util.find_spec(top) is not None:
        return
    for folder in (*_beside, Path.cwd()):
        is_there = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
        if is_there and _foreign.isdisjoint((folder, *folder.parents)):
            sys.path.append(str(folder))
            importlib.invalidate_caches()
            return


def data_directories(folder: str) -> list[Path]:
    """Where files of a kind ('search_spaces', 'latency_tables', 'experiments') are looked for.

    The working directory first, so that a user's own file wins, then what ships with the package
    (inside the wheel, or beside the package in a source checkout).
    """
    places = [Path.cwd() / folder, ROOT / folder, ROOT.parent / folder]
    return [place for index, place in enumerate(places) if place not in places[:index]]


def find_file(folder: str, name: str, *, kind: str) -> Path:
    """The YAML file called `name` in `folder`, or the file at the path `name`."""
    if name.lower().endswith((".yaml", ".yml")) or "/" in name or os.sep in name:
        path = Path(name)
        if not path.is_file():
            names = ", ".join(list_files(folder))
            raise ConfigError(f"there is no such {kind} file", where=path, fix=f"known: {names}")
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
    text = text.replace("\u00b5s", "us").replace("\u03bcs", "us")  # micro sign, Greek letter
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*(s|ms|us)?\s*", text)
    if match is None or match.group(2) is None or float(match.group(1)) <= 0:
        problem = (
            "needs a unit" if match is not None and match.group(2) is None else "is not a time"
        )
        raise BudgetError(
            f"'{text}' {problem}", where="latency", fix="write a latency as 5ms, 800us or 0.1s"
        )
    return float(match.group(1)) * _MILLISECONDS[match.group(2)]


def parse_seconds(text: str) -> float:
    """'1.5h', '2min', '90s' to seconds; a bare number is refused."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*(h|min|s|ms|us)\s*", text)
    if match is None or float(match[1]) <= 0:
        raise BudgetError("is not a time", where=f"'{text}'", fix="write it as 1.5h, 20min or 90s")
    return float(match[1]) * _SECONDS[match[2]]


def parse_share(text: str) -> float:
    """'0.5%' to 0.005, up to '100%'; a bare number is refused."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not (text.strip().endswith("%") and 0 < share <= 1):
        raise BudgetError(
            f"'{text}' is not a share", where="share", fix="write it as 0.5%, from above 0% to 100%"
        )
    return share


def parse_count(text: str) -> float:
    """'3M', '250K', '1.5MB', '4096' to a plain number (of parameters, operations or bytes)."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kKMG]?)(i?)(B?)\s*", text)
    if match is None or float(match.group(1)) <= 0:
        raise BudgetError(
            f"'{text}' is not a quantity",
            where="budget",
            fix="write it as 3M, 250K, 1.5MB or 4096",
        )
    number, prefix, binary, _ = match.groups()
    scale = _PREFIXES[prefix.upper()]
    if binary:
        scale = {1e3: 2.0**10, 1e6: 2.0**20, 1e9: 2.0**30}.get(scale, 1.0)
    return float(number) * scale


def format_milliseconds(value: float) -> str:
    """A latency as people write it: '5.12 ms' or '430 µs'."""
    return f"{value * 1e3:.0f} µs" if value < 1.0 else f"{value:.2f} ms"


def format_seconds(value: float) -> str:
    """A duration as people write it, and as `parse_seconds` reads it: '2.1h', '20min', '3.2s'."""
    for unit in ("h", "min"):
        if value >= _SECONDS[unit]:
            return f"{value / _SECONDS[unit]:.3g}{unit}"
    return f"{value:.3g}s" if value < 100 else f"{value:.0f}s"


def format_count(value: float) -> str:
    """A count as people write it: '5.4 M'."""
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= scale:
            return f"{value / scale:.3g} {suffix}"
    return f"{value:g}"
