"""Bad input gets one line that says what, where and how to fix; exit 2; nothing half-written."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from nassearch.pipeline.evaluation_cache import EvaluationCache
from nassearch.space import Architecture, SearchSpace
from tests.pipeline.conftest import CommandLine


def refused(nassearch: CommandLine, *arguments: object) -> str:
    answer = nassearch(*arguments)
    assert answer.code == 2, answer.err
    assert answer.out == ""
    (line,) = answer.err.strip().splitlines()
    assert line.startswith("nassearch: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--device", "a100", "--budget", "5"), "needs a unit"),
        (("--device", "a100", "--budget", "fast"), "5ms, 800us or 0.1s"),
        (("--device", "a100", "--budget", "1us"), "the smallest latency"),
        (("--device", "box", "--budget", "params=1K"), "the smallest params"),
        (("--device", "box", "--budget", "colour=3"), "colour"),
        (("--device", "b0x", "--budget", "5ms"), "did you mean box?"),
        (("--device", "box", "--budget", "5ms", "--algorithm", "gided"), "did you mean guided?"),
        (("--device", "box", "--budget", "5ms", "--objective", "accurcy"), "accuracy"),
        (("--device", "box", "--supernet", "nowhere", "--budget", "5ms"), "is not a run"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    run: Path, nassearch: CommandLine, arguments: tuple[str, ...], says: str
) -> None:
    before = sorted((run / "search").iterdir())
    assert says in refused(nassearch, "search", *arguments)
    assert sorted((run / "search").iterdir()) == before


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The finished run once more, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def search_on_box(nassearch: CommandLine, run: Path) -> str:
    return refused(nassearch, "search", "--supernet", run, "--device", "box", "--budget", "5ms")


def test_a_table_that_lacks_blocks_names_the_command_that_measures_them(
    copy: Path, nassearch: CommandLine
) -> None:
    table = copy / "latency_tables" / "box" / "fake-fp32-b1-t1.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    line = search_on_box(nassearch, copy)
    assert "nassearch profile --device box" in line
    assert lines[-1].partition(",")[0] in line


def test_a_table_of_another_setting_is_refused(copy: Path, nassearch: CommandLine) -> None:
    table = copy / "latency_tables" / "box" / "fake-fp32-b1-t1.csv"
    table.write_text(table.read_text().replace("# threads: 1", "# threads: 4"))
    assert "measured with threads 4, not 1" in search_on_box(nassearch, copy)


def test_a_changed_export_is_refused_with_the_file(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    export = shutil.copytree(next((run / "exports").iterdir()), tmp_path / "export")
    weights = export / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "model.safetensors: was changed" in refused(nassearch, "verify", export)


def test_a_broken_promise_exits_3_and_names_it(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    export = shutil.copytree(next((run / "exports").iterdir()), tmp_path / "export")
    config = export / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["latency"][0]["budget_ms"] = 1e-6
    config.write_text(yaml.safe_dump(content))
    answer = nassearch("verify", export)
    assert answer.code == 3
    assert "over the budget" in answer.err


def test_something_else_than_an_export_is_refused(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    assert "is not an export" in refused(nassearch, "verify", tmp_path)


def test_an_unknown_export_format_is_refused(run: Path, nassearch: CommandLine) -> None:
    assert "tflite" in refused(nassearch, "export", "--format", "config,tflite")


def test_an_unknown_pick_names_the_known_ones(run: Path, nassearch: CommandLine) -> None:
    assert "best, knee, all" in refused(nassearch, "export", "--pick", "nobody")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("training.epoch=3", "training.epoch"),
        ("training.epochs=many", "training.epochs"),
        ("space=nowhere", "nowhere"),
        ("data=cifar11", "cifar11"),
        ("training.strategy=shrink", "shrink"),
        ("data=imagefolder:/does/not/exist", "/does/not/exist"),
        ("epochs", "key=value"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(
    run: Path, nassearch: CommandLine, tmp_path: Path, change: str, says: str
) -> None:
    out = tmp_path / "out"
    arguments = ["train-supernet", "--recipe", "recipe.yaml", "--out", out, "--set", change]
    assert says in refused(nassearch, *arguments)
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_refused(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    line = refused(nassearch, "train-supernet", "--recipe", "recipe.yaml", "--out", occupied)
    assert str(occupied) in line


def test_a_folder_of_damaged_images_is_refused_before_anything_is_written(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    for place in ("train/a", "train/b", "test/a"):
        (images / place).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), number).save(images / place / f"{number}.png")
    damaged = images / "train" / "a" / "3.png"
    damaged.write_bytes(b"no image")
    out = tmp_path / "out"
    arguments = ["train-supernet", "--out", out, "--set", f"data=imagefolder:{images}"]
    line = refused(nassearch, *arguments)
    assert f"1 of 40 images are damaged, the first {damaged}" in line
    assert not out.exists()


def test_a_truncated_checkpoint_is_refused(copy: Path, nassearch: CommandLine) -> None:
    for path in (copy / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="damaged"):
        line = refused(nassearch, "search", "--supernet", copy, "--device", "box")
    assert "checkpoint" in line


def _spoil(axes: list[dict[str, object]], *, key: str) -> list[dict[str, object]]:
    return [{name: value for name, value in axis.items() if name != key} for axis in axes]


@pytest.mark.parametrize(
    "key", ["direction", "kind", "space", "beliefs", "renamed", "device", "ms", "budgets"]
)
def test_a_damaged_search_is_one_line_that_names_the_file(
    copy: Path, nassearch: CommandLine, key: str
) -> None:
    (path,) = (copy / "search").glob("*/search.json")
    content = json.loads(path.read_text())
    if key == "space":
        del content["space"]
    elif key == "renamed":
        content["axes"][0]["kind"] = "x:y:z"
    elif key == "budgets":
        content["budgets"] = {"latency": "5"}
    elif key == "device":
        content["axes"][1]["setting"] = {"device": "", "precisionx": "fp32"}
    elif key == "ms":
        path = path.with_name("latency.json")
        content = json.loads(path.read_text())
        next(iter(content["settings"][0]["blocks"].values()))["ms"] = float("inf")
    elif key != "beliefs":
        content["axes"] = _spoil(content["axes"], key=key)
    else:
        path = path.with_name("conclusion.json")
        content = {"remark": None, "beliefs": {"9dd56686": {"accuracy": {"mean": "high"}}}}
    path.write_text(json.dumps(content))
    assert str(path) in refused(nassearch, "report", copy)


def test_a_name_too_long_for_a_file_is_one_line(nassearch: CommandLine) -> None:
    assert "too long" in refused(nassearch, "describe", 300 * "a")


def test_lines_that_are_damaged_are_left_out_of_a_report(
    copy: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    (journal,) = (copy / "search").glob("*/candidates.jsonl")
    lines = journal.read_bytes().splitlines()
    record = json.loads(lines[1])
    del record["values"]["latency"]
    lines[1] = json.dumps(record).encode()
    (pick, *_) = json.loads((copy / "search" / "picks.json").read_text())["picks"]
    picked = Architecture.from_dict(pick["architecture"]).id
    kept = [line for line in lines if picked.encode() not in line]
    assert len(kept) < len(lines)
    journal.write_bytes(b"\n".join(kept) + b"\n")
    with (copy / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"loss": 2.0}\n{"epoch": 3, "loss": "low"}\n')
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(b"\x93 no text\n[1]\n" + content)
    answer = nassearch("report", copy, "--out", tmp_path / "page.html")
    assert answer.code == 0, answer.err


def test_a_table_of_host_from_another_machine_is_refused(
    copy: Path, nassearch: CommandLine
) -> None:
    table = copy / "latency_tables" / "host" / "onnxruntime-fp32-b1-t1.csv"
    table.parent.mkdir(parents=True)
    text = Path("latency_tables/box/fake-fp32-b1-t1.csv").read_text()
    text = text.replace("# device: box", "# device: host")
    text = text.replace("# runtime: fake", "# runtime: onnxruntime")
    text = text.replace("#   vendor: ", "#   vendor: Other")
    lines = [line for line in text.splitlines() if not line.startswith("# host:")]
    table.write_text("# host: Some Other CPU\n" + "\n".join(lines) + "\n")
    line = refused(nassearch, "search", "--supernet", copy, "--device", "host")
    assert "another machine" in line


def test_help_and_debug_work_without_a_run(nassearch: CommandLine) -> None:
    assert "train-supernet" in nassearch("--help").out
    answer = nassearch("search", "--device", "nobody", "--debug")
    assert answer.code == 2
    assert "Traceback" in answer.err


@pytest.mark.parametrize(
    ("command", "setting", "says"),
    [
        ("train-supernet", "training.lr=fast", "training.lr: does not fit (got 'fast')"),
        ("train-supernet", "training.lrr=1", "unknown key 'training.lrr', did you mean"),
        ("train-supernet", "seed.lr=1", "'seed.lr' is not a key of the recipe"),
        ("train-supernet", "training={epochs: 0}", "training.epochs: does not fit (got 0)"),
        ("train-supernet", "training.grow_until=2", "training.grow_until: "),
        ("finetune export --epochs 1", "batch_size=0", "batch_size: does not fit (got 0)"),
        ("finetune export --epochs 1", "epoch=3", "unknown key 'epoch'"),
        ("search --device box", "populationn=3", "unknown key 'populationn'"),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_no_file(
    run: Path, nassearch: CommandLine, tmp_path: Path, command: str, setting: str, says: str
) -> None:
    name, *arguments = command.split()
    if name == "finetune":
        answer = nassearch("export", run, "--pick", "knee", "--out", tmp_path, "--json")
        arguments[0] = answer.json()["exports"][0]
    if name == "search":
        arguments += ["--out", str(tmp_path)]
    if name == "train-supernet":
        arguments += ["--set", "name=ok"]
    line = refused(nassearch, name, *arguments, "--set", setting)
    assert line.startswith(f"nassearch: --set {setting}: {says}")


def test_what_the_file_has_wrong_still_names_the_file(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("{name: x, space: digits_tiny, data: digits, training: {lr: fast}}")
    command = ("train-supernet", "--recipe", path, "--set", "training.epochs=1")
    assert refused(nassearch, *command).startswith(f"nassearch: {path}: training.lr: does not fit")


def test_evaluations_that_are_damaged_are_made_again(copy: Path) -> None:
    path = copy / "evaluations.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    space, supernet = SearchSpace.load("digits_tiny"), records[0]["supernet"]
    known = EvaluationCache(copy, supernet, space)
    records[0]["genes"] = [float("inf")]
    records[1]["objective"] = []
    path.write_text("\n".join(map(json.dumps, records)))
    left = [name for name, *_ in EvaluationCache(copy, supernet, space)._known]
    assert left.count("accuracy") == len(known._known) - 2
