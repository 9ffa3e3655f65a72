"""Ray, where work is asked to run on several processes or machines; imported by nobody else."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nassearch.errors import ClusterError

ANSWER_S = 10.0


@contextmanager
def connected(*, workers: int, address: str | None = None) -> Iterator[Any]:
    """The `ray` module, joined to the cluster at `address`, or to one of `workers` cores here.

    A cluster that was started here ends with the block. Raises ClusterError where the address does
    not answer within 10 s.
    """
    if address is not None and address != "auto":
        _knock(address)
    import ray

    started = not ray.is_initialized()
    if started:
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=address,
                num_cpus=workers if address is None else None,
                log_to_driver=False,
                logging_level="error",
                include_dashboard=False if address is None else None,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"Ray cannot start ({error})",
                where=address or "this machine",
                fix="leave the workers and the address out to go on in this process",
            ) from error
        if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's would end the process at once
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def _knock(address: str) -> None:
    """ClusterError unless something listens at [ray://]host:port; Ray itself would retry long."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError("is not a Ray address", where=address, fix="write HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers ({error.strerror or error})",
            where=address,
            fix="start one with `ray start --head`, or leave the address out",
        ) from error
