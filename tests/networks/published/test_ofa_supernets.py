"""Imported supernets compute what once-for-all's own classes compute (package `ofa`)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nassearch import config
from nassearch.networks import Supernet
from nassearch.networks.published import PUBLISHED
from nassearch.networks.published.recognition import load_into_space, recognise
from nassearch.networks.published.tensor_file import TensorFile, read_tensors
from nassearch.space import SearchSpace
from tests.networks.published import ofa_package as theirs

NAMES = list(theirs.TENSORS)
HERE = Path("ofa.pth")


def _imported(name: str, tensors: dict[str, torch.Tensor]) -> Supernet:
    found = recognise(TensorFile(HERE, tensors))
    assert found.name == name
    assert len(found.tensors) == len(tensors) == theirs.TENSORS[name]
    assert found.left_out == ()
    return load_into_space(found, found.published.space(num_classes=1000), where=HERE)


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_supernet_computes_what_theirs_does(name: str) -> None:
    original = theirs.build(name)
    ours = _imported(name, original.state_dict())
    space = ours.space
    params = [sum(p.numel() for p in net.parameters()) for net in (original, ours)]
    assert params[0] == params[1]
    few = theirs.subnets(space, 2, seed=3)
    found = theirs.compare(original, ours, few, [64], in_onnx=1)
    assert max(found.supernet, found.extracted) < 1e-5
    assert found.onnx < 1e-4
    found = theirs.compare(original.double(), ours.double(), few, [40])
    assert max(found.supernet, found.extracted) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_hundred_subnets_at_five_resolutions(name: str) -> None:
    """What experiments/pretrained/equality.py prints, in full."""
    original = theirs.build(name, seed=1)
    found = recognise(TensorFile(HERE, original.state_dict()))
    ours = load_into_space(found, SearchSpace.load(name), where=HERE)
    many = theirs.subnets(ours.space, 200, seed=4)
    resolutions = [128, 160, 192, 208, 224]
    single = theirs.compare(original, ours, many, resolutions, in_onnx=10)
    assert max(single.supernet, single.extracted) < 1e-5
    assert single.onnx < 1e-4
    double = theirs.compare(original.double(), ours.double(), many, resolutions)
    assert max(double.supernet, double.extracted) < 1e-10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spelling", ["single", "mobile_inverted_conv"])
def test_every_spelling_of_a_key_is_taken(name: str, spelling: str) -> None:
    keys = dict(theirs.build(name).state_dict())
    rename = config.resolve(PUBLISHED, name, kind="published supernet").rename
    given = [next(iter(theirs.respelled({key: keys[key]}, spelling))) for key in keys]
    assert [rename(key) for key in given] == [rename(key) for key in keys]
    assert len(set(map(rename, keys))) == theirs.TENSORS[name]
    is_other = name != "ofa_resnet50" or spelling == "single"  # ResNet's blocks have no such part
    assert (given != list(keys)) == is_other


def test_a_state_dict_may_lie_in_a_mapping_wrapped_or_in_safetensors(tmp_path: Path) -> None:
    tensors = dict(theirs.build("ofa_mbv3_w10").state_dict())
    plain = recognise(TensorFile(HERE, tensors))
    wrapped = {f"module.{key}": tensor for key, tensor in tensors.items()}
    torch.save({"state_dict": wrapped, "epoch": 7}, tmp_path / "new.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(contiguous, tmp_path / "ofa.safetensors")
    for file, left_out in (("new.pth", ("epoch",)), ("old.pth", ()), ("ofa.safetensors", ())):
        found = recognise(read_tensors(tmp_path / file))
        assert found.left_out == left_out
        assert found.tensors.keys() == plain.tensors.keys()
        assert all(torch.equal(found.tensors[key], plain.tensors[key]) for key in plain.tensors)


def test_what_is_none_of_the_network_s_is_left_out() -> None:
    tensors = dict(theirs.build("ofa_mbv3_w10").state_dict())
    counters = [key for key in tensors if key.endswith("num_batches_tracked")]
    for key in counters:
        del tensors[key]
    tensors["ema.first_conv"] = torch.zeros(1)
    found = recognise(TensorFile(HERE, tensors, beside=("optimizer",)))
    assert found.left_out == ("ema.first_conv", "optimizer")
    ours = load_into_space(found, SearchSpace.load("mobilenet_v3"), where=HERE)
    assert ours.space == SearchSpace.load("mobilenet_v3")


def test_half_precision_and_other_classes_are_taken() -> None:
    original = theirs.build("ofa_mbv3_w10", n_classes=7).half()
    found = recognise(TensorFile(HERE, original.state_dict()))
    ours = load_into_space(found, SearchSpace.load("ofa_mbv3_w10"), where=HERE)
    assert ours.space.num_classes == 7
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    weight = original.state_dict()["classifier.linear.weight"]
    assert torch.equal(ours.state_dict()["head.head.classifier.weight"], weight.float())
