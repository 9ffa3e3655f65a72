"""Evaluation on Ray actors, each holding what evaluation needs (a supernet, the batches) once.

Ray is imported by `Workers` alone, so a search without workers does not pay for it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from nassearch import cluster
from nassearch.errors import SearchError
from nassearch.provenance import Estimate
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import ToBeat
from nassearch.space.architecture import Architecture

Measure = Callable[[Architecture, Mapping[str, float]], Mapping[str, Estimate]]

ATTEMPTS = 3


class Workers:
    """A pool of actors that follows the runner's Evaluate protocol.

    `factory` runs once in each actor and returns what measures one architecture, given the numbers
    to beat; it must be picklable. An architecture whose worker died is evaluated by a new one, at
    most three times. Each worker has an equal share of the cluster's GPUs. A context manager:
    leaving it ends the actors, and Ray where it was started here.

    Raises ClusterError where the address does not answer within 10 s.
    """

    def __init__(
        self, factory: Callable[[], Measure], *, workers: int, address: str | None = None
    ) -> None:
        if workers < 1:
            raise SearchError(f"{workers} are too few", where="workers", fix="give 1 or more")
        self._cluster = ExitStack()
        ray = self._cluster.enter_context(cluster.connected(workers=workers, address=address))
        self._ray = ray
        self._factory = factory
        gpus = ray.cluster_resources().get("GPU", 0.0) / workers
        self._actor_class = ray.remote(num_cpus=1, num_gpus=gpus)(_Actor)
        self.actors: list[Any] = [self._actor_class.remote(factory) for _ in range(workers)]

    def __call__(
        self,
        architectures: Iterable[Architecture],
        *,
        to_beat: ToBeat,
        known: Callable[[Architecture], Mapping[str, Estimate] | None] = lambda _: None,
    ) -> Iterator[Candidate]:
        """Evaluate all and yield each as it is done, in the order they end.

        What is `known` already is yielded at once, and no worker's.
        """
        coming = iter(architectures)
        again: list[tuple[Architecture, int]] = []
        idle = list(range(len(self.actors)))
        running: dict[Any, tuple[int, Architecture, int]] = {}
        while True:
            while idle:
                architecture, attempt = again.pop() if again else (next(coming, None), 1)
                if architecture is None:
                    break
                if attempt == 1 and (values := known(architecture)) is not None:
                    yield Candidate(architecture, values)
                    continue
                place = idle.pop(0)
                needed = dict(to_beat(architecture))
                reference = self.actors[place].measure.remote(architecture, needed)
                running[reference] = (place, architecture, attempt)
            if not running:
                return
            (reference, *_), _ = self._ray.wait(list(running), num_returns=1)
            place, architecture, attempt = running.pop(reference)
            idle.append(place)
            try:
                values = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                if attempt == ATTEMPTS:
                    raise SearchError(
                        f"{ATTEMPTS} workers died on it ({error})",
                        where=f"architecture {architecture.id}",
                        fix="give fewer --workers, so that each has more memory; then --resume",
                    ) from error
                self.actors[place] = self._actor_class.remote(self._factory)
                again.append((architecture, attempt + 1))
            else:
                yield Candidate(architecture, values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for actor in self.actors:
            self._ray.kill(actor)
        self._cluster.close()


class _Actor:
    """An actor, which lives in a worker's process."""

    def __init__(self, factory: Callable[[], Measure]) -> None:
        self._measure = factory()

    def measure(self, architecture: Architecture, to_beat: dict[str, float]) -> dict[str, Estimate]:
        return dict(self._measure(architecture, to_beat))
