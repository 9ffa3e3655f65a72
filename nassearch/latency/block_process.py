"""A Gaussian process over blocks: what physical quantities leave unexplained of their times.

A block deviates in proportion to what it is expected to take. The covariance of two blocks'
deviations has four parts, whose shares leave-one-out tells: blocks that are alike, or much alike,
deviate alike; blocks alike that run at the same resolution share how well it suits the device; and
a block that is the same deviates the same wherever it stands. What one block was measured to take
in many networks is so known as well as it was measured, while its neighbours learn from it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from nassearch.latency.block_features import Indices, squared_distances
from nassearch.runtimes.runtime import Floats
from nassearch.space import BlockSpec

_NEARER = 9.0  # times the squared distance: much alike is a third of the length scale
_COLUMN_VARIANCE = 0.1  # what a share of a quantity is likely to be off by, squared
_FREEDOM = 4.0  # of the logarithms of variances about where they begin, one standard deviation
_RANGE = 14.0  # either way, at the most; of the physical quantities' a fifth
_TAIL = 2.0  # degrees of freedom of Student's t, by which a disturbed measurement loses weight
_ROUNDS = (25, 8, 8)  # of descent, between which measurements are weighed anew
_MAX_DESCENT = 300  # networks that variances are sought on; more tell the blocks, not the variances
_MORE_ROUNDS = (0, 0, 6, 0, 6, 0)  # on all of them, beginning from there
_MIN_SPREAD = 3e-5  # less, and rounding in the covariance's inverse would be as large
_JITTERS = (1e-15, 1e-12, 1e-9, 1e-6)  # of the trace, until rounding is no more in the way


def covariances(blocks: Sequence[BlockSpec], some: Indices) -> list[Floats]:
    """The parts of the covariance of blocks' deviations with those of some, (blocks, some) each."""
    distances = squared_distances(blocks, some)
    alike = np.exp(-0.5 * distances)
    resolutions = np.array([spec.run_resolution for spec in blocks])
    same_resolution = resolutions[:, None] == resolutions[some]
    near = np.exp(-0.5 * _NEARER * distances)
    same = (np.arange(len(blocks))[:, None] == some).astype(np.float64)
    return [alike, near, alike * same_resolution, same]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a fit sees of networks: relative errors, and their covariance for unit variances.

    `target`, (n,), is what is to be explained. `parts` are covariances of networks, (n, n) each:
    those of the physical quantities first, then of their blocks' deviations.
    """

    target: Floats
    parts: tuple[Floats, ...]

    def of(self, rows: Indices) -> "Evidence":
        """That of some of the networks."""
        return Evidence(self.target[rows], self.across(rows, rows))

    def across(self, rows: Indices, others: Indices) -> tuple[Floats, ...]:
        """Covariances of some networks with others, by part."""
        return tuple(part[np.ix_(rows, others)] for part in self.parts)


@dataclass(frozen=True, slots=True)
class Process:
    """A fitted process: a variance for each of the evidence's parts, the measurements' noise.

    `solved`, (n,), are the weights of networks in a prediction; `residuals` those of leave-one-out;
    `weights` say how much each measurement counts.
    """

    variances: Floats
    noise: float
    solved: Floats
    residuals: Floats
    weights: Floats

    def predict(self, across: Sequence[Floats]) -> Floats:
        """Targets of other networks, from their covariances with the fitted ones, by part."""
        total = sum(v * part for v, part in zip(self.variances, across, strict=True))
        return np.asarray(total @ self.solved)


def fit_process(evidence: Evidence, *, residuals: Floats, columns: int) -> Process:
    """The process whose leave-one-out predictions make the measurements most likely.

    Rasmussen and Williams (2006), section 5.4.2, with a measurement that lies far off counted for
    less (Student's t by reweighting), found by descent in the logarithms of all variances.

    Args:
        evidence: What is seen of the networks.
        residuals: Those of a simpler fit, which say where to begin.
        columns: How many physical quantities there are.
    """
    count = len(residuals)
    spread = _spread(residuals) ** 2
    others = len(evidence.parts) - 1
    start = np.log([spread, _COLUMN_VARIANCE / columns, *[spread] * others])
    # threads of linear algebra wait for one another, on a busy machine most of the time
    with threadpool_limits(limits=1, user_api="blas"):
        if count <= _MAX_DESCENT:
            return _descend(evidence, _weights(residuals), start, start, _ROUNDS)
        some = np.random.default_rng(0).permutation(count)[:_MAX_DESCENT]
        first = _descend(evidence.of(some), _weights(residuals)[some], start, start, _ROUNDS)
        logs = np.log([first.noise, *first.variances])
        return _descend(evidence, _weights(residuals), logs, start, _MORE_ROUNDS)


def _descend(
    evidence: Evidence, weights: Floats, logs: Floats, prior: Floats, rounds: Sequence[int]
) -> Process:
    """The process of least loss from `logs` on, measurements weighed anew after each round."""
    process = _solve(logs, evidence, weights)
    bounds = [(value - _RANGE, value + _RANGE) for value in prior]
    bounds[0] = (2 * np.log(_MIN_SPREAD), bounds[0][1])
    bounds[1] = (bounds[1][0], prior[1] + _RANGE / 5)
    for number, steps in enumerate(rounds):
        if number > 0:
            weights = _weights(process.residuals)
        if steps > 0:
            logs = minimize(
                _loss,
                logs,
                args=(evidence, weights, prior),
                jac=True,
                method="L-BFGS-B",
                bounds=bounds,
                options={"maxiter": steps},
            ).x
        process = _solve(logs, evidence, weights)
    return process


def _spread(residuals: Floats) -> float:
    return max(_MIN_SPREAD, 1.4826 * float(np.median(np.abs(residuals))))


def _weights(residuals: Floats) -> Floats:
    squares = (residuals / _spread(residuals)) ** 2
    return np.asarray(np.minimum(1.0, (_TAIL + 1) / (_TAIL + squares)))


def _inverse(matrix: Floats) -> Floats:
    """Of a positive definite matrix; where rounding made it none, of it with a little more."""
    trace = float(np.trace(matrix))
    for jitter in _JITTERS:
        root, problem = lapack.dpotrf(matrix + jitter * trace * np.eye(len(matrix)), lower=1)
        if not problem:
            break
    lower, _ = lapack.dpotri(root, lower=1)
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def _covariance(logs: Floats, evidence: Evidence, weights: Floats) -> Floats:
    variances = np.exp(logs)
    total = sum(v * part for v, part in zip(variances[1:], evidence.parts, strict=True))
    return np.asarray(total + np.diag(variances[0] / weights))


def _solve(logs: Floats, evidence: Evidence, weights: Floats) -> Process:
    inverse = _inverse(_covariance(logs, evidence, weights))
    solved = inverse @ evidence.target
    variances = np.exp(logs)
    return Process(variances[1:], float(variances[0]), solved, solved / np.diag(inverse), weights)


def _loss(logs: Floats, evidence: Evidence, weights: Floats, prior: Floats) -> tuple[float, Floats]:
    """Minus twice the mean logarithm of the leave-one-out density, and its gradient.

    With A the inverse covariance, s = A t and d its diagonal, each term is s^2 / d - log d. Through
    A the derivative by the covariance is -A G A with G that by A, the same for every variance.
    """
    count = len(weights)
    variances = np.exp(logs)
    inverse = _inverse(_covariance(logs, evidence, weights))
    solved, diagonal = inverse @ evidence.target, np.diag(inverse)
    loss = float(np.mean(solved**2 / diagonal - np.log(diagonal)))
    by_solved = 2 * solved / diagonal / count
    by_diagonal = -(1 / diagonal + (solved / diagonal) ** 2) / count
    turned = inverse @ by_solved
    both = np.outer(turned, solved)
    slope = -(0.5 * (both + both.T) + (inverse * by_diagonal) @ inverse)
    gradient = np.array(
        [
            np.sum(np.diag(slope) * variances[0] / weights),
            *(
                v * np.sum(slope * part)
                for v, part in zip(variances[1:], evidence.parts, strict=True)
            ),
        ]
    )
    away = (logs - prior) / _FREEDOM
    return loss + float(np.sum(away**2)) / count, gradient + 2 * away / _FREEDOM / count
