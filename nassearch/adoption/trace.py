"""A module as a list of operators, traced with torch.export; what is on no list is refused."""

import copy
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path

from nassearch.adoption.exported_program import BATCH, Operator, ProgramReader
from nassearch.adoption.operator_rules import RULES
from nassearch.errors import AdoptionError
from nassearch.space.space_config import RESERVED


@dataclass(frozen=True)
class Trace:
    """A module's operators in order, and what its modules are called.

    `outputs` are the operators that give the outputs, by name; None of a classifier's logits.
    """

    operators: tuple[Operator, ...]
    input_sizes: tuple[int, int, int]
    module: nn.Module
    outputs: Mapping[str, str] | None = None


def trace(
    module: nn.Module, example: Tensor, *, name: str, outputs: Sequence[str] | None = None
) -> Trace:
    """The operators that `module`, in evaluation mode, runs on images like `example`.

    `outputs` names what it gives, in order. Raises AdoptionError, naming the module's path, where
    it cannot be traced.
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
    is_classifier = outputs is None and isinstance(out, Tensor) and out.dim() == 2
    names = None if is_classifier else list(named_outputs(out, outputs, name=name))
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
    named = None if names is None else dict(zip(names, reader.outputs, strict=True))
    sizes: tuple[int, int, int] = tuple(example.shape[1:])  # type: ignore[assignment]
    return Trace(tuple(operators), sizes, module, named)


def named_outputs(
    given: object, names: Sequence[str] | None = None, *, name: str
) -> dict[str, Tensor]:
    """What a module gives, by name: keys of a dict, `out0`, `out1` of a sequence, or `names`.

    Raises AdoptionError where it gives other things than tensors, or names are missing or equal.
    """
    where = f"{name}, --outputs"
    leaves, _ = tree_flatten_with_path(given)
    found = [_output_name(path) for path, _ in leaves]
    for own, (_, leaf) in zip(found, leaves, strict=True):
        if not isinstance(leaf, Tensor):
            raise AdoptionError(
                f"gives a {type(leaf).__name__} as {own}",
                where=name,
                fix="return tensors alone: one, or a dict, tuple or list of them",
            )
        if leaf.dim() not in (2, 4):
            raise AdoptionError(
                f"gives {own} of shape {tuple(leaf.shape)}",
                where=name,
                fix="return feature maps, (images, channels, height, width), or (images, values)",
            )
    if not leaves:
        raise AdoptionError("gives no output", where=name, fix="return at least one tensor")
    if names is not None:
        if len(names) != len(found):
            raise AdoptionError(
                f"{len(names)} names for the {len(found)} outputs that it gives",
                where=where,
                fix=f"name each in order, as {','.join(found)}",
            )
        found = list(names)
    for own in found:
        if found.count(own) > 1:
            raise AdoptionError(
                f"two outputs are called '{own}'",
                where=where,
                fix="give each a name of its own: outputs=('c2', 'c3')",
            )
        if re.fullmatch(_NAME, own) is None or own == RESERVED:
            raise AdoptionError(
                f"an output has no name that a graph can have: '{own}'",
                where=where,
                fix=f"name it with letters, digits and underscores, and not {RESERVED}",
            )
    return {own: leaf for own, (_, leaf) in zip(found, leaves, strict=True)}


_NAME = "[A-Za-z_][A-Za-z0-9_]{0,99}"


def _output_name(path: Sequence[object]) -> str:
    """What leads to an output, keys and numbers, as one word."""
    words = [str(getattr(step, "key", getattr(step, "idx", getattr(step, "name", step))))
             for step in path]  # fmt: skip
    word = "_".join(words)
    if not word:
        return "output"
    return word if not word[:1].isdigit() else f"out{word}"


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
