"""TrainedSupernet: a supernet with what is needed to evaluate, search and export its subnets."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from nassearch.config import format_count
from nassearch.data.dataset import Data
from nassearch.data.loading import AnyData
from nassearch.export.deployment import deployed
from nassearch.latency.target import Target
from nassearch.networks import Subnet, Supernet
from nassearch.objectives.measured import accuracy_estimate
from nassearch.objectives.objective import Context
from nassearch.pipeline.adopt import read_layers
from nassearch.pipeline.evaluation_cache import EvaluationCache
from nassearch.pipeline.import_record import ImportRecord, read_import
from nassearch.pipeline.run_directory import NO_IMAGES, no_images, run_data, run_recipe
from nassearch.provenance import Estimate
from nassearch.recipe import Recipe
from nassearch.space import Architecture, SearchSpace
from nassearch.training import checkpoint
from nassearch.training.evaluation import Evaluator
from nassearch.training.sensitivity import supernet_sensitivity
from nassearch.training.sensitivity_record import SensitivityRecord, read_sensitivity


@dataclass(frozen=True)
class TrainedSupernet:
    """A trained supernet, the images it is validated on, and the run directory that holds it.

    One that was imported without images has none, and `data` raises DataError.

    Examples:
        >>> import nassearch as ns
        >>> supernet = ns.load_supernet("runs/latest")
        >>> supernet.accuracy(supernet.space.largest).provenance.split
        'val'
    """

    directory: Path
    supernet: Supernet
    recipe: Recipe
    images: Data | None
    step: int
    num_steps: int | None = None
    """Of the whole training, where it is known."""
    precisions: tuple[str, ...] = ()
    """Those that blocks are deployed in, the lowest first, where that is to be chosen as well."""

    @classmethod
    def load(cls, run: Path, *, data: AnyData | None = None) -> "TrainedSupernet":
        """The supernet of a run; `data` where its images are not where its recipe says.

        Raises:
            ConfigError: `run` is no run.
            DataError: the images are not those that it was trained on.
            CheckpointError: it holds no checkpoint, or a damaged one.
        """
        recipe = run_recipe(run)
        saved = checkpoint.load(run)
        supernet = checkpoint.load_supernet(run)
        images = None if data is None and not saved.data else run_data(run, data)
        was_trained = read_import(run) is None and read_layers(run) is None
        num_steps = saved.steps_per_epoch * recipe.training.epochs if was_trained else None
        return cls(run, supernet, recipe, images, saved.step, num_steps)

    def deployed_in(self, precisions: Sequence[str]) -> "TrainedSupernet":
        """This supernet with a space in which each block has one of `precisions`."""
        chosen = tuple(precisions)
        return self if chosen == self.precisions else replace(self, precisions=chosen)

    @cached_property
    def space(self) -> SearchSpace:
        """What may be chosen of it."""
        return self.supernet.space.mixed(self.precisions)

    @property
    def data(self) -> Data:
        """The images it is validated on; DataError where there are none."""
        if self.images is None:
            raise no_images(self.directory)
        return self.images

    @property
    def name(self) -> str:
        """The run and the step of its training, as people read it."""
        record = read_import(self.directory)
        if record is not None:
            return f"{self.directory.resolve().name}, imported: {record.title}"
        return f"{self.directory.resolve().name} step {self.step}"

    @property
    def is_unfinished(self) -> bool:
        """Whether its training was interrupted, or goes on."""
        return self.num_steps is not None and self.step < self.num_steps

    @property
    def import_record(self) -> ImportRecord | None:
        """What was loaded of a published file; None where the supernet was not imported."""
        return read_import(self.directory)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of the weights: accuracies of others are none of theirs."""
        digest = hashlib.sha256(self.space.fingerprint.encode())
        for name, tensor in self.supernet.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    @cached_property
    def evaluator(self) -> Evaluator:
        deploy = partial(deployed, data=self.data) if self.precisions else None
        return Evaluator(self.supernet, self.data, deploy=deploy)

    @cached_property
    def sensitivity(self) -> SensitivityRecord:
        """How much the largest network minds int8, block by block; measured once and kept."""
        known = read_sensitivity(self.directory)
        if known is not None and known.supernet == self.fingerprint:
            return known
        plain = self.deployed_in(())
        loss = plain.evaluator.accuracy(plain.space.largest).loss
        assert loss is not None
        blocks = supernet_sensitivity(self.supernet, self.data)
        measured = SensitivityRecord.of(blocks, supernet=self.fingerprint, loss=loss)
        measured.save(self.directory)
        return measured

    @cached_property
    def cache(self) -> EvaluationCache:
        """Measurements by earlier searches of these weights on these images."""
        images = NO_IMAGES
        if self.images is not None:  # the preprocessing that was the only one says nothing
            said = self.images.preprocessing.fingerprint
            images = f"{self.data.name} {self.recipe.seed} {len(self.data.val)} {said}".rstrip()
        return EvaluationCache(self.directory, f"{self.fingerprint} {images}", self.space)

    def context(self, targets: Sequence[Target] = ()) -> Context:
        """The context that objectives over this supernet and these devices are computed from."""
        said = "" if self.images is None else self.images.preprocessing.fingerprint
        source = f"{self.name} {self.fingerprint} {said}".rstrip()
        evaluator = None if self.images is None else self.evaluator
        return Context(
            self.space,
            tuple(targets),
            evaluator,
            source,
            sensitivity=None if evaluator is None else lambda: self.sensitivity,
        )

    def extract(self, architecture: Architecture) -> Subnet:
        """The subnet as a plain module with recalibrated batch norm, in evaluation mode."""
        return self.evaluator.subnet(architecture)

    def accuracy(self, architecture: Architecture) -> Estimate:
        """Top-1 accuracy of a subnet on the validation images, with its 95 % interval."""
        return accuracy_estimate(self.evaluator.accuracy(architecture))

    def __repr__(self) -> str:
        return (
            f"TrainedSupernet({self.directory}: {self.space.name},"
            f" {format_count(self.space.size())} networks, trained on"
            f" {NO_IMAGES if self.images is None else self.images.name}, step {self.step})"
        )
