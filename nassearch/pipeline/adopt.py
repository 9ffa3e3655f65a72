"""A user's own network as a run: its space in files, its weights as a supernet's checkpoint."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nassearch import config
from nassearch.adoption.adoption import Adoption, adopt
from nassearch.adoption.elastic_space import Elasticity
from nassearch.adoption.layer_report import LayerReport
from nassearch.data.dataset import Data
from nassearch.data.loading import AnyData, load_data
from nassearch.data.location import HERE
from nassearch.errors import AdoptionError, ConfigError, OutputError
from nassearch.files import owned, read_json, write_json, write_text
from nassearch.networks.cost import network_cost
from nassearch.pipeline.run_directory import NO_IMAGES, check_images, start_run
from nassearch.recipe import Recipe
from nassearch.space import SearchSpace, lower
from nassearch.training import checkpoint
from nassearch.training.checkpoint import Checkpoint
from nassearch.training.training_recipe import TrainingRecipe

FILE = "adoption.json"
SPACE_FILE = "space.yaml"
GRAPHS_FILE = "graphs.yaml"
GOING_ON = TrainingRecipe(strategy="sandwich", epochs=10, lr=0.01)
"""How a training from adopted weights goes on: at a small rate, all networks at once."""


@dataclass(frozen=True)
class AdoptedNetwork:
    """A user's network that became a space and a supernet, and the run that holds them.

    Examples:
        >>> import nassearch as ns, torch
        >>> from torchvision.models import squeezenet1_1
        >>> adopted = ns.adopt(squeezenet1_1(num_classes=10), (3, 64, 64), out="my_space")
        >>> adopted.space.name, adopted.space.num_classes
        ('squeezenet', 10)
    """

    directory: Path
    space: SearchSpace
    layers: tuple[LayerReport, ...]
    change: float
    """The largest difference between what the module and the largest network give, relative."""

    @property
    def outputs(self) -> tuple[str, ...] | None:
        """The names of what the network gives; None of a classifier's logits."""
        names = self.space.definition.outputs
        return None if names is None else tuple(names)

    @property
    def macs(self) -> tuple[int, int]:
        """Multiply-accumulates of the smallest and of the largest network."""
        ends = (self.space.smallest, self.space.largest)
        smallest, largest = (network_cost(lower(self.space, one)).macs for one in ends)
        return smallest, largest

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON holds them."""
        smallest, largest = self.macs
        return {
            "directory": str(self.directory),
            "space": self.space.name,
            "networks": self.space.size(),
            "smallest_macs": smallest,
            "largest_macs": largest,
            "change": self.change,
            "outputs": None if self.outputs is None else list(self.outputs),
            "layers": layer_rows(self.layers),
        }


def layer_rows(layers: tuple[LayerReport, ...]) -> list[dict[str, Any]]:
    """The layers as JSON holds them."""
    return [
        {
            "path": layer.path,
            "layer": layer.layer,
            "stage": "head" if layer.stage is None else layer.stage,
            "channels": list(layer.channels),
            "kernels": list(layer.kernels),
            "may_be_left_out": layer.may_be_left_out,
            "fixed_because": layer.reason,
        }
        for layer in layers
    ]


def read_layers(run: Path) -> list[dict[str, Any]] | None:
    """What became of the layers of an adopted network; None where the run is of another kind."""
    path = run / FILE
    if not path.is_file():
        return None
    content = read_json(path)
    layers = content.get("layers") if isinstance(content, Mapping) else None
    if not isinstance(layers, list):
        raise ConfigError("lists no layers", where=path, fix="adopt the network again")
    return layers


def adopt_network(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    run: Path,
    *,
    name: str,
    elasticity: Elasticity,
    data: AnyData | None = None,
    seed: int = 0,
) -> AdoptedNetwork:
    """Adopt `module` into the directory `run`, which search, export and training then take.

    All that can be refused is checked before anything is written.

    Raises:
        AdoptionError: it cannot be traced, or is no network of blocks in a row.
        DataError: the images have other classes or channels than the network.
        OutputError: `run` holds a run already.
    """
    with owned(run, doing="adopt"):
        if checkpoint.paths(run) or (run / SPACE_FILE).exists():
            raise OutputError("already holds a run", where=run, fix="choose another --out")
        example = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(seed))
        adoption = adopt(module, example, name=name, elasticity=elasticity)
        images = None if data is None else load_data(data, seed=seed)
        if images is not None:
            fix = "adopt it without --data, then train its supernet on these: train-supernet --from"
            check_images(images, adoption.space, fix=fix)
        adopted = AdoptedNetwork(run, adoption.space, adoption.layers, adoption.change)
        _write(adopted, adoption, images, seed=seed)
    return adopted


def _write(adopted: AdoptedNetwork, adoption: Adoption, images: Data | None, *, seed: int) -> None:
    run, space = adopted.directory, adopted.space
    write_space(space, run)
    checkpoint.save(
        run,
        Checkpoint(
            space=space,
            data={} if images is None else images.identity.to_dict(),
            recipe={"seed": seed},
            step=0,
            steps_per_epoch=1,
            totals={},
            model=adoption.supernet.state_dict(),
            optimizer={},
        ),
    )
    recipe = Recipe(
        name=re.sub(r"[^a-z0-9_-]+", "-", space.name),
        space=f"{HERE}/{SPACE_FILE}",
        data=NO_IMAGES if images is None else images.name,
        seed=seed,
        # named outputs are no logits, of which nothing is distilled
        training=GOING_ON
        if space.definition.outputs is None
        else GOING_ON.model_copy(update={"distillation": "none"}),
    )
    write_json(run / FILE, adopted.to_dict())
    start_run(recipe, run)


def write_space(space: SearchSpace, directory: Path) -> None:
    """The space as a file to read and to edit, its graphs in one beside it."""
    content = space.to_dict()
    graphs, stages = content.pop("graphs"), content.pop("stages")
    assert isinstance(stages, list) and isinstance(graphs, dict)
    text = config.dump_yaml({**content, "graphs": GRAPHS_FILE}, width=100) + "stages:\n"
    for stage in stages:
        row = {**stage, "op": stage["op"][0]["op"], "graph": _shortest(stage["graph"])}
        single = {
            key: value[0] if isinstance(value, list) and len(value) == 1 else value
            for key, value in row.items()
        }
        text += f"  - {_flow(single)}\n"
    lines = "".join(
        f"{name}:\n  input: {graph['input']}\n"
        + "".join(f"  {key}: {_flow(graph[key])}\n" for key in _AROUND if key in graph)
        + "  nodes:\n"
        + "".join(f"    - {_flow(node)}\n" for node in graph["nodes"])
        for name, graph in graphs.items()
    )
    write_text(directory / GRAPHS_FILE, lines)
    write_text(directory / SPACE_FILE, text)


_AROUND = ("pixels", "taps", "outputs", "symbols")


def _shortest(names: list[str]) -> list[str]:
    return names[:1] if len(set(names)) == 1 else names


def _flow(value: object) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True
    )
    return text.strip().removesuffix("\n...")


# -- what a command names --------------------------------------------------------------------------


def load_module(name: str, weights: Path | None = None) -> nn.Module:
    """The module that `my_package.module:make_model` names or makes, with the weights of a file."""
    if ":" not in name:
        raise AdoptionError(
            "names no network",
            where=f"'{name}'",
            fix="write my_package.module:make_model, a module or a function that makes one",
        )
    made = config.resolve({}, name, kind="network")
    if not isinstance(made, nn.Module):
        try:
            made = made()
        except Exception as error:  # whatever a user's function raises
            raise AdoptionError(
                f"cannot be called without arguments ({type(error).__name__}: {error})",
                where=name,
                fix="name a function that takes none and returns the module",
            ) from error
    if not isinstance(made, nn.Module):
        raise AdoptionError(
            f"is a {type(made).__name__}, not a torch.nn.Module",
            where=name,
            fix="return the module itself",
        )
    if weights is not None:
        _load_weights(made, weights)
    return made


def _load_weights(module: nn.Module, path: Path) -> None:
    state = _read_weights(path)
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state.get(key), Mapping):
            state = state[key]
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise AdoptionError(
            f"does not fit the network ({text[:200]})",
            where=path,
            fix="give the state dict of this very network, module.state_dict()",
        ) from error


def _read_weights(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise AdoptionError("there is no such file", where=path, fix="name a state dict's file")
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        content = checkpoint.read_state(path)
    except SafetensorError as error:
        raise AdoptionError(
            f"is damaged ({error})", where=path, fix="save the state dict again"
        ) from error
    if not isinstance(content, dict):
        raise AdoptionError(
            "holds no state dict that can be read without running code",
            where=path,
            fix="save it with torch.save(module.state_dict(), file), or as .safetensors",
        )
    return content


def parse_input(text: str) -> tuple[int, int, int]:
    """`3x224x224` as (channels, height, width)."""
    match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,5})x([0-9]{1,5})", text)
    sizes = tuple(int(group) for group in match.groups()) if match else ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise AdoptionError(
            f"'{text}' is no size of an image",
            where="--input",
            fix="write CHANNELSxHEIGHTxWIDTH, for instance 3x224x224",
        )
    return sizes
