"""Timing that survives a shared machine.

What is compared is interleaved: in every round each network runs a short burst, and between the
bursts a fixed reference network runs whose drift from round to round is divided out.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nassearch.latency.setting import Floats, Runtime
from nassearch.latency.table import Measurement
from nassearch.networks import Subnet
from nassearch.space import BlockSpec

BURST = 3
MIN_ROUNDS = 5
_CHOICES = (("kernel_size", 3), ("expand_ratio", 4), ("activation", "relu"))

# The reference workload: the same small network on every device and in every version.
REFERENCE = (
    BlockSpec("conv", 3, 16, 32, 1, (("kernel_size", 3), ("activation", "relu"))),
    BlockSpec("mbconv", 16, 24, 32, 2, _CHOICES),
    BlockSpec("mbconv", 24, 24, 16, 1, _CHOICES),
    BlockSpec("mbconv", 24, 48, 16, 2, _CHOICES),
    BlockSpec("head", 48, 10, 8, 1, ()),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """`samples_ms`, (subjects, rounds, burst), drift divided out; `reference_ms`, (rounds,)."""

    samples_ms: Floats
    reference_ms: Floats

    @property
    def drift(self) -> Floats:
        """How much slower than its own median the machine was in each round."""
        return self.reference_ms / np.median(self.reference_ms)

    @property
    def reference(self) -> float:
        """Median milliseconds of the reference network."""
        return float(np.median(self.reference_ms))

    @property
    def noise_floor(self) -> float:
        """Mean relative difference between the first and the second half of the rounds."""
        half = self.samples_ms.shape[1] // 2
        first = np.median(self.samples_ms[:, :half], axis=(1, 2))
        second = np.median(self.samples_ms[:, half:], axis=(1, 2))
        return float(np.mean(np.abs(first / second - 1)))

    def measurements(self, *, reference_ms: float | None = None) -> list[Measurement]:
        """One for each subject.

        Given the reference network's time in another session (a table's header), the latencies are
        those of that session: what the machine is slower or faster today is divided out.
        """
        scale = 1.0 if reference_ms is None else reference_ms / self.reference
        return [measurement(samples * scale) for samples in self.samples_ms]


def measurement(samples_ms: Floats) -> Measurement:
    """Median, 10th and 90th percentile of samples of any shape."""
    low, median, high = np.percentile(samples_ms, (10, 50, 90))
    return Measurement(float(median), float(low), float(high), int(samples_ms.size))


def interleave(
    subjects: Sequence[Callable[[], float]],
    runtime: Runtime,
    *,
    seconds: float,
    max_rounds: int = 200,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Timing:
    """Time `subjects`, each a call that runs once and returns its milliseconds, for `seconds`.

    At least five rounds are run, however long they take. The first run of every burst finds cold
    caches and is not counted.
    """
    reference = runtime.load(Subnet(REFERENCE).eval())
    for run in (reference.run_ms, *subjects):
        for _ in range(BURST):
            run()
    start = time.monotonic()
    rounds: list[list[list[float]]] = []
    references: list[float] = []
    while len(rounds) < max_rounds:
        elapsed = time.monotonic() - start
        if len(rounds) >= MIN_ROUNDS and elapsed >= seconds:
            break
        progress(min(1.0, max(elapsed / max(seconds, 1e-9), len(rounds) / max_rounds)))
        row, marks = [], []
        for subject in subjects:
            # warm: how fast the machine is, not how much of the cache the subjects take
            marks.append(min(reference.run_ms() for _ in range(BURST)))
            subject()
            row.append([subject() for _ in range(BURST)])
        rounds.append(row)
        references.append(float(np.median(marks)))
    progress(1.0)
    timing = Timing(np.array(rounds).transpose(1, 0, 2), np.array(references))
    return Timing(timing.samples_ms / timing.drift[None, :, None], timing.reference_ms)
