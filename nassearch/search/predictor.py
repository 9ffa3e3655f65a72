"""GenePredictor: an expensive objective predicted from genes, learned from a few dozen results.

A Gaussian process whose prior says what is known of such spaces: a quantity is close to additive in
the choices of the blocks that exist, follows the size of the network smoothly, and deviates from
both a little. Its posterior draws are the ensemble a search chooses by. Written out here because
its kernel works on groups of features by matrix products: scikit-learn's is an order of magnitude
slower on the tens of thousands of predictions of an inner search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nassearch.search.candidate import Floats, Objective
from nassearch.space.search_space import Genes, SearchSpace

# log10 of: variance of the choices, of the size, of the deviation; length scales of the deviation
# over choices and size; variance of the noise. In units of the standardised results.
START = np.array([0.0, 0.0, -0.5, 0.0, 0.0, -1.5])
LOWEST = np.array([-3.0, -3.0, -4.0, -0.7, -0.7, -5.0])
HIGHEST = np.array([1.5, 1.5, 1.0, 1.0, 1.0, 0.3])
FITTED_POINTS = 240
CHUNK = 1024  # rows predicted at once: their kernel stays in cache


@dataclass(frozen=True)
class Features:
    """Of n architectures: one-hot active choices (n, choices) and sizes (n, cheap objectives)."""

    choices: Floats
    sizes: Floats


class Featuriser:
    """Genes to features; sizes are logarithms of the cheap objectives, scaled to unit spread."""

    def __init__(self, space: SearchSpace, cheap: Sequence[Objective]) -> None:
        self._space = space
        self._cheap = tuple(cheap)
        self._counts = [len(gene.choices) for gene in space.genes]
        layout = space.layout
        ops = [position.op.gene for stage in layout.stages for position in stage.positions]
        self._ops = [gene for gene in ops if gene is not None]
        depths = [stage.depth.gene for stage in layout.stages if stage.depth.gene is not None]
        self._structure = np.zeros(len(space.genes), dtype=bool)
        self._structure[[*self._ops, *depths]] = True
        self._mean, self._spread = np.zeros(0), np.ones(0)
        sample = space.sample_genes(np.random.default_rng(0), 512)
        sizes = self._sizes(sample)
        self._mean, self._spread = sizes.mean(axis=0), np.maximum(sizes.std(axis=0), 1e-9)

    def __call__(self, genes: Genes) -> Features:
        """The features of canonical gene vectors, (n, genes)."""
        active = self._active(genes)
        columns = [
            (genes[:, [index]] == np.arange(count)) & active[:, [index]]
            for index, count in enumerate(self._counts)
        ]
        choices = np.concatenate(columns, axis=1) if columns else np.zeros((len(genes), 0))
        scale = 1.0 / np.sqrt(max(1, len(self._counts)))
        return Features(choices * scale, (self._sizes(genes) - self._mean) / self._spread)

    def _sizes(self, genes: Genes) -> Floats:
        columns = [np.log(np.maximum(item.numbers(genes), 1e-12)) for item in self._cheap]
        return np.stack(columns, axis=1) if columns else np.zeros((len(genes), 0))

    def _active(self, genes: Genes) -> Genes:
        """1 where a gene says something: one set to 1 stays 1 in the canonical form."""
        probe = self._space.canonical(np.where(self._structure, genes, 1).astype(np.uint8))
        probe[:, self._structure] = 1
        if self._ops:
            turned = genes.copy()
            turned[:, self._ops] = 1
            probe[:, self._ops] = self._space.canonical(turned)[:, self._ops]
        return probe


class GenePredictor:
    """A Gaussian process over features (Rasmussen & Williams 2006, algorithm 2.1)."""

    def __init__(self) -> None:
        self._log = START.copy()
        self._fitted_at = 0

    def fit(self, features: Features, numbers: Floats) -> None:
        """Condition on results, (n,); its hyperparameters are refitted as n grows by a quarter."""
        self._train = features
        self._mean, self._spread = float(numbers.mean()), float(max(numbers.std(), 1e-12))
        target = (numbers - self._mean) / self._spread
        if len(numbers) >= 1.25 * self._fitted_at:
            self._fitted_at = len(numbers)
            self._log = self._best_hyperparameters(features, target)
        kernel = self._kernel(features, features, self._log)
        kernel[np.diag_indices_from(kernel)] += 10.0 ** self._log[5] + 1e-8
        self._inverse = np.linalg.inv(np.linalg.cholesky(kernel))
        self._weights = self._inverse.T @ (self._inverse @ target)

    def mean(self, features: Features) -> Floats:
        """The expected numbers, (n,)."""
        expected = np.empty(len(features.choices))
        for start in range(0, len(expected), CHUNK):
            rows = slice(start, start + CHUNK)
            part = Features(features.choices[rows], features.sizes[rows])
            expected[rows] = self._kernel(part, self._train, self._log) @ self._weights
        return self._mean + self._spread * expected

    def draw(self, features: Features, count: int, *, rng: np.random.Generator) -> Floats:
        """Draws of the noiseless numbers of n architectures jointly, (count, n)."""
        cross = self._kernel(features, self._train, self._log)
        solved = self._inverse @ cross.T
        covariance = self._kernel(features, features, self._log) - solved.T @ solved
        covariance[np.diag_indices_from(covariance)] += 1e-6
        root = np.linalg.cholesky(covariance)
        drawn = cross @ self._weights + rng.standard_normal((count, len(cross))) @ root.T
        return self._mean + self._spread * drawn

    @staticmethod
    def _kernel(first: Features, second: Features, log: Floats) -> Floats:
        """Prior covariances, (n, m); written in place, for memory is what it costs."""
        choice, size, deviation, choice_scale, size_scale, _ = 10.0**log
        overlap = first.choices @ second.choices.T
        distance = _distance(first.choices, second.choices, product=overlap, scale=choice_scale)
        kernel = np.multiply(overlap, choice, out=overlap)
        if first.sizes.shape[1]:
            product = first.sizes @ second.sizes.T
            distance += _distance(first.sizes, second.sizes, product=product, scale=size_scale)
            # A polynomial of second order in the sizes: (1 + xy)² - 1.
            product *= (2.0 + product) * (0.5 * size / first.sizes.shape[1])
            kernel += product
        distance *= -0.5
        kernel += deviation * np.exp(distance, out=distance)
        return kernel

    def _best_hyperparameters(self, features: Features, target: Floats) -> Floats:
        """Coordinate search for the largest marginal likelihood, from the last ones found."""
        kept = np.linspace(0, len(target) - 1, min(len(target), FITTED_POINTS)).astype(int)
        part = Features(features.choices[kept], features.sizes[kept])
        best = self._log
        highest = self._likelihood(best, part, target[kept])
        for step in (1.0, 0.5, 0.25):
            for index in range(len(best)):
                for move in (-step, step):
                    trial = best.copy()
                    trial[index] = np.clip(trial[index] + move, LOWEST[index], HIGHEST[index])
                    likelihood = self._likelihood(trial, part, target[kept])
                    if likelihood > highest:
                        best, highest = trial, likelihood
        return best

    def _likelihood(self, log: Floats, features: Features, target: Floats) -> float:
        kernel = self._kernel(features, features, log)
        kernel[np.diag_indices_from(kernel)] += 10.0 ** log[5] + 1e-8
        try:
            root = np.linalg.cholesky(kernel)
        except np.linalg.LinAlgError:
            return -np.inf
        solved = np.linalg.solve(root, target)
        # A weak prior on each hyperparameter keeps a dozen points from driving it to its end.
        prior = 0.5 * float((((log - START) / 1.5) ** 2).sum())
        return float(-0.5 * solved @ solved - np.log(np.diag(root)).sum()) - prior


def _distance(first: Floats, second: Floats, *, product: Floats, scale: float) -> Floats:
    """Squared distances over scale², (n, m), given the inner products."""
    square = product * (-2.0 / scale**2)
    square += ((first / scale) ** 2).sum(axis=1)[:, None]
    square += ((second / scale) ** 2).sum(axis=1)
    return np.maximum(square, 0.0, out=square)
