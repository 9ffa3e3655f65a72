"""docs/promises.md promises nothing without a test that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = [
    line
    for line in (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("- ")
]


def test_there_are_promises() -> None:
    assert len(LINES) > 30
    assert len(set(LINES)) == len(LINES)


@pytest.mark.parametrize("line", LINES)
def test_the_test_of_a_promise_exists(line: str) -> None:
    match = re.fullmatch(r"- .+ \(`(?P<file>tests/[\w/]+\.py)::(?P<test>test_\w+)`\)", line)
    assert match, "a promise ends with its test: (`tests/room/test_x.py::test_y`)"
    tree = ast.parse((ROOT / match["file"]).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert match["test"] in names
