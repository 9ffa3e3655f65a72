"""TrainingRecipe: everything that decides how a supernet is trained, and nothing else."""

from typing import Annotated, Literal

from pydantic import Field

from nassearch.data.augmentation import AugmentationOptions, Fraction, NonNegative

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
SandwichRule = Literal["together", "in-turn"]


class TrainingRecipe(AugmentationOptions):
    """The keys of a recipe's `training` section. The defaults suit images of about 32 pixels."""

    epochs: Count = 150
    batch_size: Count = 128
    seed: Annotated[int, Field(ge=0)] = 0

    # -- optimizer and schedule

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.1
    schedule: Literal["cosine", "constant-ending"] = "cosine"
    """constant-ending: exponential decay that ends at a twentieth of lr (BigNAS)."""
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

    strategy: str = "delayed-shrinking"
    fm_warmup: Fraction = 0.15
    """delayed-shrinking: the share of the training after which subnets learn at the full rate (0.5
    in the paper)."""
    ramp_epochs: NonNegative | None = None
    """delayed-shrinking: epochs before that over which the subnets' rate rises from zero. Unset:
    five, or half of the warm-up where that is less."""
    ramp_by_size: NonNegative = 0.0
    """delayed-shrinking: the ramp is longer by this share for a network of no size at all."""
    warmup_resolution: Annotated[float, Field(gt=0, le=1)] = 1.0
    """delayed-shrinking: the share of the largest resolution at which the warm-up starts."""
    sort_channels: bool = True
    """Sort inner channels by importance before subnets first take some of them."""
    num_random: Annotated[int, Field(ge=0)] = 2
    """Random subnets in each step of a sandwich."""
    sandwich_rule: SandwichRule | None = None
    """together: a step trains every network of the sandwich on one batch, as published. in-turn: a
    step trains one of them, on the labels of images of its own. Unset: in-turn for
    delayed-shrinking, together for sandwich."""
    sampling: Literal["uniform", "coupled"] = "uniform"
    """coupled: a stage's depth decides its blocks' expand ratio (CompOFA)."""

    # -- losses and regularisation

    label_smoothing: Rate = 0.1
    distillation: Literal["kl", "alpha"] = "kl"
    """alpha: the adaptive divergence of AlphaNet; clip gradients by value with it."""
    distillation_temperature: Positive = 1.0
    teacher: str | None = None
    """An export, or torchvision:MODEL[:WEIGHTS]; what learns from labels learns from it too."""
    teacher_weight: NonNegative = 1.0
    """Weight of a teacher's predictions beside the labels'."""
    gradient_projection: bool = False
    """Take from the largest network's gradient what opposes the subnets' (NASViT)."""
    zero_gamma: bool = False
    """Start residual branches at zero (BigNAS)."""
    dropout: Rate = 0.0
    """Before the classifier, of the largest network alone."""
    drop_path: Rate = 0.0
    """Of the last residual branch, growing from 0 at the first; of the largest network alone."""

    # -- the machine

    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """The type of autocast; fp16 scales its loss."""
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
