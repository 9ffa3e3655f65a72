"""A random sample of the error messages that the package can give, as a user would read them.

    python experiments/reliability/messages.py [--count 40] [--seed 0]

Every `raise` of an error class is read from the source; what a message fills in at run time stands
in braces. The last line counts how many of all messages say where, and how many say how to fix it.
"""

import argparse
import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nassearch
from nassearch import errors

PACKAGE = Path(nassearch.__file__).parent
KINDS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.NassearchError)
}


@dataclass(frozen=True)
class Message:
    """An error as it is raised at a place in the source."""

    place: str
    kind: str
    what: str
    where: str
    fix: str

    def __str__(self) -> str:
        prefix = f"{self.where}: " if self.where else ""
        suffix = f"; {self.fix}" if self.fix else ""
        return f"{prefix}{self.what}{suffix}"


def messages() -> Iterator[Message]:
    """Every message in the package, in the order of its files."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                kind = node.exc.func
                name = kind.attr if isinstance(kind, ast.Attribute) else getattr(kind, "id", "")
                if name in KINDS and node.exc.args:
                    given = {item.arg: _text(item.value) for item in node.exc.keywords if item.arg}
                    place = f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"
                    what = _text(node.exc.args[0])
                    yield Message(place, name, what, given.get("where", ""), given.get("fix", ""))


def _text(node: ast.expr) -> str:
    """A message's part: text as it is, everything else in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "{" + ast.unparse(node) + "}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    every = list(messages())
    rng = random.Random(arguments.seed)
    for message in rng.sample(every, min(arguments.count, len(every))):
        print(f"{message.place} {message.kind}\n    {message}")  # noqa: T201
    where = sum(bool(message.where) for message in every)
    fix = sum(bool(message.fix) for message in every)
    print(f"{len(every)} messages, {where} name a place, {fix} say how to fix it")  # noqa: T201


if __name__ == "__main__":
    main()
