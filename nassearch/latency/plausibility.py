"""Figures that cannot be: seconds where milliseconds are meant, a row that slipped.

Nothing here knows how fast a device is. It knows what no device does, and that blocks of one table
take times in proportion to their sizes, within reason (tables measured here and elsewhere: from a
sixteenth to three times the median).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nassearch.errors import TableError
from nassearch.setting import Setting
from nassearch.space import BlockSpec

# Elements a millisecond: a core's widest loads from its nearest cache; the fastest GPU's memory.
_CORE, _GPU = 1e8, 5e9
_APART = 300.0  # times the median; seconds among milliseconds are a thousand
_LAUNCH_MS = 0.002  # no device starts a block of a network in less
_REMOVED_MS = 1e-6  # of blocks that the runtime optimises away
_FEW = 5


def check_blocks(blocks: Mapping[str, float], setting: Setting, *, where: Path) -> None:
    """TableError naming the first of `blocks`, key -> ms, whose milliseconds cannot be."""
    present = {key: ms for key, ms in blocks.items() if ms > _REMOVED_MS}
    if len(present) < _FEW:
        return
    sizes = np.array([_size(BlockSpec.from_key(key)) for key in present], dtype=np.float64)
    times = np.array(list(present.values()))
    rates = sizes * setting.batch / times
    limit = _GPU if setting.threads is None else _CORE * setting.threads
    if np.median(rates) > limit:
        key = next(iter(present))
        raise TableError(
            f"{present[key]:g} ms is not plausible",
            where=f"{where}: {key} and the rows after it",
            fix="latencies are in milliseconds; were these seconds?",
        )
    _check_apart(times / sizes, list(present), times, where)


def check_networks(rows: Sequence[tuple[str, int, float]], *, where: Path) -> None:
    """The same for whole networks: (name of the row, number of blocks, ms)."""
    if not rows:
        return
    times = np.array([ms for *_, ms in rows])
    blocks = np.array([count for _, count, _ in rows])
    if np.median(times / blocks) < _LAUNCH_MS:
        raise TableError(
            f"{times[0]:g} ms for {blocks[0]} blocks is not plausible",
            where=f"{where}: {rows[0][0]} and the rows after it",
            fix="latencies are in milliseconds; were these seconds?",
        )
    if len(rows) >= _FEW:
        _check_apart(times / blocks, [name for name, *_ in rows], times, where)


def _check_apart(
    ratios: np.ndarray[tuple[int], np.dtype[np.float64]],
    names: Sequence[str],
    times: np.ndarray[tuple[int], np.dtype[np.float64]],
    where: Path,
) -> None:
    relative = ratios / np.median(ratios)
    apart = np.maximum(relative, 1 / relative)
    worst = int(np.argmax(apart))
    if apart[worst] > _APART:
        kind = "less" if relative[worst] < 1 else "more"
        raise TableError(
            f"{times[worst]:g} ms is {apart[worst]:.0f} times {kind} than its size lets expect",
            where=f"{where}: {names[worst]}",
            fix="is this row in another unit? latencies are in milliseconds",
        )


def _size(spec: BlockSpec) -> float:
    """Elements a block reads and writes, and weights of a product of its widths, roughly."""
    images = spec.in_channels * spec.resolution**2 + spec.out_channels * spec.out_resolution**2
    return float(images + spec.in_channels * spec.out_channels)
