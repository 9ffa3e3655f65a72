"""How a strategy draws random subnets."""

from typing import Literal

import numpy as np

from nassearch.config import StrictModel
from nassearch.space import Architecture, SearchSpace


class SamplingOptions(StrictModel):
    """Keys of every strategy that draws subnets from the whole space."""

    sampling: Literal["uniform", "coupled"] = "uniform"
    """coupled: a stage's depth decides its blocks' expand ratio (CompOFA)."""


def draw(space: SearchSpace, options: SamplingOptions, rng: np.random.Generator) -> Architecture:
    """A random subnet: every choice uniform and independent, or depth and expansion coupled."""
    if options.sampling == "uniform":
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
                dimension = dict(alternative.dimensions).get("expand_ratio")
                if dimension is not None and dimension.gene is not None:
                    genes[dimension.gene] = round(rank * (len(dimension.choices) - 1))
    return space.decode(genes)
