"""A smooth stand-in for the accuracy of subnets, over a space too large to enumerate."""

import copy
from collections.abc import Sequence

import numpy as np
from truth import observed

from nassearch.budget import Budget
from nassearch.objectives.objective import Context, build
from nassearch.provenance import Estimate
from nassearch.search.pareto import hypervolume, non_dominated
from nassearch.search.problem import Floats, Objective, Problem
from nassearch.space import Architecture, SearchSpace
from nassearch.space.search_space import Genes

LOWEST, HIGHEST = 0.66, 0.78
WAVES = 64
KEPT = 400


class Landscape:
    """Accuracy saturates with what the choices add, and deviates from that by 0.2 points.

    Every choice of a gene adds a random gain, less the later it comes; a block that exists adds
    three times as much. The deviation is a sum of random waves over all choices (Rahimi & Recht,
    "Random features for large-scale kernel machines", 2007), so networks alike deviate alike. With
    `images` an evaluation errs as that many would, always alike for an architecture.
    """

    def __init__(self, space: str, *, seed: int, images: int | None) -> None:
        self.space = SearchSpace.load(space)
        self._images = images
        self._seed = seed
        self._counts = [len(gene.choices) for gene in self.space.genes]
        rng = np.random.default_rng([seed, 0])
        weights = [3.0 if gene.name.endswith("depth") else 1.0 for gene in self.space.genes]
        self._gains = [
            weight * np.r_[0.0, np.cumsum(rng.uniform(0.2, 1.0, count - 1) / np.arange(1, count))]
            for weight, count in zip(weights, self._counts, strict=True)
        ]
        self._most = sum(float(gain[-1]) for gain in self._gains)
        self._waves = rng.standard_normal((sum(self._counts), WAVES))
        self._phases = rng.uniform(0, 2 * np.pi, WAVES)
        (self._cost,) = build("macs", Context(self.space))

    def accuracy(self, genes: Genes) -> Floats:
        """The true accuracies of canonical gene vectors, (n,)."""
        parts = [gain[genes[:, index]] for index, gain in enumerate(self._gains)]
        share = np.sum(parts, axis=0) / self._most
        saturated = (1 - np.exp(-2.5 * share)) / (1 - np.exp(-2.5))
        chosen = [genes[:, [index]] == np.arange(count) for index, count in enumerate(self._counts)]
        angles = np.concatenate(chosen, axis=1) @ self._waves / np.sqrt(len(self._counts))
        deviation = np.cos(angles + self._phases).sum(axis=1) * np.sqrt(2.0 / WAVES)
        return LOWEST + (HIGHEST - LOWEST) * saturated + 0.002 * deviation

    def cost(self, genes: Genes) -> Floats:
        """Multiply-accumulates, or what stands for them, of canonical gene vectors, (n,)."""
        return self._cost.numbers(genes)

    def with_cost(self, cost: Objective) -> "Landscape":
        """The same accuracies against another cost."""
        other = copy.copy(self)
        other._cost = cost
        return other

    def genes(self, architecture: Architecture) -> Genes:
        return np.array([self.space.encode(architecture)], dtype=np.uint8)

    def evaluate(self, architecture: Architecture) -> Estimate:
        accuracy = float(self.accuracy(self.genes(architecture))[0])
        return observed(accuracy, self._images, seed=self._seed, name=architecture.id)

    def problem(
        self, seed: int, budgets: tuple[Budget, ...] = (), limits: Sequence[float] = ()
    ) -> Problem:
        """Accuracy against cost within `budgets`; the best within each limit is wanted."""
        accuracy = Objective("accuracy", "max", "", self.evaluate)
        asked_for = tuple((Budget(self._cost.name, limit, ""),) for limit in limits)
        return Problem(self.space, (accuracy, self._cost), budgets, seed, budget_sets=asked_for)

    def losses(self, architectures: Sequence[Architecture]) -> Floats:
        """True error and cost, (n, 2): smaller is better."""
        return self.losses_of_genes(np.vstack([self.genes(one) for one in architectures]))

    def losses_of_genes(self, genes: Genes) -> Floats:
        """The same of canonical gene vectors, (n, genes)."""
        return np.stack([-self.accuracy(genes), self.cost(genes)], axis=1)

    def best_losses(self) -> Floats:
        """The losses of the best front known, (n, 2)."""
        return best_front(self)

    def reference(self) -> Floats:
        """The smallest network's accuracy and the largest one's cost, as losses."""
        corners = np.vstack([self.genes(self.space.smallest), self.genes(self.space.largest)])
        return self.losses_of_genes(corners).max(axis=0)


def best_front(landscape: Landscape) -> Floats:
    """The losses of the best front known, (n, 2).

    From many networks of all sizes: every change of one gene and crossings, of the true function,
    until the hypervolume has grown by less than 2e-4 in eight rounds.
    """
    space, rng = landscape.space, np.random.default_rng(5)
    top = np.array([len(gene.choices) - 1 for gene in space.genes])
    scaled = np.floor(rng.random((KEPT, 1)) * top + rng.random((KEPT, len(top)))).astype(np.uint8)
    front = np.vstack([space.sample_genes(rng, KEPT), space.canonical(np.minimum(scaled, top))])
    reference, volumes = landscape.reference(), [0.0]
    while len(volumes) < 13 or volumes[-1] > volumes[-8] * 1.0002:
        front = front[non_dominated(landscape.losses_of_genes(front))]
        parents = front[rng.permutation(len(front))[:KEPT]]
        first, second = front[rng.integers(len(front), size=(2, 4 * KEPT))]
        crossed = np.where(rng.random(first.shape) < 0.5, first, second)
        changed = [
            _with(parents, gene, choice)
            for gene in range(len(top))
            for choice in range(top[gene] + 1)
        ]
        children = space.canonical(np.vstack([*changed, crossed]))
        front = np.unique(np.vstack([front, children]), axis=0)
        losses = landscape.losses_of_genes(front)
        volumes.append(hypervolume(losses[non_dominated(losses)], reference))
    return losses[non_dominated(losses)]


def _with(genes: Genes, gene: int, choice: int) -> Genes:
    changed = genes.copy()
    changed[:, gene] = choice
    return changed
