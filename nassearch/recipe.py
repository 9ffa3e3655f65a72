"""A recipe: one file that describes a whole run."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from nassearch.config import StrictModel
from nassearch.data.preprocessing import DEFAULT, Preprocessing
from nassearch.training.training_recipe import TrainingRecipe

Count = Annotated[int, Field(gt=0)]
Words = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]


class ProfileRecipe(StrictModel):
    """How long the device is timed; loading the networks comes on top."""

    seconds: Annotated[int | float, Field(gt=0)] = 60


class SearchRecipe(StrictModel):
    """What is searched for. Each of `budgets` gets its best network: '5ms', '800us', or '40%' of
    the way from the fastest network of the space to the slowest.
    """

    budgets: Words = ("50%",)
    objectives: Words = ("accuracy", "latency")
    evaluate: str | None = None
    """my_package.module:metric, which is measured instead of accuracy."""
    algorithm: str = "guided"
    algorithm_options: dict[str, object] = Field(default_factory=dict)
    trials: Count = 100
    batch: Count | None = None
    """Candidates chosen at once. Unset: few at first and more later, or two for each worker."""


class ExportRecipe(StrictModel):
    """How the chosen networks are written."""

    formats: Words | None = None
    """Unset: config, weights, onnx and the files that the promised latencies hold for."""
    batch: Count | Literal["dynamic"] | None = None
    """Images that a graph takes at once. Unset: as many as was promised."""
    max_accuracy_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    """What int8 may cost on validation images; 0.01 is one point."""
    preprocess_in_graph: bool = False
    """Let the graphs of onnx and int8 take photos, and resize and normalise them themselves."""


class Recipe(StrictModel):
    """A whole run: train, profile, search, export, verify, report."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    space: str
    data: str
    preprocessing: Preprocessing = DEFAULT
    """How images become what a network takes; `imagenet`, or keys of its own."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "host"
    threads: Count | None = None
    """PyTorch's threads; unset: as many as it likes. Small networks are fastest on one."""
    training: Annotated[TrainingRecipe, Field(default_factory=TrainingRecipe)]
    profile: ProfileRecipe = ProfileRecipe()
    search: SearchRecipe = SearchRecipe()
    export: ExportRecipe = ExportRecipe()
