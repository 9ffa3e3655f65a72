"""Setting: where and how a network runs, which every latency is said with."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nassearch.errors import ConfigError

_STEM = re.compile(
    r"(?P<runtime>.+)-(?P<precision>[^-]+)-b(?P<batch>[1-9]\d*)(-t(?P<threads>[1-9]\d*))?"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how a network runs. Latencies of different settings are never mixed."""

    device: str
    runtime: str
    precision: str = "fp32"
    batch: int = 1
    threads: int | None = 1

    @property
    def stem(self) -> str:
        """The name of the table's file: 'onnxruntime-fp32-b1-t1'."""
        threads = "" if self.threads is None else f"-t{self.threads}"
        return f"{self.runtime}-{self.precision}-b{self.batch}{threads}"

    def __str__(self) -> str:
        return f"{self.device}/{self.stem}"

    def to_dict(self) -> dict[str, Any]:
        """The five fields as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Setting":
        """The setting that `to_dict` wrote."""
        return cls(**value)

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """The setting that its text names, 'zen4/openvino-int8-b1-t1'; ConfigError for another."""
        device, _, stem = text.partition("/")
        found = _STEM.fullmatch(stem)
        if not device or found is None:
            raise ConfigError(
                f"'{text}' is not a setting",
                fix="write it as DEVICE/RUNTIME-PRECISION-bBATCH[-tTHREADS], for instance"
                " zen4/openvino-int8-b1-t1",
            )
        threads = found["threads"]
        return cls(
            device,
            found["runtime"],
            found["precision"],
            int(found["batch"]),
            None if threads is None else int(threads),
        )
