"""Files that are no known supernet are refused, saying what they are instead."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nassearch.errors import CheckpointError, SpaceError
from nassearch.networks.published.recognition import load_into_space, recognise
from nassearch.networks.published.tensor_file import TensorFile, read_tensors
from nassearch.space import SearchSpace
from tests.networks.published import ofa_package as theirs

HERE = Path("some.pth")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return dict(theirs.build("ofa_mbv3_w10").state_dict())


def _refusal(tensors: dict[str, Tensor]) -> str:
    with pytest.raises(CheckpointError) as refused:
        recognise(TensorFile(HERE, tensors))
    return str(refused.value)


def test_another_network_is_told_the_nearest_format_and_what_differs(
    tensors: dict[str, Tensor],
) -> None:
    changed = {**tensors, "classifier.linear.weight": torch.zeros(1000, 999)}
    del changed["first_conv.conv.weight"]
    text = _refusal(changed)
    assert "the nearest is once-for-all MobileNetV3 w1.0" in text
    assert "head.head.classifier.weight is 1000x999, not 1000x1280" in text
    assert "stem.conv.body.conv.weight is missing" in text
    assert "docs/pretrained.md" in text
    text = _refusal({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)})  # torchvision's ResNet
    assert "and" in text and "more" in text


@pytest.mark.parametrize("multiplier", [0.75, 1.1])
def test_another_width_multiplier_is_named(multiplier: float) -> None:
    network = theirs.build(str(multiplier))
    text = _refusal(dict(network.state_dict()))
    assert f"at the width multiplier {multiplier:g}" in text
    assert "once-for-all MobileNetV3 w1.2" in text  # among those that are known


def test_a_space_of_other_networks_is_refused(tensors: dict[str, Tensor]) -> None:
    found = recognise(TensorFile(HERE, tensors))
    for other in ("mobilenet_v3_w12", "digits_tiny", "mobilenet_v3_paper"):
        with pytest.raises(SpaceError, match="other networks than the file, which is once-for-all"):
            load_into_space(found, SearchSpace.load(other), where=HERE)
    few = {**SearchSpace.load("mobilenet_v3").to_dict(), "resolution": [96, 224], "name": "few"}
    assert load_into_space(found, SearchSpace.from_dict(few), where=HERE).space.name == "few"


def test_an_epsilon_that_the_file_s_network_does_not_have_is_refused() -> None:
    found = recognise(TensorFile(HERE, dict(theirs.build("ofa_proxyless_w13").state_dict())))
    with pytest.raises(SpaceError, match="ofa_proxyless_w13"):
        load_into_space(found, SearchSpace.load("proxyless"), where=HERE)


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch executed",))


def _files(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    for zipped in (True, False):  # torch's form since 1.6, and the one before
        kind = "zip" if zipped else "legacy"
        code, whole, cut = (tmp_path / f"{kind}-{name}.pth" for name in ("code", "whole", "cut"))
        torch.save({"state_dict": {"a": Runs()}}, code, _use_new_zipfile_serialization=zipped)
        yield code, "system' would have to be run"
        torch.save({"a": torch.zeros(999)}, whole, _use_new_zipfile_serialization=zipped)
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        yield cut, "is cut short, or no file that torch saved"
    for name, content in (("text.pth", b"a page of html"), ("empty.pth", b"")):
        (tmp_path / name).write_bytes(content)
        yield tmp_path / name, "is cut short, or no file that torch saved"
    yield tmp_path / "nowhere.pth", "there is no such file"
    save_file({"a": torch.zeros(999)}, tmp_path / "whole.safetensors")
    half = (tmp_path / "whole.safetensors").read_bytes()[:2000]
    (tmp_path / "cut.safetensors").write_bytes(half)
    yield tmp_path / "cut.safetensors", "is cut short or no safetensors file"
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "none.pth")
    yield tmp_path / "none.pth", "holds no state dict of tensors"
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    yield tmp_path / "list.pth", "holds no state dict of tensors"
    with ZipFile(tmp_path / "packed.pth", "w", ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10_000)
    yield tmp_path / "packed.pth", "holds the compressed file"


def test_what_holds_no_tensors_is_refused_and_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path, said in _files(tmp_path):
        with pytest.raises(CheckpointError) as refused:
            read_tensors(path)
        assert said in str(refused.value), path.name
        assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "executed").exists()
