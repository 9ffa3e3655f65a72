"""A small finished run on digits, a fake device and an export: what every trial starts from."""

import shutil
from pathlib import Path

from child import run

RECIPE = """
name: tiny
space: digits_tiny
data: digits
device: box
threads: 1
training: {strategy: delayed-shrinking, epochs: 2, batch_size: 64, ramp_epochs: 1}
profile: {seconds: 1}
search: {budgets: ["20%", "60%"], algorithm: random, trials: 8}
export: {formats: [weights, onnx]}
"""
LUT = "expanded_conv-input:16x16x40-output:16x16x40-expand:160-kernel:5-stride:1-idskip:1-se:1-hs:1"
COMMANDS = (
    "profile --device box --runtime fake --space digits_tiny --seconds 1",
    "run recipe.yaml --out runs/tiny",
    "export runs/tiny --pick knee --format weights,onnx --out delivery",
)


def make_workplace(place: Path) -> Path:
    """The workplace in `place`, made where it is not there yet."""
    finished = place / ".finished"
    if finished.exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    (place / "lut").mkdir(parents=True)
    (place / "recipe.yaml").write_text(RECIPE)
    (place / "lut" / "16.yaml").write_text(f'"{LUT}": {{mean: 1.25, std: 0.01, count: 100}}\n')
    for command in COMMANDS:
        outcome = run(command, place, timeout=600)
        # what a busy machine makes slower than it was promised is no concern of these trials
        if outcome.code not in (0, 3):
            raise SystemExit(f"{command}: {outcome.err}")
    finished.touch()
    return place


def copy_of(workplace: Path, place: Path) -> Path:
    """A fresh copy, so that no trial sees what another left."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(workplace, place, symlinks=True)
    return place


def export_in(place: Path) -> Path:
    """The one export of the workplace."""
    (config,) = (place / "delivery").glob("*/config.yaml")
    return config.parent
