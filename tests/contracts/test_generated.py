"""Any space a user can write works in every room, or is refused with the key at fault.

Spaces are generated from the op table, so an op is under this contract by being listed.
"""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nassearch.errors import SpaceError
from nassearch.networks import Supernet
from nassearch.networks.cost import count, network_cost
from nassearch.ops import OPS, check_space, static_op
from nassearch.space import Architecture, BlockSpec, SearchSpace, block_specs, lower

NUM_SPACES = 300
FEW_SPACES = 80  # whose networks are run in every test run; `make test-all` runs those of all
ARCHITECTURES_EACH = 7
POOLS: dict[str, tuple[Any, ...]] = {
    "kernel_size": (1, 3, 5, 7, 9),
    "expand_ratio": (0.5, 1, 2, 3, 4.5),
    "group_size": (1, 2, 4, 8),
    "activation": ("none", "relu", "relu6", "hswish", "silu", "gelu"),
    "attention": ("none", "se", "eca"),
}
MIXERS = tuple(name for name in OPS if name not in ("head", "traced", "pooled_conv", "patches"))
generated = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def choices(pool: tuple[Any, ...], *, most: int = 2) -> st.SearchStrategy[Any]:
    """One value, or a list that makes the dimension elastic."""
    one = st.sampled_from(pool)
    return one | st.lists(one, min_size=1, max_size=most, unique=True)


@st.composite
def alternatives(draw: st.DrawFn, op: str) -> dict[str, Any]:
    found: dict[str, Any] = {"op": op}
    for name, required in static_op(op).dimensions.items():
        if name != "shortcut" and (required or draw(st.booleans())):  # that is a stage's
            found[name] = draw(choices(POOLS[name]))
    return found


@st.composite
def stages(draw: st.DrawFn) -> dict[str, Any]:
    ops = draw(st.lists(st.sampled_from(MIXERS), min_size=1, max_size=2, unique=True))
    stage: dict[str, Any] = {
        "width": draw(choices((8, 16, 24))),
        "depth": draw(choices((1, 2, 3))),
        "stride": draw(st.sampled_from((1, 2))),
    }
    averages = all("shortcut" in static_op(op).dimensions for op in ops)
    if averages and stage["stride"] == 2 and draw(st.booleans()):
        stage["shortcut"] = "avgpool"
    if len(ops) == 1 and draw(st.booleans()):
        return {**draw(alternatives(ops[0])), **stage}
    return {"op": [draw(alternatives(op)) for op in ops], **stage}


@st.composite
def schedules(draw: st.DrawFn, definition: dict[str, Any]) -> dict[str, Any] | None:
    """A patch-based schedule over leading stages that can have one, down to two pixels; or none."""
    pixels = np.min(definition["resolution"]) // definition.get("stem", {}).get("stride", 1)
    most = 0
    for stage in definition["stages"]:
        ops = stage["op"] if isinstance(stage["op"], list) else [stage]
        local = all(static_op(one["op"]).is_local for one in ops)
        pixels //= stage["stride"]
        if not local or any(one.get("attention", "none") != "none" for one in ops) or pixels < 2:
            break
        most += 1
    if most == 0:
        return None
    return {"grid": draw(choices((1, 2))), "stages": draw(choices(tuple(range(1, most + 1))))}


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    """A valid space: at most 8 wide where it strides, so that every image survives."""
    found: dict[str, Any] = {
        "name": "generated",
        "resolution": draw(choices((9, 12, 16))),
        "in_channels": draw(st.sampled_from((1, 3, 8))),
        "num_classes": draw(st.integers(2, 5)),
        "stages": draw(st.lists(stages(), min_size=1, max_size=3)),
    }
    # without a stem the first group convolution would stand on the image's channels
    if found["in_channels"] != 8 or draw(st.booleans()):
        found["stem"] = {"width": 8, "stride": draw(st.sampled_from((1, 2)))}
    patches = draw(schedules(found))
    if patches:
        found["patches"] = patches
    if draw(st.booleans()):
        found["head"] = {"expand_width": 16, "feature_width": 24, "activation": "hswish"}
    return found


@settings(generated, max_examples=NUM_SPACES)
@given(definition=definitions(), seed=st.integers(0, 2**16))
def test_a_generated_space_holds_together(definition: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = check_space(SearchSpace.from_dict(definition))
    assert SearchSpace.from_dict(space.to_dict()) == space
    specs = set(block_specs(space))
    assert {BlockSpec.from_key(spec.key) for spec in specs} == specs
    for architecture in _architectures(space, rng):
        assert space.decode(space.encode(architecture)) == architecture
        space.check(space.mutate(architecture, rng=rng, rate=0.5))
        space.check(space.crossover(architecture, space.largest, rng=rng))
        assert specs.issuperset(lower(space, architecture))


def _architectures(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    return [*space.sample_many(rng, ARCHITECTURES_EACH - 2), space.smallest, space.largest]


generated_spaces = given(definition=definitions(), seed=st.integers(0, 2**16))


@settings(generated, max_examples=FEW_SPACES)
@generated_spaces
def test_networks_of_a_generated_space_work(definition: dict[str, Any], seed: int) -> None:
    check_networks(definition, seed)


@pytest.mark.slow
@settings(generated, max_examples=NUM_SPACES)
@generated_spaces
def test_networks_of_many_generated_spaces_work(definition: dict[str, Any], seed: int) -> None:
    check_networks(definition, seed)


def check_networks(definition: dict[str, Any], seed: int) -> None:
    """Extracted networks equal the supernet, costs are those counted, and a step can be taken."""
    space = SearchSpace.from_dict(definition)
    rng = np.random.default_rng(seed)
    supernet = Supernet(space).eval()
    for architecture in _architectures(space, rng):
        extracted = supernet.extract(architecture)
        images = torch.ones(1, *extracted.input_shape)
        with torch.no_grad():
            expected = supernet(images, architecture)
            whole = extracted.whole()
            torch.testing.assert_close(whole(images), expected, atol=1e-5, rtol=1e-5)
            if architecture.patches is not None:  # in double: tiles round otherwise than the whole
                tiles, same = copy.deepcopy(extracted).double(), copy.deepcopy(whole).double()
                torch.testing.assert_close(tiles(images.double()), same(images.double()))
        assert expected.shape == (1, space.num_classes)
    walked = lower(space, architecture)
    assert count(extracted, images, name="network") == network_cost(walked)
    supernet.train()(images.expand(2, -1, -1, -1), architecture).sum().backward()


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """A valid space with one fault, and the key path of the fault."""
    definition = copy.deepcopy(draw(definitions()))
    index = draw(st.integers(0, len(definition["stages"]) - 1))
    stage, at = definition["stages"][index], f"stages[{index}]"
    fault = draw(st.sampled_from(sorted(FAULTS)))
    key, value = FAULTS[fault]
    if key == "patches":
        definition["patches"] = value
        return definition, key
    if key == "":
        del stage["width"]
        return definition, f"{at}.width"
    stage[key] = value
    return definition, f"{at}.{key}"


FAULTS: dict[str, tuple[str, Any]] = {
    "unknown key": ("kernals", 3),
    "missing key": ("", None),
    "word for a number": ("width", "wide"),
    "number for a word": ("op", 3),
    "truth for a number": ("depth", True),
    "fraction for a count": ("width", [8, 12.5]),
    "mapping for a list": ("depth", {"from": 1, "to": 3}),
    "no choice": ("width", []),
    "choice twice": ("depth", [2, 2]),
    "even kernel": ("kernel_size", [3, 4]),
    "negative": ("width", -8),
    "zero": ("depth", 0),
    "not a number": ("expand_ratio", float("nan")),
    "infinite": ("expand_ratio", float("inf")),
    "huge stride": ("stride", 999),
    "unknown op": ("op", "mbcon"),
    "op twice": ("op", ["skip", "skip"]),
    "op that is the head": ("op", "head"),
    "schedule of too many stages": ("patches", {"grid": 2, "stages": 9}),
    "schedule of too many tiles": ("patches", {"grid": 99, "stages": 1}),
    "schedule without a grid": ("patches", {"stages": 1}),
}


@settings(generated, max_examples=NUM_SPACES)
@given(case=spoiled())
def test_a_spoiled_space_is_refused_at_its_key(case: tuple[dict[str, Any], str]) -> None:
    definition, place = case
    with pytest.raises(SpaceError) as caught:
        check_space(SearchSpace.from_dict(definition, where="mine.yaml"))
    line = str(caught.value)
    assert line.startswith("mine.yaml: ")
    assert place in line
    assert "\n" not in line
