"""Formats bring their title and their options; what none of them reads is refused."""

import pytest

from nassearch.errors import ConfigError
from nassearch.export import FORMATS
from nassearch.export.format import make_format, make_formats


def test_a_format_reads_its_own_options_alone() -> None:
    made = make_formats(FORMATS, {"batch": "dynamic", "max_accuracy_loss": 0})
    graph = {"batch": "dynamic", "preprocess_in_graph": False}
    assert made["int8"].options.model_dump() == {**graph, "max_accuracy_loss": 0.0}
    assert made["onnx"].options.model_dump() == graph
    assert made["pt2"].options.model_dump() == {"batch": "dynamic"}
    assert made["weights"].options.model_dump() == {}
    assert make_format("pt2").options.model_dump() == {"batch": 1}


def test_every_format_has_a_title_and_a_file_of_its_own() -> None:
    made = make_formats(FORMATS)
    for names in ({item.title for item in made.values()}, {m.file_name for m in made.values()}):
        assert len(names) == len(FORMATS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batsch": 1}, "no format reads the option 'batsch', did you mean batch"),
        ({"batch": 0}, "format onnx: batch"),
        ({"batch": "all"}, "format onnx: batch"),
    ],
)
def test_what_a_format_does_not_take_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_formats(["config", "onnx"], options)
