"""Accuracies that somebody has: a CSV of networks of a space, searched without any images.

Networks of the file have the accuracy it says. Those of others are predicted by the Gaussian
process that guided searches with, and what takes a choice that no network of the file takes is
told: nothing in the file speaks of it.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nassearch.errors import TableError
from nassearch.latency.importing.networks_csv import (
    column_names,
    find_columns,
    number,
    read_rows,
    whole_number,
)
from nassearch.objectives.objective import Context, build
from nassearch.provenance import Estimate, Provenance
from nassearch.search.algorithms.gaussian_process import Features, Featuriser, GenePredictor
from nassearch.search.feasible_region import key
from nassearch.search.problem import Floats
from nassearch.space import Architecture, SearchSpace
from nassearch.space.search_space import Genes

ACCURACY, ERROR = "accuracy", "error"
_LEAST = 10
"""Networks below which nothing is predicted."""
_FITTED = 2000
"""Networks that the prediction is learned from, at most."""
_FOLDS = 5
_Z = 1.959964
_SIZES = ("macs", "params")
_SHOWN = 4


@dataclass(frozen=True)
class Listed:
    """The networks of a file: genes, uint8 (n, genes), accuracies of 0..1 and their errors, (n,).

    An error is not a number where the file gives none.
    """

    genes: Genes
    accuracies: Floats
    errors: Floats


class AccuracyTable:
    """The objective `accuracy`, as a file says it of some networks of a space. It is cheap."""

    direction = "max"
    is_cheap = True

    def __init__(self, path: Path, space: SearchSpace) -> None:
        """Read the file, and say what lies outside what it lists.

        Raises:
            TableError: A row is no network of the space, its accuracy is none, or it stands twice
                with two accuracies; or there are too few to learn from.
        """
        self._space, self.path = space, path
        self.listed = _read(path, space)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        self.source = f"{path.name} {digest}"
        self._rows = {key(row): place for place, row in enumerate(self.listed.genes)}
        self._seen = _seen(space, self.listed.genes)
        unseen = self.unseen
        if unseen:
            more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
            warnings.warn(
                f"{path}: none of its {len(self._rows)} networks takes"
                f" {', '.join(unseen[:_SHOWN])}{more}: accuracies of networks that do are"
                " extrapolated",
                stacklevel=2,
            )

    @property
    def unseen(self) -> list[str]:
        """What may be chosen, and no network of the file takes: 'resolution 160', ..."""
        return [
            f"{gene.name} {choice}"
            for gene, seen in zip(self._space.genes, self._seen, strict=True)
            for choice, is_seen in zip(gene.choices, seen, strict=True)
            if not is_seen
        ]

    def beyond(self, architecture: Architecture) -> list[str]:
        """What an architecture takes that no network of the file does."""
        row = np.array([self._space.encode(architecture)], dtype=np.uint8)
        active = _active(self._space, row)[0]
        return [
            f"{gene.name} {gene.choices[value]}"
            for gene, value, is_active, seen in zip(
                self._space.genes, row[0].tolist(), active, self._seen, strict=True
            )
            if is_active and not seen[value]
        ]

    def __call__(self, architecture: Architecture) -> Estimate:
        genes = np.array([self._space.encode(architecture)], dtype=np.uint8)
        place = self._rows.get(key(genes[0]))
        if place is None:
            value = float(self.of_genes(genes)[0])
            if self.beyond(architecture):
                return Estimate(value, Provenance(f"extrapolated from {self.path.name}"))
            low, high = (min(max(value + sign * self._half, 0.0), 1.0) for sign in (-1, 1))
            return Estimate(value, Provenance(f"predicted from {self.path.name}"), low, high)
        value, error = float(self.listed.accuracies[place]), float(self.listed.errors[place])
        said = Provenance(f"listed in {self.path.name}")
        if np.isnan(error):
            return Estimate(value, said)
        return Estimate(value, said, max(0.0, value - _Z * error), min(1.0, value + _Z * error))

    def of_genes(self, genes: Genes) -> Floats:
        """The accuracies of canonical gene vectors, (n,): as listed, or else predicted."""
        values = np.clip(-self._predictor.mean(self._features(genes)), 0.0, 1.0)
        places = [self._rows.get(key(row), -1) for row in genes]
        known = np.array(places, dtype=np.intp)
        values[known >= 0] = self.listed.accuracies[known[known >= 0]]
        return values

    @cached_property
    def _featurise(self) -> Featuriser:
        sizes = [objective for name in _SIZES for objective in build(name, Context(self._space))]
        return Featuriser(self._space, sizes)

    def _features(self, genes: Genes) -> Features:
        return self._featurise(genes)

    @cached_property
    def _fitted(self) -> npt.NDArray[np.intp]:
        """The rows that are learned from."""
        order = np.random.default_rng(0).permutation(len(self.listed.genes))
        return np.sort(order[:_FITTED])

    @cached_property
    def _predictor(self) -> GenePredictor:
        return self._learned_from(self._fitted)

    @cached_property
    def _half(self) -> float:
        """How far a prediction is off, at 95 %, of a fifth of the networks that it was not told."""
        left_out = self._fitted[::_FOLDS]
        others = np.setdiff1d(self._fitted, left_out)
        predicted = -self._learned_from(others).mean(self._features(self.listed.genes[left_out]))
        return float(np.quantile(np.abs(predicted - self.listed.accuracies[left_out]), 0.95))

    def _learned_from(self, rows: npt.NDArray[np.intp]) -> GenePredictor:
        predictor = GenePredictor()
        predictor.fit(
            self._features(self.listed.genes[rows]),
            -self.listed.accuracies[rows],
            self.listed.errors[rows] ** 2,
        )
        return predictor


def _read(path: Path, space: SearchSpace) -> Listed:
    rows = read_rows(path, (ACCURACY,))
    has_errors = ERROR in column_names(path)
    columns = find_columns(path, rows, space)
    scale = _scale(path, rows)
    found: dict[tuple[int, ...], tuple[str, float, float]] = {}
    elsewhere = 0
    for name, row in rows:
        where = f"{path}: {name}"
        if columns.resolution is not None:
            pixels = whole_number(row[columns.resolution], f"{where}: {columns.resolution}")
            if pixels not in space.resolutions:
                elsewhere += 1
                continue
        genes = space.encode(columns.network(row, space, where=where))
        accuracy = _share(row, ACCURACY, scale, where)
        error = _share(row, ERROR, scale, where) if has_errors else float("nan")
        first, known, _ = found.setdefault(genes, (name, accuracy, error))
        if known != accuracy:
            raise TableError(
                f"holds the same network as {first} with another accuracy ({known:g})",
                where=where,
                fix="keep one row, for instance with the mean of both",
            )
    if elsewhere:
        warnings.warn(
            f"{path}: left out {elsewhere} of {len(rows)} networks, of resolutions that"
            f" {space.name} does not have",
            stacklevel=2,
        )
    if len(found) < _LEAST:
        raise TableError(
            f"holds {len(found)} networks of {space.name}, too few to learn from",
            where=path,
            fix=f"give at least {_LEAST}",
        )
    _, accuracies, errors = zip(*found.values(), strict=True)
    return Listed(np.array(list(found), dtype=np.uint8), np.array(accuracies), np.array(errors))


def _scale(path: Path, rows: Sequence[tuple[str, Mapping[Any, Any]]]) -> float:
    """1, or 0.01 of percents: where any accuracy is above 1."""
    largest = max(number(row[ACCURACY], f"{path}: {name}: {ACCURACY}") for name, row in rows)
    return 0.01 if largest > 1 else 1.0


def _share(row: Mapping[Any, Any], column: str, scale: float, where: str) -> float:
    value = scale * number(row[column], f"{where}: {column}")
    if column == ACCURACY and not 0 <= value <= 1:
        raise TableError(
            f"{value / scale:g} is no accuracy",
            where=where,
            fix="write shares of 0..1, or percents throughout",
        )
    if column == ERROR and value < 0:
        raise TableError(f"{value / scale:g} is no error", where=where, fix="leave it empty, or 0")
    return value


def _active(space: SearchSpace, genes: Genes) -> npt.NDArray[np.bool_]:
    """Whether each gene says something, (n, genes): where another choice is another network."""
    found = np.empty(genes.shape, dtype=bool)
    for place, gene in enumerate(space.genes):
        other = genes.copy()
        other[:, place] = (genes[:, place] + 1) % len(gene.choices)
        found[:, place] = (space.canonical(other) != genes).any(axis=1)
    return found


def _seen(space: SearchSpace, genes: Genes) -> list[npt.NDArray[np.bool_]]:
    """For each gene, which of its choices a network takes where it says something."""
    active = _active(space, genes)
    return [
        np.isin(np.arange(len(gene.choices)), genes[active[:, place], place])
        for place, gene in enumerate(space.genes)
    ]
