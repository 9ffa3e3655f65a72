"""The half-width of intervals, from errors of networks that the prediction did not see."""

import numpy as np

from nassearch.runtimes.runtime import Floats

REPEATABLE = 1e-4  # no clock repeats better; below, what a fit rounds would decide
COVERAGE = 0.9
_FURTHEST = 0.9  # of a measurement that a prediction falls short by, for what is none at all
MIN_RANKED_NETWORKS = 60  # from which the interval is told by rank: 3.9 points of coverage, 1 sd


def misses(residuals: Floats) -> Floats:
    """How far predictions lie off, (n,), from residuals 1 - prediction / measurement.

    As factors less one, the way an interval is written: a measurement is within prediction / (1 +
    h) and prediction x (1 + h) where its miss is at most h. A prediction a fifth too low needs a
    quarter on top.
    """
    low = np.minimum(residuals, _FURTHEST)
    return np.where(residuals > 0, low / (1 - low), -residuals)


def half_width(sizes: Floats) -> float:
    """What nine in ten misses of further networks stay below, from the sizes of n networks'.

    From 60 networks on it is the conformal quantile (Vovk et al., 2005): nine in ten are covered on
    average whatever the errors look like, as long as the networks were drawn like those they are
    compared with. Of fewer that rank is the largest error or the one below it, and as uncertain.
    There the sizes of errors are taken to fall off exponentially, of which all n tell the scale;
    the size of the next one exceeds q with probability (1 + q / (n mean))^-n (the scale is not
    known better than n errors tell it). Fits that share most of their networks err alike, so n is
    taken to be two thirds of them.
    """
    sizes = np.sort(sizes)
    count = len(sizes)
    if count < MIN_RANKED_NETWORKS:
        independent = count / 1.5
        return float(independent * ((1 - COVERAGE) ** (-1 / independent) - 1) * np.mean(sizes))
    return float(sizes[min(count, int(np.ceil((count + 1) * COVERAGE))) - 1])


def repeatability(measured_ms: Floats) -> float:
    """What these measurements are uncertain by at the least, a share: they were written with so
    many decimals, and no clock repeats better than `REPEATABLE`.
    """
    places = next((n for n in range(9) if np.allclose(measured_ms, measured_ms.round(n), 1e-12)), 9)
    return max(REPEATABLE, 0.5 * 10.0**-places / float(np.median(measured_ms)))
