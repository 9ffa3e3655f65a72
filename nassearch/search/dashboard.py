"""Dashboard: a search as an Optuna study on disk, for optuna-dashboard and Optuna's plots.

It mirrors the journal and is never read back: what it lacks or has lost is added from there.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nassearch import files, interruption
from nassearch.search.candidate import Candidate
from nassearch.search.problem import Problem


class Dashboard:
    """The study `name` in an Optuna journal file; parameters are the choices themselves."""

    def __init__(self, path: Path, problem: Problem, *, name: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _drop_incomplete_line(path)
        self._problem = problem
        self._distributions = {
            gene.name: CategoricalDistribution(gene.choices) for gene in problem.space.genes
        }
        self._path = path
        with self._whole_lines(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(path))),
                study_name=name,
                directions=[
                    "maximize" if axis.direction == "max" else "minimize" for axis in problem.axes
                ],
                load_if_exists=True,
            )
            self._study.set_metric_names([axis.name for axis in problem.axes])
        self._held = {
            str(trial.user_attrs.get("architecture"))
            for trial in self._study.get_trials(deepcopy=False)
        }

    def add(self, candidate: Candidate) -> None:
        """Add one finished trial, FAIL where a number is missing; nothing where it is held."""
        identity = candidate.architecture.id
        if identity in self._held:
            return
        self._held.add(identity)
        genes = self._problem.space.encode(candidate.architecture)
        values = [candidate.number(axis.name) for axis in self._problem.axes]
        attributes: dict[str, object] = {"architecture": identity}
        for name, value in candidate.values.items():
            attributes[f"{name} from"] = str(value.provenance)
        trial = optuna.create_trial(
            state=TrialState.COMPLETE if candidate.is_finite else TrialState.FAIL,
            values=values if candidate.is_finite else None,
            params={
                gene.name: gene.choices[choice]
                for gene, choice in zip(self._problem.space.genes, genes, strict=True)
            },
            distributions=self._distributions,
            user_attrs=attributes,
            constraints={
                name: candidate.number(name) - limit
                for name, limit in self._problem.limits.items()
                if candidate.values[name].is_finite
            },
        )
        with self._whole_lines():
            self._study.add_trial(trial)

    @contextmanager
    def _whole_lines(self) -> Iterator[None]:
        """Within the block Optuna writes without being interrupted, which would cost it its lock;
        OutputError where it cannot."""
        with interruption.put_off(), files.writing(self._path):
            yield


def _drop_incomplete_line(path: Path) -> None:
    """Cut what follows the last line end: after a kill while writing, Optuna could not read on.

    The caller holds the search's lock, so a lock file of Optuna's is one a killed process left.
    """
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.exists():
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            path.write_bytes(complete)
