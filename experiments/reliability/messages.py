"""A random sample of the error messages that the package can give, as a user would read them.

    python experiments/reliability/messages.py [--count 40] [--seed 0]

Every place that makes an error is read from the source; what a message fills in at run time stands
in braces. The last line counts how many of all messages say where, and how many say how to fix it,
as a part of their own (`where=`, `fix=`): a name that is only quoted is not counted as a place.
"""

import argparse
import ast
import random
from collections.abc import Iterator, Mapping
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
    """An error as it is made at a place in the source."""

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
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                kind = node.func
                name = kind.attr if isinstance(kind, ast.Attribute) else getattr(kind, "id", "")
                if name in KINDS:
                    texts = _constants(tree)
                    what = _text(node.args[0], texts)
                    given = {item.arg: _text(item.value, texts) for item in node.keywords}
                    place = f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"
                    yield Message(place, name, what, given.get("where", ""), given.get("fix", ""))


def _constants(tree: ast.Module) -> dict[str, str]:
    """The texts that a module gives names."""
    return {
        target.id: str(node.value.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _text(node: ast.expr, texts: Mapping[str, str]) -> str:
    """A message's part: text as it is, everything else in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name) and node.id in texts:
        return texts[node.id]
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, texts) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, texts) + _text(node.right, texts)
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
    for message in every:
        if not (message.where and message.fix):
            print(f"without a place or a fix: {message.place} {message.what}")  # noqa: T201
    where = sum(bool(message.where) for message in every)
    fix = sum(bool(message.fix) for message in every)
    print(f"{len(every)} messages, {where} name a place, {fix} say how to fix it")  # noqa: T201


if __name__ == "__main__":
    main()
