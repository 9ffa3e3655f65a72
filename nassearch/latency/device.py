"""Devices: what `latency_tables/<device>/device.yaml` says, and which one this machine is."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from nassearch import config
from nassearch.config import StrictModel
from nassearch.errors import ConfigError
from nassearch.files import write_text
from nassearch.setting import Setting

HOST = "host"
Rate = Annotated[int | float, Field(gt=0)]


class SettingFile(StrictModel):
    """The setting a device is asked about when the user names none."""

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    batch: Annotated[int, Field(gt=0)] = 1
    threads: Annotated[int, Field(gt=0)] | None = None


class RatesFile(StrictModel):
    """Datasheet rates, from which latencies of a device nobody here owns are estimated.

    `processors` counts what works independently (streaming multiprocessors, cores); `kind` says
    whether the efficiency curves of a GPU apply.
    """

    peak_tflops: dict[str, Rate]
    bandwidth_gb_s: Rate
    on_chip_mb: Rate
    launch_overhead_us: Rate
    processors: Annotated[int, Field(gt=0)] = 1
    kind: Literal["gpu", "cpu"] = "cpu"
    source: str


class Device(StrictModel):
    """A device by name. `cpu` is how this machine is recognised as one: vendor/family/model.

    `settings` are those it has tables or estimates for that are worth asking about, besides the
    `default`.
    """

    name: str
    description: str = ""
    cpu: str | None = None
    default: SettingFile = SettingFile()
    settings: tuple[SettingFile, ...] = ()
    rates: RatesFile | None = None

    def setting(
        self,
        *,
        runtime: str | None = None,
        precision: str | None = None,
        batch: int | None = None,
        threads: int | None = None,
    ) -> Setting:
        """The default setting with what the user chose put in."""
        return Setting(
            self.name,
            runtime or self.default.runtime,
            precision or self.default.precision,
            batch or self.default.batch,
            threads or self.default.threads,
        )

    def with_default(self, setting: Setting) -> "Device":
        """This device, asked about in `setting` when the user names none."""
        default = SettingFile(
            runtime=setting.runtime,
            precision=setting.precision,
            batch=setting.batch,
            threads=setting.threads,
        )
        return self.model_copy(update={"default": default})

    def save(self, directory: Path) -> None:
        """Write `<directory>/<name>/device.yaml`, unless it stands there already."""
        path = directory / self.name / "device.yaml"
        if not path.exists():
            content = self.model_dump(mode="json", exclude_none=True)
            write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    @property
    def present(self) -> bool:
        """Whether this machine is such a device, so that networks can be measured on it."""
        return self.cpu is not None and self.cpu == host_cpu()


def table_directories() -> list[Path]:
    """Where latency tables are looked for: the working directory's, then those that ship."""
    return config.data_directories("latency_tables")


def host_cpu() -> str:
    """This machine's CPU as vendor/family/model, or its architecture where the OS says no more."""
    fields = _cpuinfo()
    names = ("vendor_id", "cpu family", "model")
    if all(name in fields for name in names):
        return "/".join(fields[name] for name in names)
    arm = ("CPU implementer", "CPU part")
    if all(name in fields for name in arm):
        return "/".join(("arm", *(fields[name] for name in arm)))
    return platform.processor() or platform.machine()


def host_cpu_name() -> str:
    """This machine's CPU as people call it."""
    return _cpuinfo().get("model name", platform.processor() or platform.machine())


def host_device() -> Device:
    """This machine under the name 'host'."""
    return Device(
        name=HOST,
        description=host_cpu_name(),
        cpu=host_cpu(),
        default=SettingFile(threads=1),
    )


def load_device(name: str, places: Sequence[Path] = ()) -> Device:
    """The device called `name` in `places` or where tables ship; else ConfigError."""
    if name == HOST:
        return host_device()
    for place in (*places, *table_directories()):
        path = place / name / "device.yaml"
        if path.is_file():
            device = config.load(Device, path)
            if device.name != name:
                raise ConfigError(f"name: must be '{name}', as the folder", where=path)
            return device
    known = list_devices(places)
    raise ConfigError(
        f"unknown device '{name}'{config.nearest(name, known)}",
        fix=f"known: {', '.join(known)}; measure a new one with"
        f" 'nassearch profile --device {name}'",
    )


def known_or_new_device(name: str, places: Sequence[Path], *, elsewhere: bool = False) -> Device:
    """The device called `name`; a name nobody knows is this machine under a new name.

    With `elsewhere` it is a machine of which nothing is known yet.
    """
    if name in list_devices(places):
        return load_device(name, places)
    if elsewhere:
        return Device(name=name, default=SettingFile(threads=1))
    return host_device().model_copy(update={"name": name})


def list_devices(places: Sequence[Path] = ()) -> list[str]:
    """The devices `load_device` knows."""
    found = {
        path.parent.name
        for place in (*places, *table_directories())
        for path in place.glob("*/device.yaml")
    }
    return sorted({HOST, *found})


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; nothing where there is no such file."""
    fields: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return fields
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator and name.strip() not in fields:
            fields[name.strip()] = value.strip()
    return fields
