"""A stand-in for supernet and device: smooth accuracy and additive cost over any space's genes."""

import hashlib
import math

import numpy as np

from nassearch.budget import Budget
from nassearch.provenance import Estimate, Provenance
from nassearch.search.problem import Floats, Objective, Problem
from nassearch.space import Architecture, SearchSpace
from nassearch.space.search_space import Genes


class Synthetic:
    """Accuracy saturates with the sum of the choices; cost grows with it; both exact in genes."""

    def __init__(self, name: str, *, noise: float = 0.0) -> None:
        self.space = SearchSpace.load(name)
        self.noise = noise
        self.evaluations = 0
        self.nan_ids: set[str] = set()
        rng = np.random.default_rng(42)
        counts = [len(gene.choices) for gene in self.space.genes]
        weight = [3.0 if gene.name.endswith("depth") else 1.0 for gene in self.space.genes]
        pairs = list(zip(counts, weight, strict=True))
        self._gain = [w * np.r_[0, rng.uniform(0.2, 1, c - 1).cumsum()] for c, w in pairs]
        self._cost = [w * np.r_[0, rng.uniform(0.3, 1, c - 1).cumsum()] for c, w in pairs]

    def accuracy(self, genes: Genes) -> Floats:
        total = sum(table[genes[:, index]] for index, table in enumerate(self._gain))
        return 0.80 - 0.12 * np.exp(-1.4 * np.asarray(total) / len(self._gain))

    def cost(self, genes: Genes) -> Floats:
        total = sum(table[genes[:, index]] for index, table in enumerate(self._cost))
        return 100.0 * (1.0 + np.asarray(total, dtype=np.float64))

    def genes(self, architecture: Architecture) -> Genes:
        return np.array([self.space.encode(architecture)], dtype=np.uint8)

    def evaluate(self, architecture: Architecture) -> Estimate:
        self.evaluations += 1
        if architecture.id in self.nan_ids:
            return Estimate(math.nan, Provenance("synthetic"))
        number = float(self.accuracy(self.genes(architecture))[0])
        digest = hashlib.sha256(architecture.id.encode()).digest()
        rng = np.random.default_rng(list(digest))
        number += self.noise * float(rng.standard_normal())
        return Estimate(number, Provenance("synthetic"), number - 0.01, number + 0.01)

    def problem(self, *, seed: int = 0, **limits: float) -> Problem:
        accuracy = Objective("accuracy", "max", "", self.evaluate)
        cost = Objective(
            "cost",
            "min",
            "M",
            lambda architecture: Estimate(
                float(self.cost(self.genes(architecture))[0]), Provenance("counted")
            ),
            self.cost,
        )
        genes_off = Objective(
            "choices",
            "min",
            "",
            lambda architecture: Estimate(
                float(self.genes(architecture).sum()), Provenance("counted")
            ),
            lambda genes: genes.sum(axis=1).astype(np.float64),
        )
        budgets = tuple(Budget(name, limit, "M") for name, limit in limits.items())
        return Problem(self.space, (accuracy, cost), budgets, seed, (genes_off,))
