"""ResultList: results that show themselves as a table in a notebook."""

from typing import Any, Protocol, TypeVar

import pandas as pd


class Row(Protocol):
    """A result that is a row of a table."""

    def to_row(self) -> dict[str, Any]: ...


Result = TypeVar("Result", bound=Row)


class ResultList(list[Result]):
    """A list of results; `to_pandas` and a notebook show them as a table, a row each."""

    def to_pandas(self) -> pd.DataFrame:
        """The results as a table."""
        return pd.DataFrame([item.to_row() for item in self])

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False)
