"""A space file that cannot work is refused in one line: the file, the key, what is allowed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nassearch.errors import ConfigError, SpaceError
from nassearch.ops import check_space
from nassearch.space import SearchSpace
from nassearch.space.additive import AdditiveCost


def definition() -> dict[str, Any]:
    return {
        "name": "mine",
        "resolution": [16, 32],
        "stem": {"op": "conv", "width": 8, "kernel_size": 3, "stride": 2, "activation": "relu"},
        "stages": [
            {"op": "conv", "width": 16, "kernel_size": 3},
            {"op": "mbconv", "width": [16, 24], "depth": [1, 2], "stride": 2, "kernel_size": [3, 5],
             "expand_ratio": [2, 4], "activation": "relu"},
        ],
        "head": {"feature_width": 32},
    }  # fmt: skip


def put(value: dict[str, Any], path: tuple[str | int, ...], item: Any) -> None:
    place: Any = value
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = item


CASES: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    # where, what is written there, the key path named, what the line says
    (("stages", 1, "kernal_size"), 3, "'stages[1].kernal_size'", "did you mean kernel_size"),
    (("head", "features"), 3, "'head.features'", "allowed: activation, expand_width"),
    (("resolutions",), 32, "'resolutions'", "did you mean resolution"),
    (("stages", 1, "width"), "wide", "stages[1].width[0]", "valid integer"),
    (("stages", 1, "width"), 16.5, "stages[1].width[0]", "valid integer"),
    (("stages", 1, "width"), True, "stages[1].width[0]", "valid integer"),
    (("stages", 1, "width"), [16, -8], "stages[1].width[1]", "greater than 0"),
    (("stages", 1, "width"), [], "stages[1].width", "at least one choice"),
    (("stages", 1, "width"), [16, 16], "stages[1].width", "a choice twice"),
    (("stages", 1, "depth"), [1, 1], "stages[1].depth", "a choice twice"),
    (("stages", 1, "depth"), 0, "stages[1].depth[0]", "greater than 0"),
    (("stages", 1, "expand_ratio"), [0.0], "stages[1].expand_ratio[0]", "greater than 0"),
    (("stages", 1, "expand_ratio"), [float("inf")], "stages[1].expand_ratio[0]", "finite number"),
    (("stages", 1, "kernel_size"), [3, 4], "stages[1].kernel_size", "4 is not"),
    (("stages", 1, "stride"), "two", "stages[1].stride", "valid integer"),
    (("stages", 1, "stride"), 64, "stages[1].stride", "below one"),
    (("stem", "stride"), 64, "stem.stride", "below one"),
    (("stages", 1, "op"), [], "stages[1].op", "at least one op"),
    (("stages", 1, "op"), ["mbconv", "mbconv"], "stages[1].op", "each once"),
    (("stages", 1, "op"), "mbcon", "stages[1].op", "did you mean mbconv"),
    (("stages", 1, "activation"), "relo", "stages[1].activation", "allowed: none, relu"),
    (("stages", 1, "attention"), ["none", "cbam"], "stages[1].attention", "none, se, se_input"),
    (("stages", 0, "expand_ratio"), 2, "stages[0].expand_ratio", "op 'conv' takes no expand_ratio"),
    (("stages", 1, "kernel_size"), None, "stages[1].kernel_size", "op 'mbconv' needs kernel_size"),
    (("stem", "activation"), "relo", "stem.activation", "unknown activation 'relo'"),
    (("stem", "op"), "cnv", "stem.op", "did you mean conv"),
    (("stem", "kernel_size"), 4, "stem.kernel_size", "kernel sizes are odd, 4 is not"),
    (("head", "activation"), "relo", "head.activation", "unknown activation 'relo'"),
    (("num_classes",), 1, "num_classes", "greater than 1"),
    (("name",), "My Space", "name", "pattern"),
    (("stages",), [], "stages", "at least 1 item"),
    (("stages", 1, "expand_ratio"), [1, 1e308], "stages[1].expand_ratio", "is more than 1000"),
    (("stages", 0), "conv", "stages[0]", "it must be a mapping of keys to values"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "written", "key", "message"), CASES)
def test_refused_in_one_line(
    tmp_path: Path, place: tuple[str | int, ...], written: Any, key: str, message: str
) -> None:
    value = definition()
    put(value, place, written)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(SpaceError) as caught:
        check_space(SearchSpace.load(str(path)))
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert ": :" not in line
    assert key in line
    assert message in line
    assert "\n" not in line


def test_a_group_size_that_does_not_divide_names_those_that_do() -> None:
    value = definition()
    value["stages"][1] = {"op": "grouped_conv", "width": 16, "kernel_size": 3, "group_size": [4, 6]}
    with pytest.raises(SpaceError) as caught:
        check_space(SearchSpace.from_dict(value, where="mine.yaml"))
    assert str(caught.value) == (
        "mine.yaml: stages[1].blocks[0].group_size: 6 does not divide 16 channels;"
        " allowed here: 1, 2, 4, 8, 16"
    )


def test_the_definition_the_cases_spoil_is_sound() -> None:
    check_space(SearchSpace.from_dict(definition()))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    value = definition()
    del value["stages"][1]["width"]
    with pytest.raises(SpaceError, match=r"the key 'stages\[1\]\.width' is missing"):
        SearchSpace.from_dict(value, where=tmp_path)


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: mine\nresolution: [16\nstages: 3\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml:3: is not valid YAML"):
        SearchSpace.load(str(path))


def test_an_unknown_space_names_its_neighbours() -> None:
    with pytest.raises(ConfigError, match="did you mean digits_tiny"):
        SearchSpace.load("digit_tiny")


def test_a_list_is_not_a_space() -> None:
    with pytest.raises(SpaceError, match="must be a mapping"):
        SearchSpace.from_dict([1, 2])


@pytest.mark.parametrize("name", ["width", "kernel_size", "depth", "group_size"])
def test_a_dimension_has_no_more_choices_than_a_gene_can_tell_apart(name: str) -> None:
    spoilt = definition()
    spoilt["stages"][1][name] = list(range(1, 600, 2))
    with pytest.raises(SpaceError, match=rf"stages\[1\].{name}: holds 300 choices.* 256"):
        SearchSpace.from_dict(spoilt)


def test_the_most_choices_work(rng: np.random.Generator) -> None:
    full = definition()
    full["resolution"] = list(range(16, 16 + 256))
    space = SearchSpace.from_dict(full)
    assert space.decode(space.encode(space.largest)) == space.largest
    assert space.largest.resolution == 16 + 255
    resolutions = {item.resolution for item in space.sample_many(rng, 2000)}
    assert max(resolutions) > 250


def test_a_space_of_one_network_can_do_what_others_can(rng: np.random.Generator) -> None:
    single = definition() | {"resolution": 16}
    single["stages"] = single["stages"][:1]
    space = check_space(SearchSpace.from_dict(single))
    (only,) = space.enumerate()
    assert space.size() == 1
    assert space.genes == ()
    genes = space.sample_genes(rng, 3)
    assert genes.shape == (3, 0)
    assert space.decode_many(genes) == [only] * 3
    assert space.sample(rng) == space.smallest == space.largest == only
    assert space.mutate(only, rng=rng) == space.crossover(only, only, rng=rng) == only
    cost = AdditiveCost(space, lambda spec: 1.0)
    assert cost.minimum() == (only, cost(only))
    assert cost.of_genes(genes).tolist() == [cost(only)] * 3
