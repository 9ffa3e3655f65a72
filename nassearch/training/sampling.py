"""How a strategy draws random subnets."""

import numpy as np

from nassearch.space import Architecture, SearchSpace
from nassearch.training.recipe import TrainingRecipe


def draw(space: SearchSpace, recipe: TrainingRecipe, rng: np.random.Generator) -> Architecture:
    """A random subnet: every choice uniform and independent, or depth and expansion coupled."""
    if recipe.sampling == "uniform":
        return space.sample(rng)
    return couple(space, space.sample_genes(rng, 1)[0].tolist())


def couple(space: SearchSpace, genes: list[int]) -> Architecture:
    """The subnet of `genes` with each stage's expand ratios set by its depth.

    The shallowest stages get the smallest ratio and the deepest the largest, in proportion (Sahni
    et al., "CompOFA", ICLR 2021, 3.1). Kernels and widths stay as drawn.
    """
    genes = list(genes)
    for stage in space.layout.stages:
        if stage.depth.gene is None:
            continue
        rank = genes[stage.depth.gene] / (len(stage.depth.choices) - 1)
        for position in stage.positions:
            for alternative in position.alternatives:
                dial = dict(alternative.dials).get("expand_ratio")
                if dial is not None and dial.gene is not None:
                    genes[dial.gene] = round(rank * (len(dial.choices) - 1))
    return space.decode(genes)
