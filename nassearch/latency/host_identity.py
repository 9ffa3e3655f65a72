"""HostIdentity: which processor a machine has, compared as a value."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from nassearch.errors import TableError

# Instructions for which engines have kernels of their own: with and without one of them, the same
# model of processor (a virtual machine may hide some) takes other times.
ISA = frozenset(
    ("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni")
    + ("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16")
    + ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "neon")
)
_CPUINFO = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """A machine's processor: two are equal where the same network takes the same time.

    Virtual machines report little by way of a name ('AMD EPYC'), so the name takes no part in the
    comparison; `isa` are the instructions of `ISA` that the processor has, sorted. `gpu` is the
    GPU's name where networks run on it, else empty.
    """

    vendor: str
    family: str
    model: str
    isa: tuple[str, ...] = ()
    gpu: str = ""
    name: str = field(default="", compare=False)

    @property
    def cpu(self) -> str:
        """vendor/family/model, as device.yaml has it."""
        return "/".join(part for part in (self.vendor, self.family, self.model) if part)

    def __str__(self) -> str:
        gpu = f", {self.gpu}" if self.gpu else ""
        return f"{self.name or 'processor'} ({self.cpu}{gpu})"

    def difference(self, other: "HostIdentity") -> str | None:
        """What tells this machine from another, one phrase; None where they are the same."""
        if self.cpu != other.cpu:
            return f"{self} is not {other}"
        if self.gpu != other.gpu:
            return f"{self.gpu or 'no GPU'} is not {other.gpu or 'no GPU'}"
        only = [f"without {name}" for name in sorted({*other.isa} - {*self.isa})]
        only += [f"with {name}" for name in sorted({*self.isa} - {*other.isa})]
        return f"{self.cpu} {', '.join(only)}" if only else None

    def to_dict(self) -> dict[str, object]:
        """A form that YAML and JSON hold."""
        content: dict[str, object] = {
            "vendor": self.vendor,
            "family": self.family,
            "model": self.model,
            "isa": list(self.isa),
            "gpu": self.gpu,
            "name": self.name,
        }
        return {name: value for name, value in content.items() if value or name == "isa"}

    @classmethod
    def from_dict(cls, value: object, *, where: object = "") -> "HostIdentity":
        """The identity that `to_dict` wrote; TableError where it is none."""
        fields = value if isinstance(value, Mapping) else {}
        isa = fields.get("isa", ())
        names = ("vendor", "family", "model", "gpu", "name")
        texts = {name: fields.get(name, "") for name in names}
        if (
            not texts["vendor"]
            or not {*fields} <= {*names, "isa"}
            or not isinstance(isa, list | tuple)
            or not all(isinstance(item, str) for item in (*texts.values(), *isa))
        ):
            raise TableError(
                "its identity is not that of a processor",
                where=where,
                fix="it has vendor, family, model, isa, name",
            )
        return cls(**texts, isa=tuple(sorted(isa)))


def this_machine(*, gpu: bool = False) -> HostIdentity:
    """The identity of this machine, with its GPU where networks run on it."""
    return _identity(gpu)


def host_text() -> str:
    """This machine as table headers say it to people: 'AMD EPYC, Linux x86_64'."""
    return f"{this_machine().name}, {platform.system()} {platform.machine()}"


@lru_cache(maxsize=2)
def _identity(gpu: bool) -> HostIdentity:
    return identity_of(_cpuinfo(), gpu=_gpu_name() if gpu else "")


def identity_of(cpuinfo: Mapping[str, str], *, machine: str = "", gpu: str = "") -> HostIdentity:
    """The identity of a machine.

    Args:
        cpuinfo: What /proc/cpuinfo says of its first processor.
        machine: Its architecture; empty for this machine's.
        gpu: The GPU's name where networks run on it.
    """
    machine = machine or platform.processor() or platform.machine() or "unknown"
    if all(name in cpuinfo for name in ("vendor_id", "cpu family", "model")):
        vendor, family, model = cpuinfo["vendor_id"], cpuinfo["cpu family"], cpuinfo["model"]
    elif all(name in cpuinfo for name in ("CPU implementer", "CPU part")):
        vendor, family, model = "arm", cpuinfo["CPU implementer"], cpuinfo["CPU part"]
    else:
        vendor, family, model = machine, "", ""
    flags = cpuinfo.get("flags", cpuinfo.get("Features", "")).split()
    isa = tuple(sorted(ISA.intersection(flags)))
    return HostIdentity(vendor, family, model, isa, gpu, cpuinfo.get("model name", machine))


def _gpu_name() -> str:
    """The first GPU's model, as NVIDIA's driver says it."""
    for path in sorted(_GPUS.glob("*/information")):
        for line in path.read_text(encoding="utf-8").splitlines():
            label, _, value = line.partition(":")
            if label.strip() == "Model":
                return value.strip()
    return "unknown GPU"


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; nothing where there is no such file."""
    fields: dict[str, str] = {}
    try:
        text = _CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return fields
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator and name.strip() not in fields:
            fields[name.strip()] = value.strip()
    return fields
