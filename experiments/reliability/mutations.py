"""Damaged and nonsensical variants of files and command lines, by the grammar of each."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 0.5, -0.5, 1e308, -1e308, 10**30, float("nan")),
    *(float("inf"), "", " ", "0", "-1", "nan", "5ms", "five", "1e3", "é", "ключ", "a" * 5000, "\t"),
    *([], [0], [[]], [1, 1], ["a"], {}, {"a": 1}, {"": None}, "../../etc", "os:system", "x:y:z"),
    *("2026-11-26", "%s{0}", "\x1b[31m", "conv", "mbconv", "relu", [3, 5, 7], [2, 4], "1:2"),
]
BYTES = [b"\x00", b"\xff\xfe", b"\n", b"%", b"{", b"}", b"[", b":", b",", b'"', b"#", b"\t", b"-"]


def bytes_of(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes cut, flipped, inserted, repeated or swapped; or nothing at all is left."""
    at = int(rng.integers(max(1, len(content))))
    end = min(len(content), at + int(rng.integers(1, 60)))
    kinds: list[Callable[[], bytes]] = [
        lambda: content[:at],
        lambda: content[at:],
        lambda: content[:at] + content[end:],
        lambda: content[:at] + content[at:end] * 3 + content[end:],
        lambda: content[:at] + bytes([int(rng.integers(256))]) + content[at + 1 :],
        lambda: content[:at] + BYTES[rng.integers(len(BYTES))] + content[at:],
        lambda: rng.bytes(int(rng.integers(200))),
        lambda: b"",
        lambda: b"\xef\xbb\xbf" + content,
        lambda: content.replace(b"\n", b"\r\n"),
        lambda: content.decode("utf-8", "replace").encode("utf-16"),
    ]
    # cuts and changed bytes are what happens; an empty file needs one trial, not one in ten
    weights = np.array([4, 1, 4, 3, 6, 5, 1, 0.3, 0.3, 0.3, 0.3])
    return kinds[rng.choice(len(kinds), p=weights / weights.sum())]()


def tree(value: Any, rng: np.random.Generator) -> Any:
    """A YAML or JSON document with one place changed: another value, no key, another key."""
    places = _places(value)
    if not places:
        return VALUES[rng.integers(len(VALUES))]
    holder, key = places[rng.integers(len(places))]
    kind = rng.integers(6)
    if kind <= 2:
        holder[key] = VALUES[rng.integers(len(VALUES))]
    elif kind == 3:
        del holder[key]
    elif kind == 4 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif kind == 4:
        holder.insert(key, VALUES[rng.integers(len(VALUES))])
    else:
        number = holder[key]
        if isinstance(number, bool) or not isinstance(number, int | float):
            holder[key] = [number, number]
        else:
            holder[key] = [number * -1, number + 1, number * 1000, str(number)][rng.integers(4)]
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) of a document."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    inner = [value[key] for key in keys if isinstance(value[key], dict | list)]
    return [(value, key) for key in keys] + [place for item in inner for place in _places(item)]


def yaml_of(content: bytes, rng: np.random.Generator) -> bytes:
    changed = tree(yaml.safe_load(content), rng)
    return yaml.safe_dump(changed, sort_keys=False, allow_unicode=True).encode()


def json_of(content: bytes, rng: np.random.Generator) -> bytes:
    return json.dumps(tree(json.loads(content), rng)).encode()


def json_lines_of(content: bytes, rng: np.random.Generator) -> bytes:
    """One record changed, cut off, doubled or taken out."""
    lines = content.splitlines()
    at = int(rng.integers(len(lines)))
    kind = rng.integers(5)
    if kind <= 1:
        lines[at] = json_of(lines[at], rng)
    elif kind == 2:
        lines[at] = lines[at][: int(rng.integers(len(lines[at])))]
    elif kind == 3:
        lines.insert(at, lines[at])
    else:
        del lines[at]
    return b"\n".join(lines) + b"\n"


def csv_of(content: bytes, rng: np.random.Generator) -> bytes:
    """A cell, a row, a column or a line of the commented header changed."""
    lines = content.decode().splitlines()
    rows = [number for number, line in enumerate(lines) if not line.startswith("#")]
    comments = [number for number, line in enumerate(lines) if line.startswith("#")]
    kind = rng.integers(7)
    at = int(rng.choice(rows))
    cells = lines[at].split(",")
    if kind <= 2:
        cells[rng.integers(len(cells))] = str(VALUES[rng.integers(len(VALUES))])
        lines[at] = ",".join(cells)
    elif kind == 3:
        del lines[at]
    elif kind == 4:
        lines.insert(at, lines[at])
    elif kind == 5:
        column = int(rng.integers(len(cells)))
        for number in rows:
            parts = lines[number].split(",")
            lines[number] = ",".join(parts[:column] + parts[column + 1 :])
    elif comments:
        header = int(rng.choice(comments))
        lines[header] = bytes_of(lines[header].encode(), rng).decode("utf-8", "replace")
    return ("\n".join(lines) + "\n").encode()


def words_of(words: list[str], rng: np.random.Generator) -> list[str]:
    """A command line with one word changed, taken out, doubled, or swapped with another."""
    words = list(words)
    at = int(rng.integers(len(words)))
    kind = rng.integers(6)
    if kind <= 1:
        words[at] = str(VALUES[rng.integers(len(VALUES))])
    elif kind == 2:
        del words[at]
    elif kind == 3:
        words.insert(at, words[at])
    elif kind == 4:
        other = int(rng.integers(len(words)))
        words[at], words[other] = words[other], words[at]
    else:
        word = words[at]
        cut = int(rng.integers(len(word) + 1))
        words[at] = word[:cut] + word[cut + 1 :]
    return [word.replace("\0", "") for word in words]
