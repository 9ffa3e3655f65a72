"""Which processor a training runs on."""

import torch

from nassearch.errors import ConfigError


def training_device(name: str) -> torch.device:
    """The torch device called `name`; 'auto' is a GPU where there is one, and the CPU elsewhere.

    Raises ConfigError where there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"'{name}' is not a torch device", where="device", fix="use auto, cpu or cuda"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"torch finds no GPU for '{name}'", where="device", fix="use auto or cpu")
    return device
