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
from nassearch.files import read_json, replacing
from nassearch.latency import bundle_runner
from nassearch.latency.onnx_runtime import OnnxRuntime
from nassearch.latency.profiler import Collected, covering
from nassearch.latency.setting import BlockTimes, Setting
from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import REFERENCE, Timing
from nassearch.networks import Subnet
from nassearch.space import BlockSpec, SearchSpace, lower

MANIFEST, RUNNER, REFERENCE_FILE = "bundle.json", "run.py", "reference.onnx"


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
    graphs[REFERENCE_FILE] = runtime.export(Subnet(REFERENCE).eval())
    manifest: dict[str, Any] = {
        "schema": bundle_runner.SCHEMA,
        "setting": _setting(setting),
        "space": space.to_dict(),
        "seconds": seconds,
        "networks": networks,
    }
    text = json.dumps(manifest, sort_keys=True)
    manifest["id"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
        archive.writestr(RUNNER, Path(bundle_runner.__file__).read_bytes())
        for name, graph in graphs.items():
            archive.writestr(name, graph)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path


def import_results(results: Path, bundle: Path, setting: Setting) -> LatencyTable:
    """The table that a bundle's runner measured.

    Raises TableError where the results are of another bundle or unfinished, and where the bundle is
    damaged or of another setting.
    """
    manifest = _manifest(bundle)
    if manifest["setting"] != _setting(setting):
        raise TableError(
            f"was made for {Setting(**manifest['setting'])}, not {setting}",
            where=bundle,
            fix="ask for its own setting",
        )
    measured = read_json(results)
    if not isinstance(measured, dict) or measured.get("schema") != bundle_runner.SCHEMA:
        raise TableError("is not what a bundle's runner writes", where=results)
    if measured.get("bundle") != manifest["id"]:
        raise TableError(
            f"is of the bundle {measured.get('bundle')}, not of {manifest['id']}",
            where=results,
            fix=f"unpack {bundle} on the device and run its run.py",
        )
    if "trace" not in measured:
        raise TableError("is unfinished", where=results, fix="run run.py again, it goes on")
    space = SearchSpace.from_dict(manifest["space"])
    try:
        whole = _timing(measured["whole"]["rounds"], measured["whole"]["reference"])
        trace = measured["trace"]
        reference = np.array(trace["reference"])
        times = [
            BlockTimes(np.array(runs), np.array(events, dtype=np.int64))
            for runs, events in zip(trace["block_ms"], trace["events"], strict=True)
        ]
        collected = Collected(space, setting, str(measured["version"]))
        collected.add(
            [space.decode(network["genes"]) for network in manifest["networks"]],
            [[BlockSpec.from_key(key) for key in item["keys"]] for item in manifest["networks"]],
            whole=whole,
            inside=Timing(np.ones((len(times), len(reference), 1)), reference),
            times=times,
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


def _manifest(bundle: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(bundle) as archive:
            manifest = json.loads(archive.read(MANIFEST))
        if manifest["schema"] != bundle_runner.SCHEMA:
            raise TableError(
                f"has schema {manifest['schema']}, this version reads {bundle_runner.SCHEMA}",
                where=bundle,
                fix="write the bundle again",
            )
        manifest["id"], manifest["setting"], manifest["networks"], manifest["space"]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise TableError(f"is not a bundle ({error!r})", where=bundle) from error
    found: dict[str, Any] = manifest
    return found


def _timing(rounds: list[Any], reference: list[float]) -> Timing:
    """Samples, (rounds, subjects, burst), with the drift of the reference divided out."""
    samples, marks = np.array(rounds).transpose(1, 0, 2), np.array(reference)
    raw = Timing(samples, marks)
    return Timing(raw.samples_ms / raw.drift[None, :, None], marks)
