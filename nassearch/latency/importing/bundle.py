"""Bundles: measuring a device that cannot install torch.

A bundle is a zip of ONNX graphs and one script that needs only numpy and onnxruntime; what the
script measured on the device becomes the table here.
"""

import hashlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nassearch.errors import ConfigError, RuntimeUnavailableError, TableError
from nassearch.files import atomic_write, read_json
from nassearch.latency.coverage import covering
from nassearch.latency.host_identity import identity_of
from nassearch.latency.profiler import ProfileSession
from nassearch.latency.table import IDENTITY, LatencyTable
from nassearch.latency.timing import Timing, reference_networks
from nassearch.networks import Subnet
from nassearch.progress import Progress, silent
from nassearch.runtimes import bundle_runner
from nassearch.runtimes.onnx import OnnxRuntime, export_graph
from nassearch.runtimes.runtime import BlockTimes, Floats, check_setting, runtime_class
from nassearch.setting import MIXED, Setting
from nassearch.space import SearchSpace, lower

MANIFEST, RUNNER = "bundle.json", "run.py"
MAX_MANIFEST, MAX_RESULTS = 64 * 2**20, 1024 * 2**20  # bytes; of 96 networks it is 0.1 and 30 MB
_UNSIGNED = 2  # the schema of version 0.1, whose results carry no hash and no provider
_SCHEMAS = (_UNSIGNED, bundle_runner.SCHEMA)
# what an archive raises that is damaged, encrypted or packed as this Python cannot unpack, and a
# manifest that is none
_UNREADABLE = (
    OSError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def write_bundle(
    path: Path,
    space: SearchSpace,
    setting: Setting,
    *,
    rng: np.random.Generator,
    seconds: float,
    progress: Progress = silent,
) -> Path:
    """Write the bundle that measures `space` in `setting` for `seconds`; `path` ends in .zip.

    Raises:
        RuntimeUnavailableError: The setting's runtime is not one of ONNX Runtime's, which is all
            that a bundle's runner has, or does not run its precision.
    """
    check_setting(setting)
    runtime = runtime_class(setting.runtime)
    if not issubclass(runtime, OnnxRuntime):
        raise RuntimeUnavailableError(
            f"a bundle runs ONNX Runtime, not {setting.runtime}",
            where=setting,
            fix="use --runtime onnxruntime, cuda or tensorrt, or profile where nassearch is"
            " installed",
        )
    if setting.precision == MIXED:
        raise RuntimeUnavailableError(
            "a bundle measures one precision",
            where=setting,
            fix="name it with --precision; mixed ones are profiled where nassearch is installed",
        )
    networks, graphs = [], {}
    architectures = covering(space, rng)
    for index, architecture in enumerate(architectures):
        progress("exporting", index / len(architectures))
        specs = lower(space, architecture)
        name = f"networks/{index:03d}.onnx"
        graphs[name] = export_graph(Subnet(specs).eval(), setting)
        networks.append(
            {
                "file": name,
                "genes": list(space.encode(architecture)),
                "keys": [spec.key for spec in specs],
            }
        )
    manifest: dict[str, Any] = {
        "schema": bundle_runner.SCHEMA,
        "setting": setting.to_dict(),
        "provider": runtime.provider,
        "provider_options": dict(runtime.precisions[setting.precision]),
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

    The results carry the bundle's manifest, and a hash of all they say.

    Args:
        results: The runner's results.json.
        setting: What they must be of.
        bundle: The bundle they must be of, where it is at hand.

    Raises:
        TableError: They are of another bundle or setting, ran on another provider than was asked
            for, were changed, are unfinished or damaged.
    """
    measured = _read_results(results)
    manifest = measured["manifest"]
    expected = manifest["id"] if bundle is None else _bundle_id(bundle)
    if expected != manifest["id"]:
        raise TableError(
            f"is of the bundle {manifest['id']}, not of {expected}",
            where=results,
            fix=f"unpack {bundle} on the device and run its run.py",
        )
    try:
        measured_in = Setting.from_dict(manifest["setting"])
        if measured_in != setting:
            raise TableError(
                f"was measured in {measured_in}, not in {setting}",
                where=results,
                fix=f"nassearch profile {measured_in.options} --import {results}",
            )
        if "trace" not in measured:
            raise TableError("is unfinished", where=results, fix="run run.py again, it goes on")
        _check_provider(measured, measured_in, results)
        return _table(measured, setting)
    except (KeyError, TypeError, ValueError, IndexError, ConfigError) as error:
        raise TableError(
            f"is damaged ({error!r})", where=results, fix="run run.py again"
        ) from error


def _read_results(path: Path) -> dict[str, Any]:
    """What a runner wrote, if it is whole."""
    if path.is_file() and path.stat().st_size > MAX_RESULTS:
        raise TableError(
            f"is larger than {MAX_RESULTS >> 20} MB",
            where=path,
            fix="name the results.json that run.py wrote",
        )
    measured = read_json(path)
    if not isinstance(measured, dict) or measured.get("schema") not in _SCHEMAS:
        raise TableError(
            "is not what a bundle's runner writes",
            where=path,
            fix="name the results.json that run.py wrote",
        )
    manifest = measured.get("manifest")
    if not isinstance(manifest, dict) or _id(manifest) != measured.get("bundle"):
        raise TableError(
            "its manifest is not that of its bundle", where=path, fix="run run.py again"
        )
    if measured["schema"] > _UNSIGNED and measured.get("digest") != bundle_runner.digest(measured):
        raise TableError(
            "was changed since the runner wrote it", where=path, fix="run run.py again"
        )
    return measured


def _check_provider(measured: dict[str, Any], setting: Setting, where: Path) -> None:
    """Refuse what ran on another processor than the setting says."""
    runtime = runtime_class(setting.runtime)
    provider = runtime.provider if issubclass(runtime, OnnxRuntime) else None
    # the runners of version 0.1 knew the CPU only
    ran = bundle_runner.CPU if measured["schema"] == _UNSIGNED else measured.get("provider")
    if ran != provider:
        raise TableError(
            f"ran on {ran}, which is not the runtime {setting.runtime}",
            where=where,
            fix="write the bundle again with this version, or with --runtime onnxruntime",
        )


def _table(measured: dict[str, Any], setting: Setting) -> LatencyTable:
    """The table of results that were checked to be what a runner wrote in `setting`."""
    manifest, trace = measured["manifest"], measured["trace"]
    space = SearchSpace.from_dict(manifest["space"])
    architectures = [space.decode(network["genes"]) for network in manifest["networks"]]
    networks = [lower(space, architecture) for architecture in architectures]
    for specs, network in zip(networks, manifest["networks"], strict=True):
        if [spec.key for spec in specs] != network["keys"]:
            raise ValueError(f"the blocks of {network['file']} are not those of its genes")
    times = [
        BlockTimes(_times(runs, whole=False), np.array(events, dtype=np.int64))
        for runs, events in zip(trace["block_ms"], trace["events"], strict=True)
    ]
    if len(times) != len(networks):
        raise ValueError("networks and their times differ in number")
    count = manifest["references"]
    session = ProfileSession(space, setting, str(measured["version"]))
    session.add(
        architectures,
        networks,
        whole=Timing.of_rounds(_times(measured["whole"]["rounds"]), count).with_references(),
        inside=Timing.of_rounds(_times(trace["rounds"]), count),
        times=times,
        positions=np.arange(len(times)),
    )
    return session.table({"bundle": manifest["id"], **_facts(measured["facts"])})


def _times(rounds: object, *, whole: bool = True) -> Floats:
    """Milliseconds, none of them missing; those of `whole` networks are never zero."""
    times = np.array(rounds, dtype=np.float64)
    good = np.isfinite(times).all() and ((times > 0) if whole else (times >= 0)).all()
    if times.ndim < 2 or not times.size or not good:
        raise ValueError("times that are none")
    return times


def _facts(answers: dict[str, Any]) -> dict[str, Any]:
    """What a runner says of its machine; it has no say in the rest of a table's header."""
    facts = {
        name: answers[name]
        for name in ("host", "cores", "governor", "clock_khz", "temperature_mc")
        if isinstance(answers.get(name), str | int)
    }
    info = answers.get("cpuinfo")
    if isinstance(info, dict):
        texts = {str(name): str(value) for name, value in info.items()}
        machine, gpu = str(answers.get("machine", "")), str(answers.get("gpu", ""))
        facts[IDENTITY] = identity_of(texts, machine=machine, gpu=gpu).to_dict()
    return facts


def _id(manifest: dict[str, Any]) -> str:
    """The hash of everything a manifest says but its id."""
    content = {name: value for name, value in manifest.items() if name != "id"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _bundle_id(bundle: Path) -> str:
    """The id of a bundle; of the archive only its manifest is read, and nothing is unpacked."""
    try:
        with zipfile.ZipFile(bundle) as archive, archive.open(MANIFEST) as file:
            text = file.read(MAX_MANIFEST + 1)
        if len(text) > MAX_MANIFEST:
            raise TableError(
                f"its manifest is larger than {MAX_MANIFEST >> 20} MB",
                where=bundle,
                fix="name the .zip that --bundle wrote",
            )
        return str(json.loads(text)["id"])
    except _UNREADABLE as error:
        raise TableError(
            f"is not a bundle ({error!r})", where=bundle, fix="name the .zip that --bundle wrote"
        ) from error
