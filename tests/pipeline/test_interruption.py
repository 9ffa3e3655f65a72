"""Ctrl-C, SIGTERM and SIGHUP end a command alike: what was done is kept, said and counted."""

import signal
from pathlib import Path

import pytest

import nassearch as package
from nassearch.errors import Interrupted
from nassearch.pipeline import export as exporting
from nassearch.pipeline import search as searching
from nassearch.pipeline.pick import Pick
from nassearch.search.journal import latest_search, load_latest
from tests.pipeline.conftest import CommandLine

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_ends_alike_on_every_signal(
    number: signal.Signals, run: Path, nassearch: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nassearch.write_report", lambda *_, **__: signal.raise_signal(number))
    before = signal.getsignal(number)
    answer = nassearch("report", run)
    assert (answer.code, answer.out, answer.err) == (130, "", "nassearch: interrupted\n")
    assert signal.getsignal(number) is before


def test_an_interruption_before_a_command_has_begun_is_told_alike(
    nassearch: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typer makes its commands anew each time, which takes a while."""
    monkeypatch.setattr("nassearch.cli.app", lambda: signal.raise_signal(signal.SIGTERM))
    answer = nassearch("list")
    assert (answer.code, answer.out, answer.err) == (130, "", "nassearch: interrupted\n")


def test_a_signal_that_is_ignored_stays_ignored(
    run: Path, nassearch: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object, **__: object) -> Path:
        signal.raise_signal(signal.SIGHUP)
        return Path("report.html")

    monkeypatch.setattr("nassearch.write_report", write)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert nassearch("report", run).out == "report.html\n"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_search_that_is_stopped_while_it_measures_keeps_its_front(
    run: Path, nassearch: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        searching, "measure_front", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    command = (
        *("search", "--device", "box", "--budget", "60%", "--algorithm", "random", "--trials", "9"),
        *("--objective", "accuracy", "--objective", "macs", "--out", tmp_path),
    )
    answer = nassearch(*command)
    assert answer.code == 130
    lines = (latest_search(tmp_path) / "front.csv").read_text().splitlines()
    found = f"{len(lines) - 1} networks on the front are in {latest_search(tmp_path)}"
    assert answer.err == f"nassearch: interrupted; {found}, --resume measures them\n"
    monkeypatch.setattr(searching, "measure_front", lambda *_: {})
    assert nassearch(*command, "--resume").code == 0
    assert len(list((tmp_path / "search").glob("*/search.json"))) == 1


def test_an_export_that_is_stopped_keeps_the_networks_before_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write, written = exporting.write_export, []

    def stopped(*arguments: object, **keywords: object) -> object:
        if len(written) == 2:
            signal.raise_signal(signal.SIGINT)
        written.append(write(*arguments, **keywords))  # type: ignore[arg-type]
        return written[-1]

    result = package.load_search(run)
    candidates = load_latest(run, space=result.supernet.space).candidates[:4]
    picks = [Pick("", item, (), result.supernet, run) for item in candidates]
    monkeypatch.setattr(exporting, "write_export", stopped)
    with pytest.raises(Interrupted, match=r"^2 of 4 networks are exported \(.*, .*\), the same"):
        package.export_subnets(picks, formats=["weights"], out=tmp_path)
    assert len(list(tmp_path.glob("*/config.yaml"))) == len(written) == 2
    monkeypatch.setattr(exporting, "write_export", write)
    package.export_subnets(picks, formats=["weights"], out=tmp_path)
    assert len(list(tmp_path.glob("*/config.yaml"))) == 4
