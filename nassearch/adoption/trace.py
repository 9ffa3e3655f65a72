"""A module as a list of operators, traced with torch.export; what is on no list is refused."""

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nassearch.adoption.exported_program import BATCH, Operator, ProgramReader
from nassearch.adoption.operator_rules import RULES
from nassearch.errors import AdoptionError


@dataclass(frozen=True)
class Trace:
    """A module's operators in order, and what its modules are called."""

    operators: tuple[Operator, ...]
    input_sizes: tuple[int, int, int]
    module: nn.Module


def trace(module: nn.Module, example: Tensor, *, name: str) -> Trace:
    """The operators that `module`, in evaluation mode, runs on images like `example`.

    Raises AdoptionError, naming the module's path, where it cannot be traced.
    """
    _check(module, example, name=name)
    twin = copy.deepcopy(module).eval().requires_grad_(False)
    images = example[:1].expand(BATCH, -1, -1, -1).contiguous()
    try:
        with torch.no_grad():
            out = twin(images)
    except Exception as error:  # whatever a user's module raises
        raise AdoptionError(
            f"refuses images of {'x'.join(map(str, example.shape[1:]))}"
            f" ({type(error).__name__}: {_line(error)})",
            where=name,
            fix="give --input CHANNELSxHEIGHTxWIDTH as the network takes them",
        ) from error
    if not isinstance(out, Tensor) or out.dim() != 2:
        given = f"a tensor of {tuple(out.shape)}" if isinstance(out, Tensor) else _described(out)
        raise AdoptionError(
            f"gives {given}, not the logits of one classifier",
            where=name,
            fix="wrap it in a module that returns (images, classes) alone",
        )
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(twin, (images,), strict=False)
    except Exception as error:  # torch.export has no error of its own for all it cannot do
        raise AdoptionError(
            f"cannot be traced ({_reason(error)})",
            where=_place(error, twin, name),
            fix="what it does may depend on shapes, not on values: write it without that branch",
        ) from error
    reader = ProgramReader(program, name, RULES)
    operators = reader.read()
    return Trace(tuple(operators), tuple(example.shape[1:]), module)  # type: ignore[arg-type]


def _check(module: nn.Module, example: Tensor, *, name: str) -> None:
    """What can be said of a module and an example before it is run."""
    if not isinstance(module, nn.Module):
        raise AdoptionError(
            f"is a {type(module).__name__}, not a torch.nn.Module",
            where=name,
            fix="name a module, or a function that makes one without arguments",
        )
    if example.dim() != 4 or example.shape[2] != example.shape[3]:
        raise AdoptionError(
            f"{tuple(example.shape)} are no square images",
            where=f"{name}, --input",
            fix="write CHANNELSxHEIGHTxWIDTH with height = width, 3x224x224",
        )
    seen: dict[int, str] = {}
    for path, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        if tensor.device.type != "cpu":
            raise AdoptionError(
                f"{path} is on {tensor.device}", where=name, fix="move it with .cpu() first"
            )
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise AdoptionError(
                f"{path} is in {str(tensor.dtype).removeprefix('torch.')}",
                where=name,
                fix="bring it to single precision with .float() first",
            )
        if isinstance(tensor, nn.Parameter) and id(tensor) in seen:
            raise AdoptionError(
                f"{seen[id(tensor)]} and {path} are one tensor: its layer is used twice",
                where=name,
                fix="give each its own weights, copy.deepcopy(layer)",
            )
        seen[id(tensor)] = path


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"{len(value)} outputs"
    return f"a {type(value).__name__}"


def _reason(error: Exception) -> str:
    text = _line(error)
    kind = type(error).__name__
    if "data-dependent" in text.lower() or kind in (
        "GuardOnDataDependentSymNode",
        "UserError",
    ):
        return "what it does depends on the values of a tensor"
    if ("takes" in text and "positional argument" in text) or (
        "missing" in text and "argument" in text
    ):
        return f"it takes other inputs than one batch of images: {text}"
    return f"{kind}: {text}"


def _place(error: Exception, module: nn.Module, name: str) -> str:
    """The line of the user's code in which tracing failed."""
    trail = error.__traceback__
    found = ""
    while trail is not None:
        file = trail.tb_frame.f_code.co_filename
        if "/torch/" not in file and "nassearch/adoption" not in file:
            owner = trail.tb_frame.f_locals.get("self")
            path = next((path for path, one in module.named_modules() if one is owner), "")
            dotted = f"{name}.{path}" if path else name
            found = f"{dotted} ({file.rpartition('/')[2]}:{trail.tb_lineno})"
        trail = trail.tb_next
    return found or name
