"""What every error message says: where it went wrong, and how to fix it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "reliability" / "messages.py"
# they quote the name that was typed, and who reads a file adds its key
QUOTED = ("unknown {kind} '{name}'", "cannot import the {kind} '{name}'")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reliability_messages", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def test_every_message_says_where_and_how_to_fix_it(script: ModuleType) -> None:
    messages = list(script.messages())
    assert len(messages) > 200
    assert [f"{message.place} {message}" for message in messages if not message.fix] == []
    placeless = [message for message in messages if not message.where]
    assert [f"{m.place} {m}" for m in placeless if not m.what.startswith(QUOTED)] == []
