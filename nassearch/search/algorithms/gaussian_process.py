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
from scipy.linalg.lapack import dtrtri

from nassearch.search.problem import Floats, Objective
from nassearch.space.search_space import Genes, SearchSpace

# log10 of: the variances of what choices add, pairs of them, the sizes and the deviation; the
# length scales of the deviation over choices and sizes; the variance of the noise where it is not
# known (variances in units of the standardised logarithms); how far the floor lies below the best,
# in ranges of losses; where noise is known, the share of its variance that tells results apart,
# and the variance of what is an architecture's own.
START = np.array([-1.0, -2.0, -0.5, -0.6, 0.5, 0.3, -1.5, 0.0, 0.0, -2.0])
LOWEST = np.array([-3.0, -4.0, -3.0, -4.0, -0.7, -0.7, -5.0, -1.0, -1.5, -5.0])
HIGHEST = np.array([1.5, 1.5, 1.5, 1.0, 1.0, 1.0, 0.3, 1.0, 0.0, 0.3])
PRIOR_SPREAD = np.array([1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 0.15, 1.5])
NOISE, FLOOR, SHARE, OWN = 6, 7, 8, 9
# Errors of a result that the floor lies below the best at least: with so many a logarithm is nearly
# straight over them, and as few will do once its tangents are taken.
STRAIGHT = 10.0
CLOSEST = 2.0
BEYOND = 10.0  # times the worst result's distance from the floor
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
    spread, of the architecture alone: a policy of precisions changes latency much and accuracy
    little, so sizes that followed it would promise accuracy for slowness.
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
        if self._space.policies is not None:
            genes = genes.copy()
            genes[:, self._space.policies.columns] = 0
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

    def fit(self, features: Features, losses: Floats, variances: Floats) -> None:
        """Condition on results, (n,), and the variances of their noise, NaN where not known.

        Hyperparameters are refitted as n grows by a quarter. A logarithm bends over the noise: an
        observation far below what is to be expected would say too much. So it is taken as a
        straight line around what is expected, which a first pass with a straighter one tells.
        """
        around = None
        if np.nanmax(variances, initial=0.0) > 0.0:
            self._condition(features, _Link.of(losses, variances, self._log))
            around = self.told_mean()
        if len(losses) >= 1.25 * self._fitted_at:
            self._fitted_at = len(losses)
            results = _Results(features, losses, variances, around)
            self._log = _best_hyperparameters(self._log, results)
        self._condition(features, _Link.of(losses, variances, self._log, around=around))

    def _condition(self, features: Features, link: "_Link") -> None:
        self._train, self._link = features, link
        kernel = _kernel(features, features, self._log)
        kernel[np.diag_indices_from(kernel)] += link.own + link.noise
        self._root = np.linalg.cholesky(kernel)
        half = solve_triangular(self._root, link.standardised, lower=True, check_finite=False)
        self._weights = solve_triangular(self._root, half, lower=True, trans=1, check_finite=False)

    def told_mean(self) -> Floats:
        """The expected losses of what was told, (told,)."""
        return self._link.losses(self._link.standardised - self._link.noise * self._weights)

    def told(self, deviations: Floats, *, after_one_more: bool = False) -> Floats:
        """The noiseless losses of what was told, so many standard deviations off, (k, told).

        `after_one_more` is that of `quantiles`: as much noise again is taken for what was told.
        """
        inverse, _ = dtrtri(self._root, lower=1)
        noise = self._link.noise
        variances = np.maximum(noise - noise**2 * (inverse**2).sum(axis=0), 1e-9)
        if after_one_more:
            variances = variances**2 / (variances + noise)
        expected = self._link.standardised - noise * self._weights
        return self._link.losses(expected + deviations[:, None] * np.sqrt(variances))

    @property
    def error(self) -> float:
        """The standard error that results typically have, in units of the loss."""
        return self._link.spread * float(np.sqrt(self._link.unit_noise))

    def mean(self, features: Features) -> Floats:
        """The expected losses of new architectures (medians, to be exact), (n,)."""
        expected = np.empty(len(features.choices))
        for start in range(0, len(expected), CHUNK):
            rows = slice(start, start + CHUNK)
            part = Features(features.choices[rows], features.sizes[rows])
            expected[rows] = _kernel(part, self._train, self._log) @ self._weights
        return self._link.losses(expected)

    def quantiles(
        self, features: Features, deviations: Floats, *, after_one_more: bool = False
    ) -> Floats:
        """The noiseless losses of new architectures, so many standard deviations off, (k, n).

        With `after_one_more` those are of the loss that will be *expected* once the architecture
        has been evaluated (once more): noise that hides what there is to learn narrows it.
        """
        cross = _kernel(features, self._train, self._log)
        solved = solve_triangular(self._root, cross.T, lower=True, check_finite=False)
        prior = _variances(features, self._log) + self._link.own
        variances = np.maximum(prior - (solved**2).sum(axis=0), 1e-9)
        expected = cross @ self._weights
        if after_one_more:
            variances = variances**2 / (variances + self._link.noise_at(expected))
        return self._link.losses(expected + deviations[:, None] * np.sqrt(variances))


@dataclass(frozen=True)
class _Results:
    """What a predictor learns from: features, losses and variances, (n,), and what is expected."""

    features: Features
    losses: Floats
    variances: Floats
    around: Floats | None

    def thinned(self, most: int) -> "_Results":
        """At most so many of them, evenly."""
        kept = np.linspace(0, len(self.losses) - 1, min(len(self.losses), most)).astype(int)
        return _Results(
            Features(self.features.choices[kept], self.features.sizes[kept]),
            self.losses[kept],
            self.variances[kept],
            None if self.around is None else self.around[kept],
        )


@dataclass(frozen=True)
class _Link:
    """Losses as standardised logarithms of what they have above a floor."""

    floor: float
    centre: float
    spread: float
    highest: float
    """A logarithm beyond all results, where an extrapolation is cut."""
    standardised: Floats
    """Of the results, (n,)."""
    noise: Floats
    """The variances of those, (n,). Nearer to the floor logarithms are the less certain."""
    own: float
    """The variance of what is an architecture's own."""
    log_slope: float
    """The logarithm of the density of losses over that of their standardised logarithms."""
    unit_noise: float
    """The typical variance of a result one (unit of loss) above the floor."""

    @classmethod
    def of(
        cls, losses: Floats, variances: Floats, log: Floats, *, around: Floats | None = None
    ) -> "_Link":
        """The link of results, (n,), a logarithm or its tangents `around` what is expected."""
        centres = losses if around is None else around
        known = ~np.isnan(variances)
        error = np.sqrt(10.0 ** log[SHARE] * np.median(variances[known])) if known.any() else 0.0
        closest = STRAIGHT if around is None else CLOSEST
        below = max(10.0 ** log[FLOOR] * float(np.ptp(centres)), closest * error, 1e-12)
        floor = float(centres.min()) - below
        above = centres - floor
        logarithms = np.log(above) + (losses - centres) / above
        centre, spread = float(logarithms.mean()), max(float(logarithms.std()), 1e-12)
        unknown = 10.0 ** log[NOISE] * above.mean() ** 2
        units = np.where(known, 10.0 ** log[SHARE] * variances / spread**2, unknown)
        noise = units / above**2 + 1e-8
        own = 0.0 if np.isnan(variances).all() else float(10.0 ** log[OWN])
        return cls(
            floor,
            centre,
            spread,
            float(np.log(BEYOND * above.max())),
            (logarithms - centre) / spread,
            noise,
            own,
            -float(np.log(above).sum()) - len(losses) * float(np.log(spread)),
            float(np.median(units)),
        )

    def losses(self, standardised: Floats) -> Floats:
        exponents = np.minimum(self.centre + self.spread * standardised, self.highest)
        return np.asarray(self.floor + np.exp(exponents))

    def noise_at(self, standardised: Floats) -> Floats:
        """The variances that results there would have."""
        return self.unit_noise * np.exp(-2 * (self.centre + self.spread * standardised)) + 1e-8


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


def _variances(features: Features, log: Floats) -> Floats:
    """The diagonal of the prior covariances, (n,)."""
    choice, curvature, size, deviation, _, _ = 10.0 ** log[:NOISE]
    square = (features.choices**2).sum(axis=1)
    variances = square * (choice + curvature * square) + deviation
    if features.sizes.shape[1]:
        product = (features.sizes**2).sum(axis=1)
        variances += product * (2.0 + product) * (0.5 * size / features.sizes.shape[1])
    return np.asarray(variances)


def _best_hyperparameters(log: Floats, results: _Results) -> Floats:
    """Coordinate search for the largest marginal likelihood, from the last ones found."""
    part = results.thinned(FITTED_POINTS)
    unknown = np.isnan(part.variances)
    idle = {NOISE} if not unknown.any() else {SHARE, OWN} if unknown.all() else set()
    if not part.variances.any():
        idle.add(SHARE)
    best, highest = log, _likelihood(log, part)
    for step in (1.0, 0.5, 0.25):
        for index in set(range(len(best))) - idle:
            for move in (-step, step):
                trial = best.copy()
                trial[index] = np.clip(trial[index] + move, LOWEST[index], HIGHEST[index])
                likelihood = _likelihood(trial, part)
                if likelihood > highest:
                    best, highest = trial, likelihood
    return best


def _likelihood(log: Floats, results: _Results) -> float:
    """The logarithm of the losses' probability density, and of the hyperparameters'."""
    link = _Link.of(results.losses, results.variances, log, around=results.around)
    kernel = _kernel(results.features, results.features, log)
    kernel[np.diag_indices_from(kernel)] += link.own + link.noise
    try:
        root = np.linalg.cholesky(kernel)
    except np.linalg.LinAlgError:
        return -np.inf
    solved = solve_triangular(root, link.standardised, lower=True, check_finite=False)
    density = -0.5 * float(solved @ solved) - float(np.log(np.diag(root)).sum())
    # A weak prior on each hyperparameter keeps a dozen points from driving it to its end.
    prior = -0.5 * float((((log - START) / PRIOR_SPREAD) ** 2).sum())
    return density + link.log_slope + prior
