"""Devices: what `latency_tables/<device>/device.yaml` says, and which one this machine is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, model_validator

from nassearch import config
from nassearch.config import StrictModel
from nassearch.errors import ConfigError
from nassearch.files import write_text
from nassearch.latency.host_identity import HostIdentity, this_machine
from nassearch.runtimes import runs_on
from nassearch.setting import SETTING_FIELDS, Setting, check_device_name, is_device_name

HOST = "host"
Rate = Annotated[int | float, Field(gt=0)]


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
    """A device by name. `cpu` (vendor/family/model) and, where known, `isa` are how this machine is
    recognised as one.

    `default` is the setting it is asked about when the user names none; `settings` are others that
    it has tables or estimates for. In device.yaml they stand without the device's name.
    """

    name: str
    description: str = ""
    cpu: str | None = None
    isa: tuple[str, ...] | None = None
    default: Setting
    settings: tuple[Setting, ...] = ()
    rates: RatesFile | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_settings(cls, value: object) -> Any:
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            return value
        content = {"default": {}, **value}
        content["default"] = _named(content["default"], value["name"], "default")
        listed = content.get("settings", ())
        if isinstance(listed, list | tuple):
            content["settings"] = tuple(
                _named(item, value["name"], f"settings[{index}]")
                for index, item in enumerate(listed)
            )
        return content

    @field_serializer("default", "settings")
    def _without_name(self, value: Setting | tuple[Setting, ...]) -> Any:
        if isinstance(value, tuple):
            return [self._without_name(item) for item in value]
        fields = value.to_dict()
        return {name: fields[name] for name in fields if name != "device" and fields[name]}

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
        return self.model_copy(update={"default": setting})

    def called(self, name: str) -> "Device":
        """This device under another name."""
        renamed = {
            "name": name,
            "default": replace(self.default, device=name),
            "settings": tuple(replace(setting, device=name) for setting in self.settings),
        }
        return self.model_copy(update=renamed)

    def of_machine(self, identity: HostIdentity) -> "Device":
        """This device, recognised by what the machine that was measured is."""
        if self.cpu is not None:
            return self
        return self.model_copy(update={"cpu": identity.cpu, "isa": identity.isa})

    def save(self, directory: Path) -> None:
        """Write `<directory>/<name>/device.yaml`, unless it stands there already."""
        path = directory / self.name / "device.yaml"
        if not path.exists():
            content = self.model_dump(mode="json", exclude_none=True)
            write_text(path, config.dump_yaml(content))

    @property
    def present(self) -> bool:
        """Whether this machine is such a device, so that networks can be measured on it."""
        here = this_machine()
        return self.cpu == here.cpu and self.isa in (None, here.isa)


def _named(value: object, device: str, place: str) -> Setting:
    """The setting that a file's mapping, without the device's name, stands for."""
    if isinstance(value, Setting):
        return value
    if not isinstance(value, Mapping) or "device" in value:
        raise ValueError(f"{place} must be a mapping of {', '.join(SETTING_FIELDS[1:])}")
    try:
        fields = {"runtime": "onnxruntime", "threads": None, **value}
        return Setting.from_dict({"device": device, **fields})
    except ConfigError as error:
        raise ValueError(f"{place}.{error}") from error


def table_directories() -> list[Path]:
    """Where latency tables are looked for: the working directory's, then those that ship."""
    return config.data_directories("latency_tables")


def host_cpu() -> str:
    """This machine's CPU as vendor/family/model, or its architecture where the OS says no more."""
    return this_machine().cpu


def host_cpu_name() -> str:
    """This machine's CPU as people call it."""
    return this_machine().name


def host_device() -> Device:
    """This machine under the name 'host'."""
    here = this_machine()
    return Device(
        name=HOST,
        description=here.name,
        cpu=here.cpu,
        isa=here.isa,
        default=Setting(HOST, "onnxruntime"),
    )


def load_device(name: str, places: Sequence[Path] = ()) -> Device:
    """The device called `name` in `places` or where tables ship; else ConfigError."""
    if name == HOST:
        return host_device()
    check_device_name(name)
    for place in (*places, *table_directories()):
        path = place / name / "device.yaml"
        if path.is_file():
            device = config.load(Device, path)
            if device.name != name:
                raise ConfigError(
                    f"name: must be '{name}', as the folder",
                    where=path,
                    fix=f"write name: {name}",
                )
            return device
    known = list_devices(places)
    raise ConfigError(
        f"unknown device '{name}'{config.nearest(name, known)}",
        where="device",
        fix=f"known: {', '.join(known)}; measure a new one with"
        f" 'nassearch profile --device {name}'",
    )


def read_devices(places: Sequence[Path] = ()) -> dict[str, Device | ConfigError]:
    """Every device that is known by name; of one whose file is broken what is wrong with it."""
    devices: dict[str, Device | ConfigError] = {}
    for name in list_devices(places):
        try:
            devices[name] = load_device(name, places)
        except ConfigError as error:
            devices[name] = error
    return devices


def known_or_new_device(name: str, places: Sequence[Path]) -> Device:
    """The device called `name`; a name nobody knows is this machine under a new name."""
    if name in list_devices(places):
        return load_device(name, places)
    check_device_name(name)
    return host_device().called(name)


def device_elsewhere(name: str, places: Sequence[Path], *, runtime: str | None) -> Device:
    """The device called `name`; a name nobody knows is a machine of which nothing is known yet.

    Its networks run in `runtime` on one thread where that runs on a CPU wherever it is; else nobody
    chooses their number.
    """
    if name in list_devices(places):
        return load_device(name, places)
    check_device_name(name)
    named = runtime or "onnxruntime"
    threads = 1 if runs_on(named) == "cpu" else None
    return Device(name=name, default=Setting(name, named, threads=threads))


def resolve_setting(
    text: str,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    places: Sequence[Path] = (),
) -> tuple[Device, Setting]:
    """The device and the setting that a user means.

    Args:
        text: A device's name, 'zen4', which means its default setting, or a whole setting,
            'zen4/openvino-int8-b1-t1'.
        runtime: Replaces that of the text, as do `precision`, `batch` (images) and `threads`.
        precision: For instance 'int8'.
        batch: Images at once.
        threads: Of the runtime.
        places: Directories of devices that are looked in before those that ship.

    Raises:
        ConfigError: The device is not known, or the text is no setting.
    """
    given = Setting.parse(text) if "/" in text else None
    device = load_device(given.device if given is not None else text, places)
    base = device if given is None else device.with_default(given)
    setting = base.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    return device, setting


def list_devices(places: Sequence[Path] = ()) -> list[str]:
    """The devices `load_device` knows."""
    names = {
        path.parent.name
        for place in (*places, *table_directories())
        for path in place.glob("*/device.yaml")
    }
    return sorted({HOST, *filter(is_device_name, names)})
