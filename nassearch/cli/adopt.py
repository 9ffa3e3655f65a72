"""`nassearch adopt`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

import nassearch
from nassearch.cli.option import DataSpec, Json, Out
from nassearch.cli.output import print_result
from nassearch.errors import AdoptionError

Number = TypeVar("Number", int, float)


def adopt(
    network: Annotated[
        str, typer.Argument(help="my_package.module:make_model, a module or what makes one.")
    ],
    input_shape: Annotated[str, typer.Option("--input", help="Its images: 3x224x224.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Its state dict, .pt or .safetensors.")
    ] = None,
    data: DataSpec = None,
    width: Annotated[
        str | None, typer.Option("--width", help="Shares of widths: 0.5,0.75,1.0")
    ] = None,
    inner: Annotated[
        str | None, typer.Option("--inner", help="Shares of the channels within blocks.")
    ] = None,
    depth: Annotated[str | None, typer.Option("--depth", help="Blocks of a stage: 1,2,3")] = None,
    kernel: Annotated[str | None, typer.Option("--kernel", help="Kernels to cut to: 3,5")] = None,
    resolution: Annotated[
        str | None, typer.Option("--resolution", help="Further image sizes: 160,192")
    ] = None,
    fixed: Annotated[
        list[str] | None, typer.Option("--fixed", help="A module that stays as it is.")
    ] = None,
    outputs: Annotated[
        str | None, typer.Option("--outputs", help="Names of what it gives, in order: c2,c3")
    ] = None,
    keep_outputs: Annotated[
        bool, typer.Option("--keep-outputs", help="Let outputs keep their channels.")
    ] = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Make a search space and a supernet of a network of your own."""
    from nassearch.cli.describe_table import adopted_overview

    adopted = nassearch.adopt(
        network,
        input_shape,
        weights=weights,
        data=data,
        width=_numbers(width, float, "--width"),
        inner=_numbers(inner, float, "--inner"),
        depth=_numbers(depth, int, "--depth"),
        kernel=_numbers(kernel, int, "--kernel"),
        resolution=_numbers(resolution, int, "--resolution"),
        fixed=fixed or (),
        outputs=None if outputs is None else outputs.split(","),
        keep_outputs=keep_outputs,
        out=out,
    )
    facts: dict[str, Any] = adopted.to_dict()
    print_result(as_json, facts, lambda: adopted_overview(facts))


def _numbers(text: str | None, kind: Callable[[str], Number], flag: str) -> list[Number] | None:
    """`0.5,0.75` as numbers; AdoptionError where one is none."""
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise AdoptionError(
            f"'{text}' are no numbers", where=flag, fix="write them with commas, 1,2,3"
        ) from error
