"""Setting: where and how a network runs, which every latency is said with."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from nassearch.config import StrictModel
from nassearch.errors import ConfigError

_STEM = re.compile(
    r"(?P<runtime>.+)-(?P<precision>[^-]+)-b(?P<batch>[1-9]\d*)(-t(?P<threads>[1-9]\d*))?"
)
# A device's name is that of a folder, stands in lists (a,b) and in budgets (latency:NAME=5ms).
_DEVICE = re.compile(r"[^\W_][\w .()+-]{0,99}(?<!\.)(?<! )")
_RUNTIME = re.compile(r"[^\W_][\w.+-]*(:[\w.]+)?")
_PRECISION = re.compile(r"\w+")
INT8 = "int8"
MIXED = "mixed"
"""The precision of a setting in which each block of a network has one of its own."""


def is_device_name(name: str) -> bool:
    """Whether a device can be called so."""
    return _DEVICE.fullmatch(name) is not None and ".." not in name


def check_device_name(name: str) -> str:
    """`name`, if a device can be called so; ConfigError where it cannot."""
    if not is_device_name(name):
        raise ConfigError(
            f"a device cannot be called '{name}'",
            where="device",
            fix="use letters, digits, '_', '-', '.', '+' and spaces, and begin with one of the"
            " first two",
        )
    return name


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how a network runs. Latencies of different settings are never mixed.

    Raises ConfigError for what is no setting: names that are no names of files, no images, no
    threads. `threads` is None where nobody chooses their number (a GPU).
    """

    device: str
    runtime: str
    precision: str = "fp32"
    batch: int = 1
    threads: int | None = 1

    def __post_init__(self) -> None:
        check_device_name(str(self.device))
        if not isinstance(self.runtime, str) or _RUNTIME.fullmatch(self.runtime) is None:
            raise ConfigError(
                f"a runtime cannot be called '{self.runtime}'",
                where="runtime",
                fix="name one of 'nassearch list runtimes', or your own as package.module:Attr",
            )
        if not isinstance(self.precision, str) or _PRECISION.fullmatch(self.precision) is None:
            raise ConfigError(
                f"'{self.precision}' is not a precision",
                where="precision",
                fix="write fp32, fp16, bf16, int8 or mixed",
            )
        for name, number in (("batch", self.batch), ("threads", self.threads)):
            if number is None and name == "threads":
                continue
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ConfigError(
                    f"{number!r} is not a whole number from 1 on", where=name, fix="write 1 or more"
                )

    @property
    def stem(self) -> str:
        """The name of the table's file: 'onnxruntime-fp32-b1-t1'.

        The colon of 'my_package.module:Runtime', which not every file system takes, is an '@'.
        """
        threads = "" if self.threads is None else f"-t{self.threads}"
        return f"{self.runtime.replace(':', '@')}-{self.precision}-b{self.batch}{threads}"

    @property
    def options(self) -> str:
        """The options that name it on a command line: '--device zen4 --runtime openvino ...'."""
        name = f"'{self.device}'" if re.search(r"[ ()]", self.device) else self.device
        threads = "" if self.threads is None else f" --threads {self.threads}"
        return (
            f"--device {name} --runtime {self.runtime} --precision {self.precision}"
            f" --batch {self.batch}{threads}"
        )

    def __str__(self) -> str:
        return f"{self.device}/{self.stem}"

    def to_dict(self) -> dict[str, object]:
        """The five fields as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Setting":
        """The setting that `to_dict` wrote; ConfigError where it is none."""
        unknown = sorted(set(map(str, value)) - set(SETTING_FIELDS))
        if unknown or "device" not in value or "runtime" not in value:
            raise ConfigError(
                f"unknown key '{unknown[0]}'" if unknown else "names no device and runtime",
                where="setting",
                fix=f"a setting has {', '.join(SETTING_FIELDS)}",
            )
        return cls(**value)

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """The setting that its text names, 'zen4/openvino-int8-b1-t1'; ConfigError for another."""
        device, _, stem = text.partition("/")
        match = _STEM.fullmatch(stem)
        if not device or match is None:
            raise ConfigError(
                f"'{text}' is not a setting",
                where="setting",
                fix="write it as DEVICE/RUNTIME-PRECISION-bBATCH[-tTHREADS], for instance"
                " zen4/openvino-int8-b1-t1",
            )
        threads = match["threads"]
        return cls(
            device,
            match["runtime"].replace("@", ":"),
            match["precision"],
            int(match["batch"]),
            None if threads is None else int(threads),
        )


SETTING_FIELDS = tuple(field.name for field in fields(Setting))


class WithSetting(StrictModel):
    """A record of one setting. In files the setting's five keys stand among the record's own."""

    setting: Setting

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: object) -> Any:
        if not isinstance(value, Mapping) or "setting" in value:
            return value
        own = {name: item for name, item in value.items() if name not in SETTING_FIELDS}
        given = {name: item for name, item in value.items() if name in SETTING_FIELDS}
        try:
            return {**own, "setting": Setting.from_dict({"threads": None, **given})}
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @model_serializer(mode="wrap")
    def _spread(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        content = handler(self)
        setting = {name: item for name, item in self.setting.to_dict().items() if item is not None}
        return {**setting, **{name: item for name, item in content.items() if name != "setting"}}
