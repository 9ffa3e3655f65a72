"""Bundles: measuring a device that cannot install torch.

A bundle is a zip of ONNX graphs and one script that needs only numpy and onnxruntime; what the
script measured on the device becomes the table here.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nassearch.errors import TableError
from nassearch.files import atomic_write, read_json
from nassearch.latency.profiler import ProfileSession, covering
from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import Timing, reference_networks
from nassearch.networks import Subnet
from nassearch.runtimes import bundle_runner
from nassearch.runtimes.onnx import OnnxRuntime
from nassearch.runtimes.runtime import BlockTimes
from nassearch.setting import Setting
from nassearch.space import BlockSpec, SearchSpace, lower

MANIFEST, RUNNER = "bundle.json", "run.py"


def write_bundle(
    path: Path,
    space: SearchSpace,
    setting: Setting,
    *,
    rng: np.random.Generator,
    seconds: float,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> Path:
    """Write the bundle that measures `space` in `setting` for `seconds`; `path` ends in .zip.

    Raises RuntimeUnavailableError where the setting's precision is none of ONNX Runtime's.
    """
    runtime = OnnxRuntime(setting)
    architectures = covering(space, rng)
    networks, graphs = [], {}
    for index, architecture in enumerate(architectures):
        progress("exporting", index / len(architectures))
        specs = lower(space, architecture)
        name = f"networks/{index:03d}.onnx"
        graphs[name] = runtime.export(Subnet(specs).eval())
        networks.append(
            {
                "file": name,
                "genes": list(space.encode(architecture)),
                "keys": [spec.key for spec in specs],
            }
        )
    manifest: dict[str, Any] = {
        "schema": bundle_runner.SCHEMA,
        "setting": _setting(setting),
        "space": space.to_dict(),
        "seconds": seconds,
        "references": len(reference_networks(space)),
        "networks": networks,
    }
    manifest["id"] = _id(manifest)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
        archive.writestr(RUNNER, Path(bundle_runner.__file__).read_bytes())
        for name, graph in graphs.items():
            archive.writestr(name, graph)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path


def import_results(results: Path, setting: Setting, *, bundle: Path | None = None) -> LatencyTable:
    """The table that a bundle's runner measured.

    The results carry the bundle's manifest. Raises TableError where it is not the one its id names,
    or not that of `bundle`, where the results are of another setting, unfinished or damaged.
    """
    measured = read_json(results)
    if not isinstance(measured, dict) or measured.get("schema") != bundle_runner.SCHEMA:
        raise TableError("is not what a bundle's runner writes", where=results)
    manifest = measured.get("manifest")
    if not isinstance(manifest, dict) or _id(manifest) != measured.get("bundle"):
        raise TableError("its manifest is not that of its bundle", where=results)
    expected = manifest["id"] if bundle is None else _bundle_id(bundle)
    if expected != manifest["id"]:
        raise TableError(
            f"is of the bundle {manifest['id']}, not of {expected}",
            where=results,
            fix=f"unpack {bundle} on the device and run its run.py",
        )
    if manifest["setting"] != _setting(setting):
        raise TableError(
            f"was measured in {Setting(**manifest['setting'])}, not in {setting}",
            where=results,
            fix="ask for its own setting",
        )
    if "trace" not in measured:
        raise TableError("is unfinished", where=results, fix="run run.py again, it goes on")
    space = SearchSpace.from_dict(manifest["space"])
    try:
        trace, count = measured["trace"], manifest["references"]
        times = [
            BlockTimes(np.array(runs), np.array(events, dtype=np.int64))
            for runs, events in zip(trace["block_ms"], trace["events"], strict=True)
        ]
        collected = ProfileSession(space, setting, str(measured["version"]))
        collected.add(
            [space.decode(network["genes"]) for network in manifest["networks"]],
            [[BlockSpec.from_key(key) for key in item["keys"]] for item in manifest["networks"]],
            whole=Timing.of_rounds(measured["whole"]["rounds"], count).with_references(),
            inside=Timing.of_rounds(trace["rounds"], count),
            times=times,
            positions=np.arange(len(times)),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise TableError(f"is damaged ({error!r})", where=results) from error
    facts = {"bundle": manifest["id"], **measured.get("facts", {})}
    return collected.table(facts)


def _setting(setting: Setting) -> dict[str, Any]:
    return {
        "device": setting.device,
        "runtime": setting.runtime,
        "precision": setting.precision,
        "batch": setting.batch,
        "threads": setting.threads,
    }


def _id(manifest: dict[str, Any]) -> str:
    """The hash of everything a manifest says but its id."""
    content = {name: value for name, value in manifest.items() if name != "id"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _bundle_id(bundle: Path) -> str:
    try:
        with zipfile.ZipFile(bundle) as archive:
            return str(json.loads(archive.read(MANIFEST))["id"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise TableError(f"is not a bundle ({error!r})", where=bundle) from error
