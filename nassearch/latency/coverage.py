"""Coverage: the networks that a profile measures, so that every block of a space is in some."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from nassearch.latency.design import variance_left
from nassearch.latency.timing import reference_networks
from nassearch.space import Architecture, BlockSpec, SearchSpace, Slot, lower, slots

COVERAGE = 2
MAX_NETWORKS = 96  # of one profile; what they do not hold is interpolated
_COVERINGS, _OTHERS = 8, 100
MAX_MISSES = 50  # architectures drawn in a row that were there already: the space has no more


def covering(
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    repeats: int = COVERAGE,
    known: Collection[str] = (),
    limit: int = MAX_NETWORKS,
) -> list[Architecture]:
    """Random architectures that together hold every block of the space at least `repeats` times,
    or as often as a space of few architectures allows; blocks whose keys are `known` may lack.
    With `limit` of them as many different blocks as they can hold.

    The reference networks are the first of them, unless everything is known; depths vary, so that
    they also calibrate sums.
    """
    counts: Counter[BlockSpec] = Counter()
    places = slots(space)
    specs = {spec for slot in places for spec in slot.specs if spec is not None}
    needed = {spec for spec in specs if spec.key not in known}
    counts.update(dict.fromkeys(specs - needed, repeats))
    chosen: dict[Architecture, None] = {}

    def take(architecture: Architecture) -> bool:
        if architecture in chosen:
            return False
        chosen[architecture] = None
        counts.update(lower(space, architecture))
        return True

    for architecture in reference_networks(space):
        take(architecture)
    misses = 0
    while (
        len(chosen) < limit
        and misses < MAX_MISSES
        and any(counts[spec] < repeats for spec in needed)
    ):
        misses = 0 if take(_least_covered(space, places, counts, rng)) else misses + 1
    return list(chosen)


def telling(
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    known: Collection[str] = (),
    limit: int = MAX_NETWORKS,
) -> list[Architecture]:
    """Of several coverings one that holds the most blocks, and of those the one whose networks tell
    most of others of the space.
    """
    found = [covering(space, rng, known=known, limit=limit) for _ in range(_COVERINGS)]
    others = [lower(space, other) for other in space.sample_many(rng, _OTHERS)]

    def worth(architectures: Sequence[Architecture]) -> tuple[int, float]:
        networks = [lower(space, architecture) for architecture in architectures]
        blocks = {spec for specs in networks for spec in specs}
        return len(blocks), -variance_left([*networks, *others], range(len(networks)))

    return max(found, key=worth)


def _least_covered(
    space: SearchSpace, places: Sequence[Slot], counts: Counter[BlockSpec], rng: np.random.Generator
) -> Architecture:
    """An architecture that holds the block seen least often, and elsewhere blocks seen seldom."""
    order = sorted(
        places,
        key=lambda slot: (min(counts[s] for s in slot.specs if s is not None), rng.random()),
    )
    fixed: dict[int, int] = {}
    for number, slot in enumerate(order):
        if number == 1:
            for stage in space.layout.stages:
                if stage.depth.gene is not None and rng.random() < 0.5:
                    fixed.setdefault(stage.depth.gene, int(rng.integers(len(stage.depth.choices))))
        options = []
        for index, spec in enumerate(slot.specs):
            if spec is None:
                continue
            values = map(int, np.unravel_index(index, slot.shape)) if slot.genes else ()
            genes = dict(zip(slot.genes, values, strict=True))
            if all(fixed.get(gene, value) == value for gene, value in genes.items()):
                options.append((counts[spec], rng.random(), genes))
        if options:
            fixed.update(min(options, key=lambda option: option[:2])[2])
    return space.decode([fixed.get(gene, 0) for gene in range(len(space.genes))])
