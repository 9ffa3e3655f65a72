"""Strategy `progressive-shrinking`: a teacher, then elastic kernels, depths and expand ratios."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from nassearch.config import StrictModel
from nassearch.space import Architecture, SearchSpace
from nassearch.training.schedule import StepPosition, decay
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.training_recipe import TrainingRecipe


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training: how long, how fast, and what is elastic in it.

    `share` is the paper's number of epochs, `rate` its learning rate over the teacher's, `warmup`
    the share of the phase over which the rate rises. `frees` names dimensions that are elastic from
    here on; `choices` is how many of their largest choices a subnet may take, None for all.
    """

    name: str
    share: float
    rate: float
    warmup: float
    subnets: int
    frees: frozenset[str] = frozenset()
    choices: int | None = None


_KERNEL = frozenset({"kernel_size", "group_size", "attention", "activation", "op", "resolution"})
_DEPTH = frozenset({"depth"})
_WIDTH = frozenset({"expand_ratio", "width"})
_PHASES = (
    Phase("teacher", 180, 1.0, 0.0, 1),
    Phase("kernel", 125, 0.96 / 2.6, 5 / 125, 1, _KERNEL),
    Phase("depth 1", 25, 0.08 / 2.6, 0.0, 2, _DEPTH, 2),
    Phase("depth 2", 125, 0.24 / 2.6, 5 / 125, 2, _DEPTH),
    Phase("expand 1", 25, 0.08 / 2.6, 0.0, 4, _WIDTH, 2),
    Phase("expand 2", 125, 0.24 / 2.6, 5 / 125, 4, _WIDTH),
)


class ProgressiveShrinkingOptions(StrictModel):
    """Keys of progressive-shrinking."""

    sort_channels: bool = True
    """Sort inner channels by importance before expand ratios become elastic."""


class ProgressiveShrinking:
    """Once-for-all's training as one command (Cai et al., "Once-for-All", ICLR 2020, 3.3).

    The largest network is trained on the labels, then frozen as the teacher of all phases after it;
    every other subnet learns from the labels and the teacher. Lengths and rates are those of the
    published schedule (605 epochs), in proportion. A phase whose dimensions a space fixes is left
    out, and its time goes to the others. Inner channels are sorted over their full range before
    expand ratios become elastic; elastic widths, which once-for-all has not, come with them.
    """

    Options = ProgressiveShrinkingOptions

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        assert isinstance(recipe.options, ProgressiveShrinkingOptions)
        self._space, self._recipe, self._options = space, recipe, recipe.options
        self._dimensions = [gene.name.rpartition(".")[2] for gene in space.genes]
        self._phases = tuple(phase for phase in _PHASES if self._matters(phase))

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan:
        index, first, length = self._phase(position)
        phase, begins = self._phases[index], position.step == first
        rate = self._rate(phase, (position.step - first) / length)
        if index == 0:
            return StepPlan((SubnetPass(self._space.largest),), rate)
        widens = phase.frees == _WIDTH and self._phases[index - 1].frees != _WIDTH
        return StepPlan(
            tuple(SubnetPass(self._draw(index, rng)) for _ in range(phase.subnets)),
            rate,
            sort_channels=begins and widens and self._options.sort_channels,
            freeze_teacher=begins and index == 1 and self._recipe.teacher is None,
        )

    def _matters(self, phase: Phase) -> bool:
        """Whether the space has a dimension that the phase frees, with choices it withholds."""
        freed = (
            len(gene.choices)
            for gene, dimension in zip(self._space.genes, self._dimensions, strict=True)
            if dimension in phase.frees
        )
        return not phase.frees or max(freed, default=0) > (phase.choices or 1)

    def _phase(self, position: StepPosition) -> tuple[int, int, int]:
        """The phase of a step, the phase's first step, and its length in steps."""
        total = self._recipe.epochs * position.steps_per_epoch
        shares = [phase.share for phase in self._phases]
        ends = [round(total * share / sum(shares)) for share in accumulate(shares)]
        index = min(bisect_right(ends, position.step), len(ends) - 1)
        first = ends[index - 1] if index else 0
        return index, first, max(1, ends[index] - first)

    def _rate(self, phase: Phase, share: float) -> float:
        rate = self._recipe.lr * phase.rate * decay(self._recipe.schedule, share)
        return rate * min(1.0, share / phase.warmup) if phase.warmup else rate

    def _draw(self, index: int, rng: np.random.Generator) -> Architecture:
        """A random subnet of what is elastic in this phase; all else is largest."""
        genes = []
        for order, dimension in zip(self._space.by_size, self._dimensions, strict=True):
            count = len(order)
            frees = [phase for phase in self._phases[: index + 1] if dimension in phase.frees]
            allowed = min(count, frees[-1].choices or count) if frees else 1
            genes.append(order[count - 1 - int(rng.integers(allowed))])
        return self._space.decode(genes)
