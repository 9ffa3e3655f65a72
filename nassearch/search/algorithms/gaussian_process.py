"""GenePredictor: an expensive objective predicted from genes, learned from a few dozen results.

A Gaussian process whose prior says what is known of such spaces: the logarithm of what a loss still
has above the lowest there can be is close to additive in the choices of the blocks that exist,
equal choices of a stage and of the whole network act alike, it follows the size of the network
smoothly, and it deviates from all that a little. Its posterior draws are the ensemble a search
chooses by. Written out here because its kernel works on groups of features by matrix products:
scikit-learn's is an order of magnitude slower on the tens of thousands of predictions of an inner
search.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from nassearch.search.problem import Floats, Objective
from nassearch.space.search_space import Genes, SearchSpace

# log10 of: the variances of what choices add, pairs of them, the sizes and the deviation; the
# length scales of the deviation over choices and sizes; the variance of the noise (variances in
# units of the standardised logarithms); how far the floor lies below the best, in ranges of losses.
START = np.array([0.0, -1.5, 0.0, -0.5, 0.0, 0.0, -1.5, 0.0])
LOWEST = np.array([-3.0, -4.0, -3.0, -4.0, -0.7, -0.7, -5.0, -1.0])
HIGHEST = np.array([1.5, 1.5, 1.5, 1.0, 1.0, 1.0, 0.3, 1.0])
NOISE, FLOOR = 6, 7
FITTED_POINTS = 240
CHUNK = 1024  # rows predicted at once: their kernel stays in cache


@dataclass(frozen=True)
class Features:
    """Of n architectures: choices (n, choices) and sizes (n, cheap objectives), centred."""

    choices: Floats
    sizes: Floats


class Featuriser:
    """Genes to features.

    Choices are one-hot for each gene that says something, its rank 0..1 among the gene's choices,
    and sums of such ranks over a stage and over the network: a kernel linear in them lets a gene
    borrow what is known of its like. Sizes are logarithms of the cheap objectives, scaled to unit
    spread.
    """

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
        names = [gene.name for gene in space.genes]
        in_stage = [re.sub(r"\.blocks\[\d+\]", "", name) for name in names]
        in_network = [name.rpartition(".")[2] for name in names]
        self._pools = np.hstack([_membership(in_stage), _membership(in_network)])
        sample = space.sample_genes(np.random.default_rng(0), 512)
        choices, sizes = self._choices(sample), self._sizes(sample)
        self._centre, self._mean = choices.mean(axis=0), sizes.mean(axis=0)
        self._spread = np.maximum(sizes.std(axis=0), 1e-9)

    def __call__(self, genes: Genes) -> Features:
        """The features of canonical gene vectors, (n, genes)."""
        choices, sizes = self._choices(genes), self._sizes(genes)
        return Features(choices - self._centre, (sizes - self._mean) / self._spread)

    def _choices(self, genes: Genes) -> Floats:
        active = self._active(genes)
        hot = [
            (genes[:, [index]] == np.arange(count)) & active[:, [index]]
            for index, count in enumerate(self._counts)
        ]
        ranks = genes * active / np.maximum(np.array(self._counts) - 1.0, 1.0)
        columns = np.concatenate([*hot, ranks, ranks @ self._pools], axis=1)
        return columns / np.sqrt(max(1, len(self._counts)))

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


def _membership(groups: Sequence[str]) -> Floats:
    """One-hot rows of the groups, (len(groups), different groups)."""
    different = list(dict.fromkeys(groups))
    return np.array([[float(name == group) for group in different] for name in groups]).reshape(
        len(groups), len(different)
    )


class GenePredictor:
    """A Gaussian process over features (Rasmussen & Williams 2006, algorithm 2.1)."""

    def __init__(self) -> None:
        self._log = START.copy()
        self._fitted_at = 0

    def fit(self, features: Features, losses: Floats) -> None:
        """Condition on results, (n,); its hyperparameters are refitted as n grows by a quarter."""
        if len(losses) >= 1.25 * self._fitted_at:
            self._fitted_at = len(losses)
            self._log = _best_hyperparameters(self._log, features, losses)
        self._train = features
        self._floor, logarithms, noise = _link(losses, self._log)
        self._mean, self._spread = logarithms.mean(), max(logarithms.std(), 1e-12)
        kernel = _kernel(features, features, self._log)
        kernel[np.diag_indices_from(kernel)] += noise
        self._root = np.linalg.cholesky(kernel)
        target = (logarithms - self._mean) / self._spread
        half = solve_triangular(self._root, target, lower=True, check_finite=False)
        self._weights = solve_triangular(self._root, half, lower=True, trans=1, check_finite=False)

    def mean(self, features: Features) -> Floats:
        """The expected losses (medians, to be exact), (n,)."""
        expected = np.empty(len(features.choices))
        for start in range(0, len(expected), CHUNK):
            rows = slice(start, start + CHUNK)
            part = Features(features.choices[rows], features.sizes[rows])
            expected[rows] = _kernel(part, self._train, self._log) @ self._weights
        return self._losses(expected)

    def draw(self, features: Features, count: int, *, rng: np.random.Generator) -> Floats:
        """Draws of the noiseless losses of n architectures jointly, (count, n)."""
        cross = _kernel(features, self._train, self._log)
        solved = solve_triangular(self._root, cross.T, lower=True, check_finite=False)
        covariance = _kernel(features, features, self._log) - solved.T @ solved
        covariance[np.diag_indices_from(covariance)] += 1e-6
        root = np.linalg.cholesky(covariance)
        drawn = cross @ self._weights + rng.standard_normal((count, len(cross))) @ root.T
        return self._losses(drawn)

    def _losses(self, standardised: Floats) -> Floats:
        return np.asarray(self._floor + np.exp(self._mean + self._spread * standardised))


def _link(losses: Floats, log: Floats) -> tuple[float, Floats, Floats]:
    """The floor, the logarithms of the losses above it, and the variances of their noise, (n,).

    The noise is that of the losses: nearer to the floor their logarithms are the less certain.
    """
    above = losses - losses.min() + 10.0 ** log[FLOOR] * max(float(np.ptp(losses)), 1e-12)
    variances = 10.0 ** log[NOISE] * (above.mean() / above) ** 2 + 1e-8
    return float(losses[0] - above[0]), np.log(above), variances


def _kernel(first: Features, second: Features, log: Floats) -> Floats:
    """Prior covariances, (n, m); written in place, for memory is what it costs."""
    choice, curvature, size, deviation, choice_scale, size_scale = 10.0 ** log[:NOISE]
    overlap = first.choices @ second.choices.T
    distance = _distance(first.choices, second.choices, product=overlap, scale=choice_scale)
    kernel = overlap * curvature
    kernel += choice
    kernel *= overlap
    if first.sizes.shape[1]:
        product = first.sizes @ second.sizes.T
        distance += _distance(first.sizes, second.sizes, product=product, scale=size_scale)
        # A polynomial of second order in the sizes: (1 + xy)² - 1.
        product *= (2.0 + product) * (0.5 * size / first.sizes.shape[1])
        kernel += product
    distance *= -0.5
    kernel += deviation * np.exp(distance, out=distance)
    return kernel


def _distance(first: Floats, second: Floats, *, product: Floats, scale: float) -> Floats:
    """Squared distances over scale², (n, m), given the inner products."""
    square = product * (-2.0 / scale**2)
    square += ((first / scale) ** 2).sum(axis=1)[:, None]
    square += ((second / scale) ** 2).sum(axis=1)
    return np.maximum(square, 0.0, out=square)


def _best_hyperparameters(log: Floats, features: Features, losses: Floats) -> Floats:
    """Coordinate search for the largest marginal likelihood, from the last ones found."""
    kept = np.linspace(0, len(losses) - 1, min(len(losses), FITTED_POINTS)).astype(int)
    part = Features(features.choices[kept], features.sizes[kept])
    best, highest = log, _likelihood(log, part, losses[kept])
    for step in (1.0, 0.5, 0.25):
        for index in range(len(best)):
            for move in (-step, step):
                trial = best.copy()
                trial[index] = np.clip(trial[index] + move, LOWEST[index], HIGHEST[index])
                likelihood = _likelihood(trial, part, losses[kept])
                if likelihood > highest:
                    best, highest = trial, likelihood
    return best


def _likelihood(log: Floats, features: Features, losses: Floats) -> float:
    """The logarithm of the losses' probability density, and of the hyperparameters'."""
    _, logarithms, noise = _link(losses, log)
    spread = max(float(logarithms.std()), 1e-12)
    kernel = _kernel(features, features, log)
    kernel[np.diag_indices_from(kernel)] += noise
    try:
        root = np.linalg.cholesky(kernel)
    except np.linalg.LinAlgError:
        return -np.inf
    target = (logarithms - logarithms.mean()) / spread
    solved = solve_triangular(root, target, lower=True, check_finite=False)
    density = -0.5 * float(solved @ solved) - float(np.log(np.diag(root)).sum())
    # The density of a loss is that of its standardised logarithm times the slope between them.
    slope = float(logarithms.sum()) + len(losses) * np.log(spread)
    # A weak prior on each hyperparameter keeps a dozen points from driving it to its end.
    prior = -0.5 * float((((log - START) / 1.5) ** 2).sum())
    return density - slope + prior
