"""Strict configuration: what YAML means, what is refused, and where plugins are found."""

import datetime
import sys
from pathlib import Path

import pytest
import yaml

from nassearch import config
from nassearch.cli.option import assignment
from nassearch.errors import BudgetError, ConfigError
from nassearch.files import read_json, read_json_lines
from nassearch.pipeline.run_directory import load_recipe


def _read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return config.read_yaml(path)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("name: a\ntraining:\n  epochs: 1\ntraining:\n  lr: 0.1\n", 4, "training"),
        ("stages:\n  - {width: 8, depth: 1, width: 16}\n", 2, "width"),
        ("a:\n  b:\n    1: x\n    1: y\n", 4, "1"),
    ],
)
def test_a_key_that_stands_twice_is_named(tmp_path: Path, text: str, line: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, text)
    place = f"{tmp_path / 'file.yaml'}:{line}"
    assert str(caught.value) == f"{place}: holds the key '{key}' twice; keep one"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("-2E+4", -2e4), ("1e3", 1e3), ("1.5e-3", 1.5e-3)]
)
def test_an_exponent_needs_no_point(tmp_path: Path, text: str, value: float) -> None:
    assert _read(tmp_path, f"lr: {text}") == {"lr": value}


def test_dates_stay_text_and_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert _read(tmp_path, "date: 2026-11-26") == {"date": "2026-11-26"}
    content = {"names": ["1e3", "2026-11-26", "no", "007", "1.0", "~", "é"], "lr": 1e-3}
    text = config.dump_yaml(content)
    assert config.parse_yaml(text, where="text") == content
    assert yaml.safe_load(config.dump_yaml({"date": datetime.date(2026, 1, 2)})) is not None


@pytest.mark.parametrize("text", ["12e45678", "0e62d33efa60a375", "1e5x", "123e4567e8"])
def test_ids_stay_text(tmp_path: Path, text: str) -> None:
    assert _read(tmp_path, f"id: {text}") == {"id": text}


def test_anchors_and_merges_mean_what_they_say(tmp_path: Path) -> None:
    text = "base: &base {lr: 1, epochs: 2}\nown:\n  <<: *base\n  lr: 3\n"
    assert _read(tmp_path, text) == {
        "base": {"lr": 1, "epochs": 2},
        "own": {"lr": 3, "epochs": 2},
    }


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(9)),
        "a: &a [*a]",
        "[" * 1500,
        "a: " + "9" * 5000,
        "\x00",
        "{[1, 2]: 3}",
        "a: b: c",
    ],
)
def test_hostile_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "file.yaml") in str(caught.value)


@pytest.mark.parametrize("text", ["20us", "20µs", "20μs", "0.02ms"])
def test_microseconds_have_two_letters(text: str) -> None:
    assert config.parse_milliseconds(text) == pytest.approx(0.02)


def test_json_nested_without_end_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="not valid JSON"):
        read_json(path)
    assert read_json_lines(path) == []


def test_a_bare_number_is_no_latency() -> None:
    with pytest.raises(BudgetError, match="needs a unit"):
        config.parse_milliseconds("5")


def test_modules_are_found_beside_the_file_that_names_them_and_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder, name in ((beside, "found_beside"), (here, "found_here")):
        folder.mkdir()
        (folder / f"{name}.py").write_text("def f(architecture):\n    return 1.0\n")
    monkeypatch.chdir(here)
    config.look_beside(beside / "recipe.yaml")
    for name in ("found_beside:f", "found_here:f"):
        assert config.resolve({}, name, kind="objective")(None) == 1.0


def test_modules_of_a_run_or_an_export_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "deeper").mkdir()
    proof = tmp_path / "proof"
    (tmp_path / "deeper" / "strange.py").write_text(f"open({str(proof)!r}, 'w')\n")
    config.import_nothing_from(tmp_path)
    monkeypatch.chdir(tmp_path / "deeper")
    with pytest.raises(ConfigError, match="cannot import the op 'strange:Op'"):
        config.resolve({}, "strange:Op", kind="op")
    assert not proof.exists()


@pytest.mark.parametrize("name", [":f", "json:", "json:nothing", "no.such.module:f", "broken:f"])
def test_what_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken.py").write_text("this is no Python")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot import the strategy"):
        config.resolve({}, name, kind="strategy")


@pytest.mark.parametrize("text", ["", "- a\n", "5\n", "# only a remark\n"])
def test_a_recipe_that_is_no_mapping_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine.yaml: must be a mapping of keys to values"):
        load_recipe(str(path), {"training.epochs": 1})


@pytest.mark.parametrize(
    ("text", "value"), [("lr=1e-3", 0.001), ("data=2026-11-26", "2026-11-26"), ("x=[1]", [1])]
)
def test_an_assignment_means_what_a_file_would(text: str, value: object) -> None:
    assert assignment(text)[1] == value
