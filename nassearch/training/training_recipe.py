"""TrainingRecipe: everything that decides how a supernet is trained, and nothing else."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from nassearch.config import UNKNOWN_KEY, StrictModel, parse_seconds
from nassearch.data.augmentation import AugmentationOptions, Fraction, NonNegative
from nassearch.errors import BudgetError
from nassearch.training.strategies import STRATEGIES, strategy_options

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]

_BEFORE_OPTIONS = frozenset(
    ("fm_warmup", "ramp_epochs", "ramp_by_size", "warmup_resolution")
    + ("sort_channels", "num_random", "sandwich_rule", "sampling")
)
"""The strategies' keys in version 0.1, which wrote all of them down whatever the strategy."""


def _time(text: str) -> str:
    try:
        parse_seconds(text)
    except BudgetError as error:
        raise ValueError(error.fix) from error
    return text


class TrainingRecipe(AugmentationOptions):
    """The keys of a recipe's `training` section. The defaults suit images of about 32 pixels.

    The keys that only the strategy reads are those of its `Options`; they stand among the others,
    on disk and as arguments, and are found in `options`.
    """

    epochs: Count = 150
    time_budget: Annotated[str, AfterValidator(_time)] | None = None
    """A time, 2h: `epochs` is planned so that the training ends within it."""
    batch_size: Count = 128
    seed: Annotated[int, Field(ge=0)] = 0

    start_from: str | None = None
    """A run whose weights, norms and channel order are taken over; all else starts anew."""

    # -- optimizer and schedule

    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    """muon: convolutions change by the share lr of themselves in a step; the rest as with sgd."""
    lr: Positive = 0.1
    schedule: Literal["cosine", "constant-ending", "triangular"] = "cosine"
    """constant-ending: exponential decay that ends at a twentieth of lr (BigNAS). triangular: in a
    straight line up to lr over a fifth of the training, and down to zero."""
    min_lr: NonNegative = 0.0
    lr_warmup_epochs: NonNegative = 0.0
    momentum: Fraction = 0.9
    """Nesterov momentum of sgd; adamw keeps its own two averages."""
    weight_decay: NonNegative = 1e-4
    """Not applied to norms and biases."""
    clip_norm: Positive | None = None
    """Largest norm of a step's whole gradient."""
    clip_value: Positive | None = None
    """Largest size of any entry of a step's gradient."""
    ema_decay: Rate | None = None
    """Decay per step of an average of the weights, which is then what is evaluated and kept."""

    # -- which subnets a step trains

    strategy: str = "growing"
    """Where it is not said and `loss` is, delayed-shrinking: targets of one's own may have no parts
    that growing could show to one network each."""
    options: SerializeAsAny[StrictModel] = Field(default_factory=StrictModel)

    # -- losses and regularisation

    label_smoothing: Rate = 0.1
    loss: str | None = None
    """my_package.module:function of outputs and targets, instead of cross entropy on labels."""
    distillation: Literal["kl", "alpha", "none"] = "kl"
    """alpha: the adaptive divergence of AlphaNet; clip gradients by value with it. none: every
    network learns from the targets alone, as it must where the outputs are no logits."""
    distillation_temperature: Positive = 1.0
    teacher: str | None = None
    """An export, or torchvision:MODEL[:WEIGHTS]; what learns from labels learns from it too."""
    teacher_weight: NonNegative = 1.0
    """Weight of a teacher's predictions beside the labels'."""
    gradient_projection: bool = False
    """Take from the largest network's gradient what opposes the subnets' (NASViT)."""
    whitening: bool = False
    """Start the stem with filters that whiten patches of the images, and leave it so (airbench)."""
    zero_gamma: bool = False
    """Start residual branches at zero (BigNAS)."""
    outer_gamma: Fraction = 1.0
    """Where the norms' scales start of channels that not every network has. With 0.3 and zero_gamma
    networks of every width start alike, and what one learns helps the others."""
    dropout: Rate = 0.0
    """Before the classifier, of the largest network alone."""
    drop_path: Rate = 0.0
    """Of the last residual branch, growing from 0 at the first; of the largest network alone."""

    # -- the machine

    precision: Literal["float32", "bf16", "fp16", "auto"] = "float32"
    """The type of autocast; fp16 scales its loss. auto: float32 or bf16, whichever a few steps of
    the space show to be faster here; the checkpoints name it."""
    channels_last: bool = True
    """The memory format of images and activations; about twice as fast on a CPU."""
    compile: bool = False
    """Compile each different block once with torch.compile; for GPUs (slower on the CPUs tried)."""
    device: str = "auto"
    """A torch device, or 'auto': a GPU where there is one."""
    eval_every: Count = 5
    """Epochs between accuracies in metrics.jsonl."""
    checkpoint_minutes: Positive = 10.0
    """Minutes between checkpoints within an epoch; each epoch's end has one too."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the run's tensorboard/."""

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, keys: Any) -> Any:
        """Put the keys of the strategy's own model into `options`."""
        if not isinstance(keys, Mapping):
            return keys
        usual = cls.model_fields["strategy"].default
        default = usual if keys.get("loss") is None else "delayed-shrinking"
        strategy = keys.get("strategy", default)
        if not isinstance(strategy, str):
            return keys
        options = strategy_options(strategy)
        own = {name: value for name, value in keys.items() if name not in _shared_keys()}
        if own.keys() >= _BEFORE_OPTIONS:
            foreign = _BEFORE_OPTIONS - options.model_fields.keys()
            own = {name: value for name, value in own.items() if name not in foreign}
        if options.model_config.get("extra") == "forbid":
            _refuse_unknown(own, strategy, known=options.model_fields.keys())
        shared = {name: value for name, value in keys.items() if name in _shared_keys()}
        return {**shared, "strategy": strategy, "options": options.model_validate(own)}

    @model_serializer(mode="wrap")
    def _spread_options(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        keys = serialise(self)
        options = keys.pop("options")
        return {**keys, **options}


def _shared_keys() -> frozenset[str]:
    """The keys of every training, whatever its strategy."""
    return frozenset(TrainingRecipe.model_fields) - {"options"}


def recipe_keys(strategy: str) -> frozenset[str]:
    """The keys that the `training` section takes under the strategy of this name."""
    return _shared_keys() | strategy_options(strategy).model_fields.keys()


def _refuse_unknown(keys: Mapping[str, Any], strategy: str, *, known: Collection[str]) -> None:
    errors = []
    for name in keys.keys() - known:
        owners = [other for other in STRATEGIES if name in strategy_options(other).model_fields]
        if owners:
            problem = f"is a key of the strategy {' or '.join(owners)}, not of {strategy}"
            error = PydanticCustomError("foreign_key", "{problem}", {"problem": problem})
        else:
            context = {"known": sorted(recipe_keys(strategy))}
            error = PydanticCustomError(UNKNOWN_KEY, "unknown key; allowed: {known}", context)
        errors.append(InitErrorDetails(type=error, loc=(str(name),), input=keys[name]))
    if errors:
        raise ValidationError.from_exception_data("TrainingRecipe", errors)
