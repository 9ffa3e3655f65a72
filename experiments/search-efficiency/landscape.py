"""A smooth stand-in for the accuracy of a supernet's subnets, over a space too large to enumerate."""

import hashlib

import numpy as np

from nassearch import objectives
from nassearch.search.candidate import Budget, Floats, Objective, Problem, Value
from nassearch.space import Architecture, SearchSpace
from nassearch.space.search_space import Genes

LOWEST, HIGHEST = 0.66, 0.78
WAVES = 64
IMAGES = 2000


class Landscape:
    """Accuracy saturates with what the choices add, and deviates from that by 0.2 points.

    Every choice of a gene adds a random gain, less the later it comes; a block that exists adds
    three times as much. The deviation is a sum of random waves over all choices (Rahimi & Recht,
    "Random features for large-scale kernel machines", 2007), so networks alike deviate alike. With
    `noise` an evaluation errs as 2,000 validation images would, always alike for an architecture.
    """

    def __init__(self, space: str, *, seed: int, noise: bool) -> None:
        self.space = SearchSpace.load(space)
        self.noise = noise
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
        (self._macs,) = objectives.build("macs", objectives.Context(self.space))

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
        """Multiply-accumulates of canonical gene vectors, (n,)."""
        return self._macs.numbers(genes)

    def genes(self, architecture: Architecture) -> Genes:
        return np.array([self.space.encode(architecture)], dtype=np.uint8)

    def evaluate(self, architecture: Architecture) -> Value:
        accuracy = float(self.accuracy(self.genes(architecture))[0])
        if not self.noise:
            return Value(accuracy, "stand-in")
        digest = hashlib.sha256(f"{self._seed} {architecture.id}".encode()).digest()
        rng = np.random.default_rng(list(digest))
        return Value(rng.binomial(IMAGES, accuracy) / IMAGES, f"stand-in ({IMAGES} images)")

    def problem(self, seed: int, budgets: tuple[Budget, ...] = ()) -> Problem:
        accuracy = Objective("accuracy", "max", "", self.evaluate)
        return Problem(self.space, (accuracy, self._macs), budgets, seed)
