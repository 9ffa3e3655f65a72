"""Accuracies that are known are searched, and none is measured; what they lack is told."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nassearch as ns
from nassearch.errors import ConfigError, TableError
from nassearch.objectives.measured import accuracy_by
from nassearch.objectives.objective import Context
from nassearch.pipeline.accuracy_table import AccuracyTable
from nassearch.pipeline.search import make_target
from nassearch.space import Architecture, SearchSpace
from nassearch.training.evaluation import Evaluator
from tests.pipeline.conftest import CommandLine

SPACE = SearchSpace.load("digits_tiny")
GENE = next(n for n, gene in enumerate(SPACE.genes) if ".blocks[0]." in gene.name)
SEARCH = ("search", "--device", "raspberry_pi_5", "--budget", "60%", "--trials", "12")


def accuracy_of(space: SearchSpace, architecture: Architecture) -> float:
    """A made-up accuracy: it grows with every choice, and saturates."""
    ranks = np.array(space.encode(architecture)) / [len(g.choices) - 1 for g in space.genes]
    return float(1 - 0.5 * np.exp(-2 * ranks.mean()))


def write(
    path: Path, space: SearchSpace, architectures: list[Architecture], **columns: Any
) -> Path:
    rows = {
        "genes": ["-".join(map(str, space.encode(item))) for item in architectures],
        "accuracy": [accuracy_of(space, item) for item in architectures],
    }
    pd.DataFrame({**rows, **columns}).to_csv(path, index=False)
    return path


def sampled(count: int, space: SearchSpace = SPACE, seed: int = 0) -> list[Architecture]:
    return list(dict.fromkeys(space.sample_many(np.random.default_rng(seed), count)))


def test_listed_networks_have_what_is_listed_and_others_are_predicted(tmp_path: Path) -> None:
    known, others = sampled(150), sampled(60, seed=1)
    table = AccuracyTable(write(tmp_path / "a.csv", SPACE, known, error=0.01), SPACE)
    assert table.unseen == []
    estimate = table(known[0])
    assert estimate.value == pytest.approx(accuracy_of(SPACE, known[0]))
    assert str(estimate.provenance) == "listed in a.csv"
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 0.01, rel=1e-3)  # type: ignore[operator]
    off = []
    for other in set(others) - set(known):
        estimate = table(other)
        assert str(estimate.provenance) == "predicted from a.csv"
        off.append(abs(estimate.value - accuracy_of(SPACE, other)))
        assert estimate.low <= estimate.value <= estimate.high  # type: ignore[operator]
    assert np.mean(off) < 0.01 < np.ptp([accuracy_of(SPACE, item) for item in others])
    objective = accuracy_by(table, Context(SPACE))
    assert (objective.name, objective.direction, objective.is_cheap) == ("accuracy", "max", True)
    genes = np.array([SPACE.encode(item) for item in [*known[:3], *others]], dtype=np.uint8)
    expected = [objective.evaluate(item).value for item in [*known[:3], *others]]
    np.testing.assert_allclose(objective.numbers(genes), expected, rtol=1e-9)


def test_what_no_listed_network_takes_is_told(tmp_path: Path) -> None:
    """A gene of the first block is never its last choice."""
    place, gene = GENE, SPACE.genes[GENE]
    last = len(gene.choices) - 1
    known = [item for item in sampled(300) if SPACE.encode(item)[place] != last]
    with pytest.warns(UserWarning, match=f"none of its {len(known)} networks .* extrapolated"):
        table = AccuracyTable(write(tmp_path / "half.csv", SPACE, known), SPACE)
    assert table.unseen == [f"{gene.name} {gene.choices[last]}"]
    outside = next(item for item in sampled(300) if SPACE.encode(item)[place] == last)
    assert table.beyond(outside) == table.unseen
    assert table.beyond(known[0]) == []
    estimate = table(outside)
    assert str(estimate.provenance) == "extrapolated from half.csv"
    assert (estimate.low, estimate.high) == (None, None)


def test_choices_of_blocks_that_do_not_exist_are_not_seen(tmp_path: Path) -> None:
    """Genes of blocks beyond a stage's depth are 0, which says nothing of the choice 0."""
    space = SearchSpace.load("mobilenet_v3")
    shallow = [item for item in sampled(4000, space) if len(item.stages[1].blocks) == 2][:40]
    with pytest.warns(UserWarning, match="extrapolated"):
        table = AccuracyTable(write(tmp_path / "shallow.csv", space, shallow), space)
    assert "stages[1].depth 3" in table.unseen
    assert "stages[1].blocks[3].kernel_size 3" in table.unseen
    assert "stages[1].blocks[0].kernel_size 3" not in table.unseen


@pytest.mark.parametrize("names", [("resolution", "ks", "e", "d"), ("r", "ks", "e", "d")])
def test_once_for_all_s_lists_and_percents_are_read(tmp_path: Path, names: tuple[str, ...]) -> None:
    """As its code prints them; resolutions that the space lacks are left out, and counted."""
    space = SearchSpace.load("mobilenet_v3")
    rng, rows = np.random.default_rng(0), []
    for number in range(30):
        lists = (rng.choice([3, 5, 7], 20), rng.choice([3, 4, 6], 20), rng.choice([2, 3, 4], 5))
        pixels = 176 if number < 4 else int(rng.choice([128, 160, 192, 224]))
        values = [pixels, *(str(item.tolist()) for item in lists), 70 + number / 10]
        rows.append(dict(zip((*names, "accuracy"), values, strict=True)))
    path = tmp_path / "ofa.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    with pytest.warns(UserWarning, match="left out 4 of 30 networks, of resolutions that"):
        table = AccuracyTable(path, space)
    assert len(table.listed.genes) == 26
    assert table.listed.accuracies[0] == pytest.approx(0.704)


def test_accuracies_are_read_in_the_forms_of_imported_latencies(tmp_path: Path) -> None:
    known = sampled(12)
    whole = [{"net": json.dumps(item.to_dict()), "accuracy": 0.5} for item in known]
    names = [gene.name for gene in SPACE.genes]
    cells = [
        {
            name: gene.choices[value]
            for name, gene, value in zip(names, SPACE.genes, genes, strict=True)
        }
        for genes in map(SPACE.encode, known)
    ]
    for rows in (whole, [{**row, "accuracy": 0.5} for row in cells]):
        path = tmp_path / "known.csv"
        pd.DataFrame(rows).to_csv(path, index=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # twelve networks do not take every choice
            table = AccuracyTable(path, SPACE)
        assert [tuple(row) for row in table.listed.genes.tolist()] == list(map(SPACE.encode, known))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("genes,top1\n0-0,0.5\n", "has no column 'accuracy'"),
        ("network,accuracy\nx,0.5\n", "names no networks; give the column genes"),
        ("genes,accuracy\n", "holds no network, only a header"),
        ("genes,accuracy\n9-9,0.5\n", "row 1: is not a network of digits_tiny"),
        ("genes,accuracy\n{0},0.5\n{0},0.6\n", "row 2: holds the same network as row 1"),
        ("genes,accuracy\n{0},x\n", "'x' is not a number"),
        ("genes,accuracy\n{0},\n", "nan is no accuracy"),
        ("genes,accuracy\n{0},-0.1\n", "-0.1 is no accuracy"),
        ("genes,accuracy\n{0},101\n", "101 is no accuracy"),
        ("genes,accuracy,error\n{0},0.5,-1\n", "-1 is no error"),
        ("genes,accuracy\n{0},0.5\n", "holds 1 networks of digits_tiny, too few to learn from"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text.format("-".join("0" * len(SPACE.genes))))
    with pytest.raises(TableError) as refused:
        AccuracyTable(path, SPACE)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_search_measures_no_accuracy_and_says_where_each_is_from(
    run: Path, nassearch: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object, **__: object) -> None:
        raise AssertionError("an accuracy was measured")

    monkeypatch.setattr(Evaluator, "accuracy", measure)
    space = ns.load_supernet(run).space
    path = write(tmp_path / "known.csv", space, sampled(120, space))
    answer = nassearch(*SEARCH, "--accuracies", path, "--out", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    (pick,) = answer.json()["picks"]
    assert "known.csv" in pick["values"]["accuracy"]["provenance"]["source"]
    # as good as any of the space within the budget, by the accuracies that were made up
    limit = pick["latency"][0]["budget_ms"]
    found = ns.load_search(tmp_path / "out").picks[0].architecture
    target = make_target("raspberry_pi_5", space, places=())
    networks = sampled(300, space, seed=5)
    within = target.predictor.predict(networks) <= limit
    best = max(
        accuracy_of(space, item) for item, kept in zip(networks, within, strict=True) if kept
    )
    assert accuracy_of(space, found) >= best - 0.01
    (journal,) = (tmp_path / "out").glob("search/*/candidates.jsonl")
    given = [json.loads(line).get("given", False) for line in journal.read_text().splitlines()]
    assert sum(given) >= 20  # those listed, within the budget, begin the search
    assert len(given) - sum(given) <= 12


def test_a_pick_that_is_extrapolated_says_so(run: Path, tmp_path: Path) -> None:
    """The file lists worse networks alone: without a choice that a better one would take."""
    space = ns.load_supernet(run).space
    last = len(space.genes[GENE].choices) - 1
    small = [item for item in sampled(300, space) if space.encode(item)[GENE] != last]
    path = write(tmp_path / "small.csv", space, small)
    with pytest.warns(UserWarning, match="extrapolated") as told:
        result = ns.search_subnets(
            run,
            devices=["raspberry_pi_5"],
            budgets=["100%", "1%"],
            accuracies=path,
            trials=20,
            out=tmp_path / "out",
        )
    said = [str(warning.message) for warning in told]
    for pick in result.picks:
        extrapolated = str(pick.candidate.values["accuracy"].provenance).startswith("extrapolated")
        assert extrapolated == (space.encode(pick.architecture)[GENE] == last)
        name = f"the accuracy of {pick.architecture.id} is extrapolated: no network of {path} takes"
        assert extrapolated == any(line.startswith(name) for line in said)
    kinds = {space.encode(pick.architecture)[GENE] == last for pick in result.picks}
    assert kinds == {True, False}


def test_accuracies_that_are_not_searched_for_are_refused(run: Path, tmp_path: Path) -> None:
    space = ns.load_supernet(run).space
    path = write(tmp_path / "a.csv", space, sampled(40, space))
    wanted: dict[str, Any] = {"devices": ["raspberry_pi_5"], "accuracies": path}
    with pytest.raises(ConfigError, match="are given, and not searched for; name the objective"):
        ns.search_subnets(run, objectives=("macs", "latency"), **wanted)
    with pytest.raises(ConfigError, match="excludes evaluate"):
        ns.search_subnets(run, evaluate=lambda network: 0.5, **wanted)


def test_the_candidates_of_a_search_are_such_a_file(run: Path) -> None:
    """Eight of them, which are read, and too few."""
    found = pd.read_csv(run / "search" / "candidates.csv")
    assert {"genes", "accuracy"} <= {*found.columns}
    space = ns.load_supernet(run).space
    assert len(found) < 10
    with pytest.raises(TableError, match=f"holds {len(found)} networks of digits_tiny, too few"):
        AccuracyTable(run / "search" / "candidates.csv", space)
