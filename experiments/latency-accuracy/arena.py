"""What ONNX Runtime's memory arena holds at most while it runs a network.

The Python binding does not tell; the C library of the same wheel does (`AllocatorGetStats`), so it
is called through ctypes. `OrtApi` is a struct of function pointers that is only ever appended to
(onnxruntime_c_api.h): a function's place in it stays.
"""

import ctypes
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from nassearch.networks.onnx_graph import INPUT, OUTPUT

API_VERSION = 23  # the first with AllocatorGetStats
PLACES = {
    "GetErrorMessage": 2,
    "CreateEnv": 3,
    "CreateSessionFromArray": 8,
    "Run": 9,
    "CreateSessionOptions": 10,
    "SetIntraOpNumThreads": 24,
    "CreateTensorWithDataAsOrtValue": 49,
    "CreateCpuMemoryInfo": 69,
    "AddSessionConfigEntry": 130,
    "CreateAllocator": 131,
    "CreateAndRegisterAllocator": 144,
    "CreateArenaCfgV2": 164,
    "GetKeyValue": 297,
    "ReleaseKeyValuePairs": 300,
    "AllocatorGetStats": 319,
}
WARNING, ARENA_ALLOCATOR, DEFAULT_MEMORY, FLOAT = 2, 1, 0, 1
# As set, the arena hands out pieces up to twice as large as asked for, and counts them whole.
EXACT = {b"arena_extend_strategy": 1, b"max_dead_bytes_per_chunk": 1}
Pointer = ctypes.c_void_p


@dataclass(frozen=True)
class Arena:
    """Bytes: what loading put into the arena (weights that are not packed elsewhere), and what
    running added to that at most.
    """

    loaded: int
    activations: int


def measure(model: bytes, images: Any) -> Arena:
    """Load a network from its ONNX graph and run it once on `images`, in a process of its own:
    the arena belongs to the process and remembers the largest network it ever held.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_measure, (model, images))


def _measure(model: bytes, images: Any) -> Arena:
    loaded, peak = _Library().run(model, images)
    return Arena(loaded, peak - loaded)


class _Library:
    """ONNX Runtime's C library with one environment."""

    def __init__(self) -> None:
        folder = Path(onnxruntime.__file__).parent / "capi"
        path = next(iter(sorted(folder.glob("libonnxruntime.so*"))), None)
        if path is None:
            raise FileNotFoundError(
                f"{folder} has no libonnxruntime.so: memory cannot be asked for"
            )
        library = ctypes.CDLL(str(path))
        library.OrtGetApiBase.restype = ctypes.POINTER(Pointer * 2)
        get_api = ctypes.CFUNCTYPE(Pointer, ctypes.c_uint32)(library.OrtGetApiBase().contents[0])
        table = ctypes.POINTER(Pointer * (max(PLACES.values()) + 1))
        self._functions = ctypes.cast(get_api(API_VERSION), table).contents
        self._env = self._made("CreateEnv", ctypes.c_int(WARNING), b"arena")
        self._options = self._made("CreateSessionOptions")
        self._call("SetIntraOpNumThreads", self._options, ctypes.c_int(1))
        self._call("AddSessionConfigEntry", self._options, b"session.use_env_allocators", b"1")
        kind, memory = ctypes.c_int(ARENA_ALLOCATOR), ctypes.c_int(DEFAULT_MEMORY)
        self._memory = self._made("CreateCpuMemoryInfo", kind, memory)
        count = len(EXACT)
        keys, values = (ctypes.c_char_p * count)(*EXACT), (ctypes.c_size_t * count)(*EXACT.values())
        arena = self._made("CreateArenaCfgV2", keys, values, ctypes.c_size_t(count))
        self._call("CreateAndRegisterAllocator", self._env, self._memory, arena)

    def run(self, model: bytes, images: Any) -> tuple[int, int]:
        """Bytes of the arena in use after loading a graph, and at most, after a run on `images`."""
        size = ctypes.c_size_t(len(model))
        session = self._made("CreateSessionFromArray", self._env, model, size, self._options)
        allocator = self._made("CreateAllocator", session, self._memory)
        loaded = self._stats(allocator, b"InUse")
        shape = (ctypes.c_int64 * images.ndim)(*images.shape)
        tensor = self._made(
            "CreateTensorWithDataAsOrtValue",
            self._memory,
            Pointer(images.ctypes.data),
            ctypes.c_size_t(images.nbytes),
            shape,
            ctypes.c_size_t(images.ndim),
            ctypes.c_int(FLOAT),
        )
        one = ctypes.c_size_t(1)
        names, outputs = (ctypes.c_char_p * 1)(INPUT.encode()), (Pointer * 1)()
        wanted = (ctypes.c_char_p * 1)(OUTPUT.encode())
        self._call("Run", session, None, names, (Pointer * 1)(tensor), one, wanted, one, outputs)
        return loaded, self._stats(allocator, b"MaxInUse")

    def _stats(self, allocator: Pointer, key: bytes) -> int:
        pairs = self._made("AllocatorGetStats", allocator)
        found = self._function("GetKeyValue", ctypes.c_char_p)(pairs, key)
        self._function("ReleaseKeyValuePairs", None)(pairs)
        return int(found)

    def _made(self, name: str, *arguments: Any) -> Pointer:
        """What a function that creates something creates: its last argument."""
        made = Pointer()
        self._call(name, *arguments, ctypes.byref(made))
        return made

    def _call(self, name: str, *arguments: Any) -> None:
        status = self._function(name, Pointer)(*arguments)
        if status:
            message = self._function("GetErrorMessage", ctypes.c_char_p)(Pointer(status))
            raise RuntimeError(f"onnxruntime {name}: {message.decode()}")

    def _function(self, name: str, result: Any) -> Callable[..., Any]:
        return ctypes.CFUNCTYPE(result)(self._functions[PLACES[name]])
