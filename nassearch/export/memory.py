"""Peak memory of an exported network, measured by running its model card's lines."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nassearch.errors import ExportError

_STATUS = Path("/proc/self/clear_refs")

# The process is as bare as the format allows; what its modules take is not counted.
_SCRIPT = """
import importlib, json, sys
order = json.loads(sys.argv[1])
modules = {name: importlib.import_module(name) for name in order["imports"]}
if "torch" in modules:
    images = modules["torch"].zeros(order["shape"])
else:
    images = modules["numpy"].zeros(order["shape"], order["dtype"])

def kilobytes(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key))

try:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak so far is forgotten
except OSError:
    order = None
before = kilobytes("VmRSS")
exec("\\n".join(json.loads(sys.argv[1])["lines"]))
print(json.dumps(None if order is None else 1024 * (kilobytes("VmHWM") - before)))
"""


def measure_peak_memory(
    directory: Path,
    *,
    imports: Sequence[str],
    lines: Sequence[str],
    shape: Sequence[int],
    dtype: str = "float32",
) -> int | None:
    """Bytes that loading and running a network adds at most to a process with `imports` loaded.

    `lines` are the three of the model card, `shape` and `dtype` those of `images`. None where the
    system does not tell (it takes Linux). ExportError, with what Python said, where the lines fail.
    """
    if not _STATUS.exists():
        return None
    order = {"imports": list(imports), "lines": list(lines), "shape": list(shape), "dtype": dtype}
    own = directory.resolve()
    paths = [str(path) for path in map(Path.resolve, map(Path, sys.path)) if path != own]
    done = subprocess.run(
        # -P: modules that lie in the export, which may be a stranger's, are not imported
        [sys.executable, "-P", "-c", _SCRIPT, json.dumps(order)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ExportError(
            f"the lines of its model card fail ({said[:200]})",
            where=directory,
            fix="export the network again",
        )
    found: int | None = json.loads(done.stdout.splitlines()[-1])
    return found
