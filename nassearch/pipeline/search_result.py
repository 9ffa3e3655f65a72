"""SearchResult: a search that ended, as a notebook, a table and a file show it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from nassearch.data.loading import AnyData
from nassearch.errors import SearchError
from nassearch.export.picks import read_picks, run_of
from nassearch.pipeline.pick import Pick
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.report.page import front_figure
from nassearch.search.journal import latest_search, load_latest
from nassearch.search.pareto import ParetoFront
from nassearch.search.problem import ACCURACY
from nassearch.space import Architecture


@dataclass(frozen=True)
class SearchResult:
    """A search that ended: its front, and a pick for each set of budgets, in their order.

    Examples:
        >>> import nassearch as ns
        >>> list(ns.load_search("runs/latest").to_pandas()["budget"])
        ['30%', '60%']
    """

    front: ParetoFront
    picks: tuple[Pick, ...]
    supernet: TrainedSupernet
    directory: Path
    remark: str | None = None
    """Why the front is one network, and what to do; None where there is nothing to say."""

    @classmethod
    def load(cls, directory: Path, *, data: AnyData | None = None) -> "SearchResult":
        """The search that ended last in `directory`, a run or the `out` of a search.

        Nothing is computed again. Raises SearchError where no search ended there.
        """
        content = read_picks(directory)
        owner = TrainedSupernet.load(run_of(directory), data=data)
        past = load_latest(directory, space=owner.space)
        owner, front = owner.deployed_in(past.space.precisions), past.front
        by_id = {candidate.architecture.id: candidate for candidate in front}
        picks = []
        for record in content.picks:
            architecture = Architecture.from_dict(record.architecture)
            candidate = by_id.get(architecture.id)
            if candidate is None:
                raise SearchError(
                    f"the pick {architecture.id} is not on the front",
                    where=latest_search(directory),
                    fix="search again",
                )
            picks.append(Pick(record.budget, candidate, record.latency, owner, directory))
        return cls(front, tuple(picks), owner, directory, content.remark)

    def to_pandas(self) -> pd.DataFrame:
        """The picks as a table, a row for each budget and device."""
        rows = []
        for pick in self.picks:
            accuracy = pick.candidate.values.get(ACCURACY)
            own = {} if pick.metric is None else {pick.metric[0]: pick.metric[1].value}
            for claim in pick.latency or (None,):
                rows.append(
                    {
                        "budget": pick.budget,
                        "id": pick.architecture.id,
                        "accuracy": None if accuracy is None else accuracy.value,
                        **own,
                        "setting": None if claim is None else str(claim.setting),
                        "predicted_ms": None if claim is None else claim.predicted_ms,
                        "measured_ms": None if claim is None else claim.measured_ms,
                    }
                )
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """The candidates and their front over the first latency or cost, as the report draws it."""
        return front_figure(self.directory)

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False)

    def to_dict(self) -> dict[str, Any]:
        """The choices and the front as JSON."""
        return {
            "directory": str(self.directory),
            "remark": self.remark,
            "picks": [
                {
                    "budget": pick.budget,
                    "id": pick.architecture.id,
                    "values": {k: v.to_dict() for k, v in pick.candidate.values.items()},
                    "latency": [item.model_dump(exclude_none=True) for item in pick.latency],
                }
                for pick in self.picks
            ],
            "front": [
                {
                    "id": candidate.architecture.id,
                    "values": {k: v.to_dict() for k, v in candidate.values.items()},
                }
                for candidate in self.front.sorted()
            ],
        }
