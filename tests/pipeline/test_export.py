"""Exports of a real run: every format is the network, runs elsewhere, and is guarded."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from onnx import TensorProto, helper

import nassearch as package
from nassearch.data.loading import load_data
from nassearch.export import FORMATS
from nassearch.export.export_config import sha256
from nassearch.export.format import Batch, make_format
from nassearch.export.verification import TOLERANCE
from nassearch.training.evaluation import measure_accuracy
from tests.pipeline.conftest import CommandLine
from tests.pipeline.test_bad_input import refused

ALL = ("config", *FORMATS)


def export_knee(workplace: Path, out: Path, batch: Batch) -> Path:
    run = workplace / "runs" / "tiny"
    (exported,) = package.export_subnets(run, pick="knee", formats=ALL, batch=batch, out=out)
    return exported.directory


@pytest.fixture(scope="session")
def exported(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The knee of the run's front in every format, graphs for any number of images."""
    return export_knee(workplace, tmp_path_factory.mktemp("dynamic"), "dynamic")


@pytest.fixture(scope="session")
def single(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for one image."""
    return export_knee(workplace, tmp_path_factory.mktemp("single"), 1)


@pytest.fixture
def copy(single: Path, tmp_path: Path) -> Path:
    """The export once more, to be damaged."""
    return Path(shutil.copytree(single, tmp_path / single.name))


def facts(export: Path) -> Any:
    return yaml.safe_load((export / "config.yaml").read_text())


def put(export: Path, name: str, content: bytes) -> None:
    """Replace a file of an export and vouch for it, as only a program can."""
    (export / name).write_bytes(content)
    changed = facts(export)
    changed["files"][name] = sha256(export / name)
    (export / "config.yaml").write_text(yaml.safe_dump(changed))


def without(export: Path, *names: str) -> None:
    """Forget some formats of an export."""
    changed = facts(export)
    for name in names:
        del changed["files"][changed["formats"].pop(name)["file"]]
    (export / "config.yaml").write_text(yaml.safe_dump(changed))


def images(count: int) -> torch.Tensor:
    data = load_data("digits")
    return data.normalise(data.val.images[:count])


@pytest.mark.parametrize("name", [name for name in FORMATS if make_format(name).exact])
def test_a_format_gives_the_networks_logits(exported: Path, single: Path, name: str) -> None:
    batch = images(5)
    one = make_format(name)
    for export in (exported, single):
        with torch.inference_mode():
            expected = package.load(export)(batch)
            found = one.open(export / one.file_name)(batch)
        assert float((found - expected).abs().max()) <= TOLERANCE


def test_the_graph_is_valid_folded_and_says_what_it_takes(exported: Path, single: Path) -> None:
    for export, batch in ((exported, "dynamic"), (single, 1)):
        graph = onnx.load(export / "model.onnx")
        onnx.checker.check_model(graph, full_check=True)
        assert not [node for node in graph.graph.node if node.op_type == "BatchNormalization"]
        said = facts(export)["formats"]["onnx"]
        assert said["opset"] == {"ai.onnx": graph.opset_import[0].version}
        assert said["ir_version"] == graph.ir_version
        size = graph.graph.input[0].type.tensor_type.shape.dim[0]
        assert (size.dim_value or "dynamic") == said["batch"] == batch


def test_int8_has_signed_weights_by_channel_and_unsigned_activations(exported: Path) -> None:
    graph = onnx.load(exported / "model-int8.onnx").graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert layers
    for layer in layers:
        activation, weight = (made[name] for name in layer.input[:2])
        assert tensors[activation.input[2]].data_type == TensorProto.UINT8
        assert tensors[weight.input[0]].data_type == TensorProto.INT8
        assert tensors[weight.input[1]].dims == [tensors[weight.input[0]].dims[0]]


def test_int8_loses_no_more_accuracy_than_it_may(exported: Path) -> None:
    said = facts(exported)["formats"]["int8"]
    assert said["calibration_images"] == 256
    assert said["split"] == "val"
    assert said["accuracy_loss"] <= said["max_accuracy_loss"] == 0.01
    data = load_data("digits")
    whole, int8 = (
        measure_accuracy(network, data.val, data, split="val", resolution=8).value
        for network in (
            package.load(exported),
            make_format("int8").open(exported / "model-int8.onnx"),
        )
    )
    assert whole - int8 == pytest.approx(said["accuracy_loss"])


def test_the_cards_lines_run_where_it_lies(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported)
    card = Path("README.md").read_text()
    photo, *blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert 'Image.open("photo.jpg")' in photo
    assert len(blocks) == len(FORMATS)
    for block in blocks:
        assert len(block.strip().splitlines()) == 3
        given = images(1)
        names: dict[str, Any] = {"images": given.numpy() if "onnxruntime" in block else given}
        exec(block, names)
        assert names["logits"].shape == (1, 10)


def test_a_config_alone_rebuilds_the_network(exported: Path) -> None:
    loaded = package.load(exported)
    for source in (exported / "config.yaml", facts(exported)):
        fresh = package.Subnet.from_config(source)
        assert fresh.specs == loaded.specs
        fresh.load_state_dict(loaded.state_dict())


# -- elsewhere -------------------------------------------------------------------------------------

WITHOUT = """
import sys
for name in {missing!r}: sys.modules[name] = None
images = {images}
{lines}
print([float(value) for value in logits.flatten()])
"""


def elsewhere(export: Path, name: str, python: str = sys.executable) -> np.ndarray:
    """The logits of a black image, from the card's lines in another process."""
    torch_alone = name == "pt2"
    shape = package.load(export).input_shape
    script = WITHOUT.format(
        missing=["nassearch", "onnxruntime"] if torch_alone else ["nassearch", "torch"],
        images=f"__import__({'torch' if torch_alone else 'numpy'!r}).zeros({(1, *shape)})"
        + ("" if torch_alone else ".astype('float32')"),
        lines="\n".join(make_format(name).snippet()),
    )
    done = subprocess.run(
        [python, "-c", script], cwd=export, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout))


def here(export: Path, name: str) -> np.ndarray:
    one = make_format(name)
    black = torch.zeros(1, *package.load(export).input_shape)
    with torch.inference_mode():
        return one.open(export / one.file_name)(black).numpy().ravel()


@pytest.mark.parametrize("name", ["onnx", "int8", "pt2"])
def test_it_runs_without_the_package_that_wrote_it(exported: Path, name: str) -> None:
    np.testing.assert_allclose(elsewhere(exported, name), here(exported, name), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package_name", "names"), [("onnxruntime", ("onnx", "int8")), ("torch", ("pt2",))]
)
def test_it_runs_in_a_fresh_environment_of_one_package(
    exported: Path, tmp_path: Path, package_name: str, names: tuple[str, ...]
) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    version = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__.split("+")[0]}
    wanted = f"{package_name}=={version[package_name]}"
    pip = [tmp_path / "venv/bin/pip", "install", "--quiet", wanted]
    if subprocess.run(pip, check=False).returncode:
        pytest.skip(f"no package registry to install {wanted} from")
    for name in names:
        found = elsewhere(exported, name, str(tmp_path / "venv/bin/python"))
        np.testing.assert_allclose(found, here(exported, name), atol=1e-5)


# -- verify ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("with_memory")
def test_verify_measures_every_format(copy: Path, nassearch: CommandLine) -> None:
    answer = nassearch("verify", copy, "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    assert found == json.loads((copy / "verify.json").read_text())
    assert set(found["test_accuracy"]) == set(found["formats"]) == set(FORMATS)
    for name, row in found["formats"].items():
        assert row["size_bytes"] == (copy / row["file"]).stat().st_size
        assert row["latency_ms"] > 0
        assert row["exact"] == (name != "int8")
    assert found["largest_difference"] <= TOLERANCE < found["formats"]["int8"]["largest_difference"]
    memory = found["formats"]["onnx"]["peak_memory_bytes"]
    assert memory is None or memory > found["formats"]["onnx"]["size_bytes"]
    assert found["broken"] == []


def test_formats_that_disagree_break_a_promise(copy: Path, nassearch: CommandLine) -> None:
    without(copy, "pt2", "int8")
    graph = onnx.load(copy / "model.onnx")
    last = graph.graph.initializer[-1]
    changed = onnx.numpy_helper.to_array(last) + 0.01
    last.CopyFrom(onnx.numpy_helper.from_array(changed.astype(np.float32), last.name))
    put(copy, "model.onnx", graph.SerializeToString())
    answer = nassearch("verify", copy)
    assert answer.code == 3
    assert "outputs of onnx differ by" in answer.err


def test_an_accuracy_below_the_recorded_one_breaks_a_promise(
    copy: Path, nassearch: CommandLine
) -> None:
    without(copy, "weights", "pt2", "int8")
    changed = facts(copy)
    changed["accuracy"] |= {"value": 0.9999, "low": 0.9998, "high": 1.0}
    (copy / "config.yaml").write_text(yaml.safe_dump(changed))
    answer = nassearch("verify", copy)
    assert answer.code == 3
    assert "lies below the recorded 99.99%" in answer.err


# -- bad input -------------------------------------------------------------------------------------


def test_other_formats_join_an_export_of_the_same_network(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    for formats in ("config,weights", "pt2"):
        answer = nassearch("export", "--pick", "knee", "--format", formats, "--out", tmp_path)
        assert answer.code == 0, answer.err
    (directory,) = tmp_path.iterdir()
    assert set(facts(directory)["files"]) == {"model.safetensors", "model.pt2"}
    package.load(directory)


@pytest.mark.parametrize("fingerprint", ["0123456789ab", None])
def test_another_export_is_replaced_only_by_force(
    run: Path, copy: Path, nassearch: CommandLine, fingerprint: str | None
) -> None:
    """Version 0.2 did not say the fingerprint of its supernet's weights."""
    changed = facts(copy)
    changed["accuracy"] |= {"supernet": "another training", "fingerprint": fingerprint}
    (copy / "config.yaml").write_text(yaml.safe_dump(changed))
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    command = ("export", "--pick", "knee", "--format", "config,weights", "--out", copy.parent)
    line = refused(nassearch, *command)
    assert "already holds another export" in line
    assert "--force" in line
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert nassearch(*command, "--force").code == 0
    assert {path.name for path in copy.iterdir()} == {
        "config.yaml",
        "model.safetensors",
        "README.md",
    }


def test_what_a_killed_export_left_is_in_nobodys_way(
    run: Path, copy: Path, nassearch: CommandLine
) -> None:
    (copy / "config.yaml").rename(copy / ".config.yaml.xru832ol.tmp")
    command = ("export", "--pick", "knee", "--format", "config,weights", "--out", copy.parent)
    for _ in range(2):  # before the config is there, and where it is
        answer = nassearch(*command)
        assert answer.code == 0, answer.err
        assert not list(copy.glob("*.tmp"))
        (copy / ".README.md.a1b2c3d4.tmp").write_text("half")


def test_a_renamed_run_exports_to_where_it_did(
    run: Path, copy: Path, nassearch: CommandLine
) -> None:
    changed = facts(copy)
    changed["accuracy"]["supernet"] = "another name step 12"
    (copy / "config.yaml").write_text(yaml.safe_dump(changed))
    command = ("export", "--pick", "knee", "--format", "config,weights", "--out", copy.parent)
    answer = nassearch(*command)
    assert answer.code == 0, answer.err
    assert facts(copy)["accuracy"]["supernet"] != "another name step 12"


def test_a_folder_of_something_else_is_refused(
    run: Path, copy: Path, nassearch: CommandLine
) -> None:
    shutil.rmtree(copy)
    copy.mkdir()
    (copy / "thesis.tex").write_text("")
    line = refused(nassearch, "export", "--pick", "knee", "--out", copy.parent)
    assert "thesis.tex" in line
    assert [path.name for path in copy.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.onnx", "model.pt2", "model-int8.onnx"]
)
def test_a_changed_byte_is_named_with_both_hashes(
    copy: Path, nassearch: CommandLine, name: str
) -> None:
    before = sha256(copy / name)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    line = refused(nassearch, "verify", copy)
    assert f"{name}: was changed" in line
    assert before[:12] in line
    assert sha256(copy / name)[:12] in line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 1}, "has schema 1, this version reads 2"),
        ({"fingerprint": "0" * 16}, "its space was changed"),
        ({"id": "0" * 8}, "its architecture was changed"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_another_schema_or_a_changed_config_is_refused(
    copy: Path, nassearch: CommandLine, change: dict[str, Any], says: str
) -> None:
    (copy / "config.yaml").write_text(yaml.safe_dump(facts(copy) | change))
    assert says in refused(nassearch, "describe", copy)


def test_weights_of_another_network_are_refused(copy: Path, nassearch: CommandLine) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 4)
    save_file({**tensors, name: tensors[name][:1].clone()}, copy / "other")
    put(copy, "model.safetensors", (copy / "other").read_bytes())
    line = refused(nassearch, "verify", copy)
    assert "the weights do not fit the config" in line
    assert name in line


def test_an_operator_the_runtime_lacks_is_named(copy: Path, nassearch: CommandLine) -> None:
    graph = onnx.load(copy / "model.onnx")
    graph.graph.node[0].op_type = "Konv"
    graph.graph.node[0].domain = "org.example"
    graph.opset_import.append(helper.make_opsetid("org.example", 1))
    put(copy, "model.onnx", graph.SerializeToString())
    line = refused(nassearch, "verify", copy)
    assert "model.onnx" in line
    assert "org.example:Konv" in line


class Mischief:
    """What unpickling it does is write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "unpickled")


def test_no_file_names_a_place_on_the_machine_that_wrote_it(
    exported: Path, workplace: Path
) -> None:
    # an archive of torch.export is not compressed: its texts can be searched as they are
    places = [workplace, *(Path(each.__file__).parents[1] for each in (package, torch))]
    for file in exported.iterdir():
        content = file.read_bytes()
        assert not any(str(place).encode() in content for place in places), file.name


@pytest.mark.parametrize("place", ["sample_inputs/model.pt", "constants/opaque_obj_0"])
def test_a_pt2_file_is_never_unpickled(
    copy: Path, tmp_path: Path, nassearch: CommandLine, place: str
) -> None:
    mischief, target = tmp_path / "mischief", copy / "changed.pt2"
    torch.save(Mischief(mischief), copy / "payload")
    payload = pickle.dumps(Mischief(mischief))
    if place.startswith("sample"):
        payload = (copy / "payload").read_bytes()
    config = json.dumps({"config": {"x": {"path_name": "opaque_obj_0", "is_param": False}}})
    with ZipFile(copy / "model.pt2") as old, ZipFile(target, "w") as new:
        for name in old.namelist():
            content: bytes | str = old.read(name)
            if name.endswith(place):
                content = payload
            elif place.startswith("constants") and name.endswith("constants_config.json"):
                content = config
                new.writestr(name.replace("model_constants_config.json", "opaque_obj_0"), payload)
            new.writestr(name, content)
    put(copy, "model.pt2", target.read_bytes())
    assert "model.pt2" in refused(nassearch, "verify", copy)
    assert not mischief.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--batch", "many"), "8 or dynamic"),
        (("--batch", "0"), "8 or dynamic"),
        (("--format", "onxx"), "did you mean onnx?"),
        (("--format", "int9"), "known: weights, onnx, pt2, int8"),
    ],
)
def test_what_no_format_takes_is_refused(
    run: Path, nassearch: CommandLine, arguments: tuple[str, ...], says: str
) -> None:
    assert says in refused(nassearch, "export", *arguments)


def test_an_op_onnx_lacks_is_refused_in_one_line(tmp_path: Path) -> None:
    from nassearch.errors import ExportError
    from nassearch.networks.onnx_graph import to_onnx

    class Odd(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(images)

    with pytest.raises(ExportError, match="bessel_j0") as caught:
        to_onnx(Odd(), (1, 8, 8))
    assert "\n" not in str(caught.value)
