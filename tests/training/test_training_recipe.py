"""A recipe's keys: those of every training, and those that its strategy alone reads."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from nassearch import config
from nassearch.config import StrictModel
from nassearch.data.dataset import Data
from nassearch.errors import ConfigError
from nassearch.space import SearchSpace
from nassearch.training import checkpoint, trainer
from nassearch.training.schedule import StepPosition
from nassearch.training.strategies import STRATEGIES, strategy_options
from nassearch.training.strategies.delayed_shrinking import DelayedShrinkingOptions
from nassearch.training.strategy import StepPlan, SubnetPass, make_strategy
from nassearch.training.training_recipe import TrainingRecipe, recipe_keys

# every key of version 0.1, with the values it wrote for `--strategy sandwich` and no option
OPTIONS_OF_0_1 = {
    "fm_warmup": 0.15,
    "ramp_epochs": None,
    "ramp_by_size": 0.0,
    "warmup_resolution": 1.0,
    "sort_channels": True,
    "num_random": 2,
    "sandwich_rule": None,
    "sampling": "uniform",
}


class ShrinkingOptions(StrictModel):
    temperature: float = 2.0


class Smallest:
    """A user's strategy with a key of its own."""

    Options: ClassVar[type[StrictModel]] = ShrinkingOptions

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        self.space, self.options = space, recipe.options

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan:
        return StepPlan((SubnetPass(self.space.smallest),), 0.01)


def parse(**keys: object) -> TrainingRecipe:
    return config.parse(TrainingRecipe, keys, where="recipe.yaml")


@pytest.mark.parametrize("name", STRATEGIES)
def test_keys_stay_flat_and_are_read_again(name: str) -> None:
    recipe = parse(strategy=name, epochs=3)
    written = recipe.model_dump(mode="json")
    assert set(written) == recipe_keys(name)
    assert parse(**written) == recipe
    assert isinstance(recipe.options, strategy_options(name))


def test_a_strategy_reads_the_keys_of_its_own_model() -> None:
    recipe = parse(strategy="delayed-shrinking", fm_warmup=0.5, num_random=4)
    assert recipe.options == DelayedShrinkingOptions(fm_warmup=0.5, num_random=4)


def test_a_loss_of_ones_own_does_not_ask_for_parts_of_its_targets() -> None:
    assert parse().strategy == "growing"
    own = parse(loss="mine:loss")
    assert own.options == DelayedShrinkingOptions()
    assert parse(**own.model_dump()) == own
    assert parse(strategy="growing", loss="mine:loss").strategy == "growing"


def test_a_key_of_another_strategy_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"fm_warmup: is a key of .*delayed-shrinking, not of sa"):
        parse(strategy="sandwich", fm_warmup=0.5)


def test_an_unknown_key_is_refused_with_the_allowed_ones_of_its_strategy() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(strategy="single-path", samplign="coupled")
    assert "unknown key 'samplign', did you mean sampling?" in str(refused.value)
    assert " sampling" in refused.value.fix
    assert "fm_warmup" not in refused.value.fix


def test_a_value_of_the_wrong_kind_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml: fm_warmup: .*less than or equal to 1"):
        parse(strategy="delayed-shrinking", fm_warmup=1.5)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_recipe_that_version_0_1_wrote_with_every_key_still_loads(name: str) -> None:
    recipe = parse(**OPTIONS_OF_0_1, strategy=name)
    others_then = {"fm_warmup": 0.15, "num_random": 2} if name == "delayed-shrinking" else {}
    assert recipe == parse(strategy=name, **others_then)


def test_a_training_of_version_0_1_is_resumed(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = parse(strategy="sandwich", epochs=1, batch_size=512)
    dump = TrainingRecipe.model_dump
    with monkeypatch.context() as patch:
        before = lambda recipe: {**dump(recipe), **OPTIONS_OF_0_1}  # noqa: E731
        patch.setattr(TrainingRecipe, "model_dump", before)
        trainer.train(space, digits, recipe=recipe, out=tmp_path)
    saved = checkpoint.load(tmp_path).recipe
    assert saved["fm_warmup"] == 0.15
    assert TrainingRecipe(**saved) == recipe
    trainer.train(space, digits, recipe=recipe, out=tmp_path, resume=True)


def test_a_users_strategy_brings_its_own_options(space: SearchSpace) -> None:
    name = f"{__name__}:Smallest"
    recipe = parse(strategy=name, temperature=4.0)
    assert recipe.model_dump()["temperature"] == 4.0
    strategy = make_strategy(space, recipe)
    assert isinstance(strategy, Smallest)
    assert strategy.options == ShrinkingOptions(temperature=4.0)
    with pytest.raises(ConfigError, match="fm_warmup: is a key of"):
        parse(strategy=name, fm_warmup=0.5)


def test_a_run_of_a_strategy_that_is_not_here_can_be_read_but_not_trained(
    space: SearchSpace,
) -> None:
    recipe = parse(strategy="nowhere.mine:Strategy", temperature=4.0)
    assert recipe.model_dump()["temperature"] == 4.0
    with pytest.raises(ConfigError, match="cannot import the strategy"):
        make_strategy(space, recipe)
