"""Timing that survives a shared machine.

What is compared is interleaved: in every round each network runs a short burst. A machine that is
slower in one round than in another is so for every network, so each network's drift is what the
others took in that round, and is divided out. Reference networks run in the same rounds; sessions
of different hours are put on one clock through them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nassearch.latency.measurement import Measurement
from nassearch.latency.table import LatencyTable
from nassearch.networks import Subnet
from nassearch.runtimes.runtime import Floats, Runtime
from nassearch.space import Architecture, SearchSpace

BURST = 3
MIN_ROUNDS = 5
MAX_DRIFT = 1.5  # beyond it the machine is another one, or not at rest: that is no drift
POLISHINGS = 2
# Of a normal distribution: a median's standard error in those of a mean; half of 16 % to 84 %.
_MEDIAN_ERROR, _SIGMAS = 1.2533, (16, 84)

Run = Callable[[], float]
"""Runs a network once and returns its milliseconds."""


@dataclass(frozen=True, slots=True)
class Timing:
    """`samples_ms`, (subjects, rounds, burst), and `references_ms`, (references, rounds, burst),
    with the drift divided out; `drift`, (rounds,): how much slower than its own median the machine
    was in each round; `stopped`: by the target, the time or the rounds.
    """

    samples_ms: Floats
    references_ms: Floats
    drift: Floats
    stopped: str = "time"

    @classmethod
    def of_rounds(
        cls, rounds: Sequence[object] | Floats, num_references: int, *, stopped: str = "time"
    ) -> "Timing":
        """From milliseconds as they were taken: (rounds, references then subjects, burst).

        They are a network's own median times the drift of the round (Tukey's median polish, with
        each network left out of its own drift).
        """
        every = np.array(rounds, dtype=np.float64).transpose(1, 0, 2)
        bursts = np.median(every, axis=2)
        drift = np.ones_like(bursts)
        for _ in range(POLISHINGS if len(every) > 1 else 0):
            relative = bursts / np.median(bursts / drift, axis=1, keepdims=True)
            drift = np.array(
                [np.median(np.delete(relative, row, axis=0), axis=0) for row in range(len(every))]
            )
            drift /= np.median(drift, axis=1, keepdims=True)
        steady = every / drift[:, :, None]
        common = np.median(drift, axis=0)
        return cls(steady[num_references:], steady[:num_references], common, stopped)

    def part(self, subjects: slice) -> "Timing":
        """The timing of some of the subjects, of one kind, beside the same references.

        What drift they have in common beyond that of all is divided out as well: measured, runs
        under a profiler were 15 % faster for a while in which those without it were none.
        """
        own = Timing.of_rounds(self.samples_ms[subjects].transpose(1, 0, 2), 0)
        return replace(self, samples_ms=own.samples_ms, drift=self.drift * own.drift)

    def with_references(self) -> "Timing":
        """The references are subjects, too, the first ones."""
        return replace(self, samples_ms=np.concatenate([self.references_ms, self.samples_ms]))

    @property
    def medians_ms(self) -> Floats:
        """(subjects,)."""
        return np.median(self.samples_ms, axis=(1, 2))

    @property
    def reference(self) -> float:
        """Milliseconds of the reference networks, the geometric mean of their medians."""
        medians = np.median(self.references_ms, axis=(1, 2))
        return float(np.exp(np.mean(np.log(medians)))) if len(medians) else 1.0

    @property
    def noise_floor(self) -> float:
        """Mean relative difference between the first and the second half of the rounds."""
        half = self.samples_ms.shape[1] // 2
        first = np.median(self.samples_ms[:, :half], axis=(1, 2))
        second = np.median(self.samples_ms[:, half:], axis=(1, 2))
        return float(np.mean(np.abs(first / second - 1)))

    @property
    def standard_error(self) -> float:
        """Relative standard error of a subject's median, the mean over subjects."""
        return standard_error(np.median(self.samples_ms, axis=2))

    def measurements(self, *, reference_ms: float | None = None) -> list[Measurement]:
        """One for each subject.

        Given the reference networks' time in another session, the latencies are those of that
        session: what the machine is slower or faster today is divided out.
        """
        scale = 1.0 if reference_ms is None else reference_ms / self.reference
        return [measurement(samples * scale) for samples in self.samples_ms]


def drift_problem(drift: float | None) -> str | None:
    """Why a latency measured now cannot be compared with one measured before; None where it can.

    Args:
        drift: How many times longer the reference networks take now than they took then.
    """
    if drift is None or 1 / MAX_DRIFT <= drift <= MAX_DRIFT:
        return None
    if drift <= 0 or not np.isfinite(drift):
        return f"a drift of {drift:g} is none"
    factor, kind = (drift, "slower") if drift > 1 else (1 / drift, "faster")
    return (
        f"this machine is {factor:.2f} times {kind} than when the latency was promised"
        f" (up to {MAX_DRIFT:g} is divided out)"
    )


def load_slope(ratios: Floats, positions: npt.NDArray[np.int64]) -> float:
    """How much the order of loading shows in `ratios`, (n,), of measured and expected times: the
    change of their logarithm from one of `positions` to the next.

    A process gets memory whose pages differ: the same network loaded 24 times ran 3 % faster the
    last time than the first, and stayed so. The median slope of all pairs (Theil, 1950; Sen, 1968).
    """
    first, second = np.triu_indices(len(ratios), 1)
    logs = np.log(ratios)
    steps = positions[second] - positions[first]
    return float(np.median((logs[second] - logs[first]) / steps)) if len(first) else 0.0


def standard_error(rounds_ms: Floats) -> float:
    """Relative standard error of the median over rounds, the mean over the rows of (n, rounds)."""
    low, high = np.percentile(rounds_ms, _SIGMAS, axis=1)
    spread = (high - low) / 2 / np.median(rounds_ms, axis=1)
    return float(np.mean(_MEDIAN_ERROR * spread / np.sqrt(rounds_ms.shape[1])))


def measurement(samples_ms: Floats) -> Measurement:
    """Median, 10th and 90th percentile of samples of any shape."""
    low, median, high = np.percentile(samples_ms, (10, 50, 90))
    return Measurement(float(median), float(low), float(high), int(samples_ms.size))


def reference_networks(space: SearchSpace) -> list[Architecture]:
    """The networks that put sessions on one clock: the smallest, the largest and three between.

    How much a network suffers from what else a machine does depends on its size and shape, so
    networks of another kind would tell another drift (measured: 17 % for one of 0.15 ms where
    those of 5 to 15 ms were slowed down by 7 to 13 %). Of a mixed space they are twelve between:
    its ends are all in one precision, and drifted otherwise than the rest (measured: by 5 and 8 %).
    """
    rng = np.random.default_rng(0)
    between = space.sample_many(rng, 3)
    if space.policies is not None:
        between += space.sample_many(rng, 9)
    return list(dict.fromkeys([space.smallest, space.largest, *between]))


def reference_ms(table: LatencyTable, space: SearchSpace) -> float | None:
    """What `Timing.reference` was when `space` was profiled; None where it was not, or elsewhere.

    This is the clock that the rows of the table tell.
    """
    return table.geometric_mean_ms(space, reference_networks(space))


def references(space: SearchSpace, runtime: Runtime) -> list[Run]:
    """The reference networks of `space`, loaded."""
    networks = [Subnet.of(space, architecture).eval() for architecture in reference_networks(space)]
    return [runtime.load(network).run_ms for network in networks]


def interleave(
    subjects: Sequence[Run],
    *,
    references: Sequence[Run] = (),
    seconds: float,
    target_error: float = 0.0,
    max_rounds: int = 200,
    progress: Callable[[float], None] = lambda fraction: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Timing:
    """Time `subjects` for `seconds`, or until their standard error is below `target_error`.

    At least five rounds are run, however long they take. The first run of every burst finds cold
    caches and is not counted. Where `interrupted()`, timing stops after the round under way; with
    fewer than five rounds it says nothing, and KeyboardInterrupt is raised.
    """
    every = (*references, *subjects)
    for run in (*every, *every):
        run()
    start = time.monotonic()
    rounds: list[list[list[float]]] = []
    order = np.random.default_rng(0)
    stopped = "rounds"
    while len(rounds) < max_rounds:
        elapsed = time.monotonic() - start
        if interrupted():
            if len(rounds) < MIN_ROUNDS:
                raise KeyboardInterrupt
            stopped = "interrupted"
            break
        if len(rounds) >= MIN_ROUNDS:
            if elapsed >= seconds:
                stopped = "time"
                break
            if (
                target_error
                and Timing.of_rounds(rounds, len(references)).standard_error < target_error
            ):
                stopped = "target"
                break
        progress(min(1.0, max(elapsed / max(seconds, 1e-9), len(rounds) / max_rounds)))
        row: dict[int, list[float]] = {}
        # in another order each round, so that no network always follows the same one
        for index in order.permutation(len(every)):
            every[index]()
            row[index] = [every[index]() for _ in range(BURST)]
        rounds.append([row[index] for index in range(len(every))])
    progress(1.0)
    return Timing.of_rounds(rounds, len(references), stopped=stopped)
