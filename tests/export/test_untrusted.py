"""Exports from strangers: nothing is run, nothing read or written elsewhere, memory is bounded."""

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import onnx
import pytest
import yaml

import nassearch
from nassearch.data.dataset import Data
from nassearch.errors import CheckpointError, ConfigError, NassearchError, RuntimeUnavailableError
from nassearch.export.export_config import read_export
from nassearch.export.memory import measure_peak_memory
from nassearch.export.verify import verify
from tests.export.conftest import WriteExport, change, claim, vouch_for

SECRET = "the secret of another directory"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    return path


def refused(export: Path, digits: Data, **options: Any) -> str:
    with pytest.raises(NassearchError) as caught:
        verify(export, data=digits, seconds=0.05, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert SECRET not in line
    return line


@pytest.mark.parametrize("place", ["../secret.txt", "below/../../secret.txt", "{outside}"])
def test_files_lie_inside_the_export(
    write: WriteExport, digits: Data, outside: Path, place: str
) -> None:
    export, name = write(), place.format(outside=outside)
    change(export, files={name: "0" * 64})
    assert "which lies outside it" in refused(export, digits)


@pytest.mark.parametrize("name", ["model.onnx", "config.yaml"])
def test_links_out_of_the_export_are_not_followed(
    write: WriteExport, digits: Data, outside: Path, name: str
) -> None:
    export = write()
    (export / name).unlink()
    (export / name).symlink_to(outside)
    assert "which lies outside it" in refused(export, digits)


@pytest.mark.parametrize("classes", [None, []])
def test_images_that_code_makes_are_not_made(
    write: WriteExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: list[str] | None
) -> None:
    """Neither of a network that tells classes apart, nor of one for other targets."""
    (tmp_path / "stranger.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    export = write()
    said = yaml.safe_load((export / "config.yaml").read_text())["data"]
    names = said["class_names"] if classes is None else classes
    change(export, data={**said, "spec": "stranger:make", "class_names": names})
    if classes is None:
        with pytest.raises(NassearchError, match="made by code, stranger:make"):
            verify(export, seconds=0.05)
    else:
        assert verify(export, seconds=0.05).unmeasured is not None
    assert not (tmp_path / "ran").exists()


def test_what_is_written_replaces_links(write: WriteExport, digits: Data, outside: Path) -> None:
    export = write()
    (export / "verify.json").symlink_to(outside)
    verify(export, data=digits, seconds=0.05)
    assert outside.read_text() == SECRET


def test_a_file_without_a_hash_is_not_opened(write: WriteExport, digits: Data) -> None:
    export = write()
    change(export, files={})
    assert "no hash of model.onnx" in refused(export, digits)


def test_external_data_of_onnx_is_not_read(write: WriteExport, digits: Data, outside: Path) -> None:
    export = write()
    graph = onnx.load(export / "model.onnx")
    tensor = next(item for item in graph.graph.initializer if len(item.raw_data) > 16)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.txt"
    (export / "model.onnx").write_bytes(graph.SerializeToString())
    vouch_for(export, "model.onnx")
    assert "its tensors lie in other files" in refused(export, digits)


def header(content: dict[str, Any] | bytes, *, length: int | None = None) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


TENSOR = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}


@pytest.mark.parametrize(
    "content",
    [
        header({}, length=2**60),
        header({"blocks.0.body.conv.weight": TENSOR}),
        header({"x": TENSOR | {"shape": [2**40, 2**40]}}),
        header({"x": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 0]}}),
        header(b"[" * 100_000),
        b"",
    ],
)
def test_gigantic_tensor_headers_allocate_nothing(write: WriteExport, content: bytes) -> None:
    export = write(formats=("weights",))
    (export / "model.safetensors").write_bytes(content)
    vouch_for(export, "model.safetensors")
    with pytest.raises(CheckpointError, match="the weights do not fit the config"):
        nassearch.load(export)


def space_of(export: Path) -> dict[str, Any]:
    content = yaml.safe_load((export / "config.yaml").read_text())
    space: dict[str, Any] = content["space"]
    return space


def test_a_network_larger_than_memory_is_not_built(
    write: WriteExport, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nassearch.networks.cost.free_bytes", lambda: 64)
    assert "B are free" in refused(write(), digits)


@pytest.mark.parametrize("depth", [10**9, 10**18])
def test_a_stage_without_end_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match="depth"):
        nassearch.SearchSpace.from_dict(
            {
                "name": "endless",
                "resolution": 8,
                "stages": [{"op": "conv", "width": 8, "depth": depth, "kernel_size": 3}],
            }
        )


def test_aliases_of_a_config_are_bounded(write: WriteExport, digits: Data) -> None:
    export = write()
    bomb = "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(9)
    )
    (export / "config.yaml").write_text(bomb)
    assert "holds more than" in refused(export, digits)


@pytest.mark.parametrize("part", ["op", "runtime", "format"])
@pytest.mark.parametrize("target", ["evil:Attack", "os:abort", "posix:system", "antigravity:x"])
def test_names_in_an_export_run_nothing(
    write: WriteExport,
    digits: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    target: str,
) -> None:
    export, proof = write([claim()]), tmp_path / "proof"
    (export / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Attack: pass\n")
    monkeypatch.chdir(export)
    content = yaml.safe_load((export / "config.yaml").read_text())
    if part == "runtime":
        change(export, latency=[{**content["latency"][0], "runtime": target}])
    elif part == "format":
        change(export, formats={target: {"file": "model.onnx"}})
    else:
        for stage in (*content["space"]["stages"], *content["architecture"]["stages"]):
            for item in stage.get("blocks", [stage]):
                item["op"] = target
        space = nassearch.SearchSpace.from_dict(content["space"])
        architecture = nassearch.Architecture.from_dict(content["architecture"])
        content |= {"fingerprint": space.fingerprint, "id": architecture.id}
        (export / "config.yaml").write_text(yaml.safe_dump(content))
    refused(export, digits)
    assert not proof.exists()


def test_modules_beside_the_files_are_not_imported(write: WriteExport, tmp_path: Path) -> None:
    export, proof = write(), tmp_path / "proof"
    for name in ("json", "numpy", "onnxruntime", "importlib"):
        (export / f"{name}.py").write_text(f"open({str(proof)!r}, 'w')\n")
    measure_peak_memory(export, imports=("numpy",), lines=("x = images + 1",), shape=(1, 2))
    assert not proof.exists()


Rewrite = Callable[[dict[str, Any], str], None]


def guards(model: dict[str, Any], attack: str) -> None:
    model["guards_code"] = [attack]


def operator(model: dict[str, Any], attack: str) -> None:
    node = model["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.os.system"
    node["inputs"] = [{"name": "", "arg": {"as_string": attack}, "kind": 1}]


def file_operator(model: dict[str, Any], attack: str) -> None:
    node = model["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.ops.aten.from_file.default"


def symbol(model: dict[str, Any], attack: str) -> None:
    values = model["graph_module"]["graph"]["tensor_values"]
    next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": attack, "hint": None}}


def argument(model: dict[str, Any], attack: str) -> None:
    values = model["graph_module"]["graph"]["tensor_values"]
    values[f"x=({attack})"] = next(iter(values.values()))


@pytest.mark.parametrize("rewrite", [guards, operator, file_operator, symbol, argument])
def test_a_program_of_torch_runs_no_code(
    write: WriteExport, digits: Data, tmp_path: Path, rewrite: Rewrite
) -> None:
    export, proof = write(formats=("pt2",)), tmp_path / "proof"

    def change_model(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        model = json.loads(content)
        rewrite(model, f"__import__('pathlib').Path({str(proof)!r}).touch()")
        return json.dumps(model).encode()

    rewrite_archive(export, change_model)
    assert "model.pt2: holds" in refused(export, digits)
    assert not proof.exists()


def rewrite_archive(
    export: Path,
    change_entry: Callable[[str, bytes], bytes] = lambda name, content: content,
    *,
    more: dict[str, bytes] | None = None,
    compression: int = ZIP_STORED,
) -> None:
    old = ZipFile(export / "model.pt2")
    entries = {name: change_entry(name, old.read(name)) for name in old.namelist()}
    with warnings.catch_warnings(), ZipFile(export / "model.pt2", "w", compression) as new:
        for name, content in (entries | (more or {})).items():
            new.writestr(name, content)
    vouch_for(export, "model.pt2")


def test_an_archive_that_would_unfold_or_holds_libraries_is_refused(
    write: WriteExport, digits: Data
) -> None:
    export = write(formats=("pt2",))
    assert verify(export, data=digits, seconds=0.05).broken == []
    rewrite_archive(export, compression=ZIP_DEFLATED)
    assert "the compressed file" in refused(export, digits)
    export = write(formats=("pt2",))
    library = {"model/data/aotinductor/model/model.so": b"\x7fELF"}
    rewrite_archive(export, more=library)
    assert "aotinductor" in refused(export, digits)


def test_what_cannot_be_read_is_refused_without_its_content(
    write: WriteExport, digits: Data
) -> None:
    export = write()
    (export / "model.onnx").write_bytes(b"\xff" * 100)
    vouch_for(export, "model.onnx")
    with pytest.raises((CheckpointError, RuntimeUnavailableError)):
        verify(export, data=digits, seconds=0.05)
    read_export(export)


def test_unknown_keys_say_which(write: WriteExport) -> None:
    export = write()
    change(export, colour="red")
    with pytest.raises(ConfigError, match="colour"):
        read_export(export)
