"""A graph is data of strangers: whatever it says works, or is refused in one line."""

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nassearch.errors import NassearchError
from nassearch.ops import check_space
from nassearch.space import SearchSpace
from tests.adoption.network import NETWORKS, adopted_space

SPOILT = st.sampled_from(
    [0, 1, -1, 3, 7, 10**6, 10**12, 0.5, "", "0", "x", "out", "in*3", "g1+g1", "g1*999999999",
     "1000", [], [0, 0], [1, 1], [7, 7], [1024, 1024], [[2, 3]], [["2", "out"]], True, None, {"a": 1}]
)  # fmt: skip


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_spoilt_graph_works_or_is_refused_in_one_line(data: st.DataObject) -> None:
    content: dict[str, Any] = copy.deepcopy(adopted_space(NETWORKS["own"]).to_dict())
    graphs = content["graphs"]
    graph = graphs[data.draw(st.sampled_from(sorted(graphs)))]
    place = data.draw(st.sampled_from(["input", "symbols", "node", "node", "node", "order"]))
    if place == "input":
        graph["input"] = data.draw(SPOILT)
    elif place == "symbols":
        symbol = data.draw(st.sampled_from(sorted(graph["symbols"])))
        graph["symbols"][symbol] = data.draw(SPOILT)
    elif place == "order":
        number = data.draw(st.integers(0, len(graph["nodes"]) - 1))
        graph["nodes"].append(graph["nodes"].pop(number))
    else:
        node = graph["nodes"][data.draw(st.integers(0, len(graph["nodes"]) - 1))]
        keys = sorted({*node, "kernel", "axes", "dims", "out", "group_in"})
        node[data.draw(st.sampled_from(keys))] = data.draw(SPOILT)
    try:
        check_space(SearchSpace.from_dict(content, where="mine.yaml"))
    except NassearchError as error:
        assert "\n" not in str(error)
        assert error.where
        assert error.fix
