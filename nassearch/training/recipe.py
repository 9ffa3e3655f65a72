"""TrainingRecipe: everything that decides how a supernet is trained, and nothing else."""

from typing import Annotated, Literal

from pydantic import Field

from nassearch.config import StrictModel

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class TrainingRecipe(StrictModel):
    """The keys of a recipe's `training` section. The defaults suit images of about 32 pixels."""

    epochs: Count = 60
    batch_size: Count = 128
    seed: Annotated[int, Field(ge=0)] = 0

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.1
    min_lr: NonNegative = 0.0
    lr_warmup_epochs: NonNegative = 0.0
    momentum: Fraction = 0.9
    """Nesterov momentum of sgd; adamw keeps its own two averages."""
    weight_decay: NonNegative = 1e-4
    """Not applied to norms and biases."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip_norm: Positive | None = None
    """Largest norm of a step's whole gradient."""

    strategy: str = "delayed-shrinking"
    fm_warmup: Fraction = 0.5
    """delayed-shrinking: the share of the training after which subnets learn at the full rate."""
    ramp_epochs: NonNegative = 5.0
    """delayed-shrinking: epochs before that over which the subnets' rate rises from zero."""
    num_random: Annotated[int, Field(ge=0)] = 2
    """Random subnets in each step of a sandwich."""
    distillation_temperature: Positive = 1.0

    crop_padding: Annotated[int, Field(ge=0)] | None = None
    """Largest shift of the random crop in pixels; unset: an eighth of the image, or none where
    random_resized_crop is set."""
    flip: bool | None = None
    """Random left-right flips; unset: where the data set allows (digits do not)."""
    random_resized_crop: Annotated[float, Field(gt=0, le=1)] | None = None
    """For larger photos: train on a random part of each image, of at least this share of its area,
    resized to the image's size (0.08 to 0.35 are usual). Unset: none."""
    auto_augment: Literal["none", "randaugment", "trivialaugment"] = "none"
    """Random distortions of colour and shape: two of middling strength in each image (RandAugment,
    Cubuk et al., 2020), or one of any strength (TrivialAugment, Mueller and Hutter, 2021)."""
    random_erasing: Fraction = 0.0
    """The chance that a random rectangle of an image is blanked (Zhong et al., 2020)."""
    mixup: NonNegative = 0.0
    """α > 0 averages each image and its label with another's by a share from Beta(α, α)."""
    cutmix: NonNegative = 0.0
    """α > 0 pastes a box of another image into each, its area from Beta(α, α), labels alike; with
    mixup too, each of the two serves half of the images."""

    channels_last: bool = False
    device: str = "auto"
    """A torch device, or 'auto': a GPU where there is one."""
    eval_every: Count = 5
    """Epochs between accuracies in metrics.jsonl."""
