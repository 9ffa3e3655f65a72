"""Figures that cannot be: another unit than milliseconds, a row that slipped.

Nothing here knows how fast a device is. It knows what processors do, within a factor of fifty, and
that blocks of one table take times in proportion to their sizes, within reason (tables measured
here and elsewhere: from a sixteenth to three times the median).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nassearch.errors import TableError
from nassearch.runtimes import runs_on
from nassearch.setting import Setting
from nassearch.space import BlockSpec

# Elements read and written in a millisecond, the median over the blocks of a space: one core ran
# 0.2 to 0.3 million (zen4's tables), a phone's or a Raspberry Pi's a tenth of that; a GPU from a
# tenth of ten million, operator by operator, to ten times of it in large batches.
_CORE, _GPU = 1e5, 3e6
_OFF = 50.0  # seconds and microseconds are a thousand
_APART = 300.0  # times the median; seconds among milliseconds are a thousand
_LAUNCH_MS = 0.002  # no device starts a block of a network in less
_SLOW_MS = 1.0  # small blocks take what their launch takes, whatever their size
_REMOVED_MS = 1e-6  # of blocks that the runtime optimises away
_FEW = 5
UNITS = {"ms": 1.0, "us": 1e-3, "s": 1e3}
"""Milliseconds of each unit that measurements may be given in."""

Floats = npt.NDArray[np.float64]


def check_blocks(
    blocks: Mapping[str, float], setting: Setting, *, where: object, unit_given: bool = False
) -> None:
    """TableError naming the first of `blocks`, key -> ms, whose milliseconds cannot be.

    Where the unit was given (`unit_given`), only what slipped among its neighbours is refused.
    """
    present = {key: ms for key, ms in blocks.items() if ms > _REMOVED_MS}
    if len(present) < _FEW:
        return
    sizes = np.array([_size(BlockSpec.from_key(key)) for key in present], dtype=np.float64)
    times = np.array(list(present.values()))
    if not unit_given:
        _check_unit(times, sizes, setting, next(iter(present)), where)
    _check_apart(times / sizes, list(present), times, where)


def check_networks(
    rows: Sequence[tuple[str, Sequence[BlockSpec], float]],
    setting: Setting | None = None,
    *,
    where: object,
    unit_given: bool = False,
) -> None:
    """TableError naming the first of whole networks, (name of the row, blocks, ms), that cannot be.

    Without a setting nothing is known of what they ran on, and only what no device does is refused.
    """
    if not rows:
        return
    times = np.array([ms for *_, ms in rows])
    counts = np.array([len(specs) for _, specs, _ in rows])
    if not unit_given:
        if np.median(times / counts) < _LAUNCH_MS:
            raise _wrong_unit(times[0], f"{where}: {rows[0][0]}", "seconds")
        sizes = np.array([sum(map(_size, specs)) for _, specs, _ in rows])
        if setting is not None:
            _check_unit(times, sizes, setting, rows[0][0], where)
    if len(rows) >= _FEW:
        _check_apart(times / counts, [name for name, *_ in rows], times, where)


def _check_unit(times: Floats, sizes: Floats, setting: Setting, first: str, where: object) -> None:
    slowest, fastest = _typical(setting)
    speed = float(np.median(sizes * setting.batch / times))
    slow = speed < slowest / _OFF and float(np.median(times)) > _SLOW_MS
    if slow or speed > fastest * _OFF:
        unit = "microseconds" if slow else "seconds"
        raise _wrong_unit(float(times[0]), f"{where}: {first}", unit)


def _typical(setting: Setting) -> tuple[float, float]:
    """Elements in a millisecond, from and to, of what a setting says it runs on."""
    if setting.threads is not None:
        return _CORE * setting.threads, _CORE * setting.threads
    return (_GPU if runs_on(setting.runtime) == "gpu" else _CORE), _GPU


def _wrong_unit(milliseconds: float, where: str, unit: str) -> TableError:
    return TableError(
        f"{milliseconds:g} ms is not plausible",
        where=f"{where} and the rows after it",
        fix=f"latencies are in milliseconds; were these {unit}? say so when you import them:"
        " --unit ms, us or s",
    )


def _check_apart(ratios: Floats, names: Sequence[str], times: Floats, where: object) -> None:
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
