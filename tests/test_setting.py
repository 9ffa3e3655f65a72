"""Setting: text and files say it, and nothing else is one."""

import pytest

from nassearch.errors import ConfigError
from nassearch.setting import Setting, WithSetting


@pytest.mark.parametrize(
    "setting",
    [
        Setting("zen4", "openvino", "int8", 1, 1),
        Setting("a100", "torch-compiled", "fp16", 64, None),
        Setting("box", "my_package.module:Runtime", "fp32", 2, 4),
    ],
)
def test_a_setting_is_read_back_from_its_text(setting: Setting) -> None:
    assert Setting.parse(str(setting)) == setting
    assert Setting.from_dict(setting.to_dict()) == setting
    assert not set(setting.stem) & set('/\\:*?"<>| ')


def test_a_command_line_names_all_of_it() -> None:
    options = Setting("pi", "openvino", "int8", 8, 4).options
    assert options == "--device pi --runtime openvino --precision int8 --batch 8 --threads 4"


@pytest.mark.parametrize(
    "fields",
    [
        {"runtime": "../x"},
        {"runtime": ""},
        {"runtime": None},
        {"precision": "fp/32"},
        {"batch": 0},
        {"batch": True},
        {"batch": "1"},
        {"threads": 0},
        {"threads": 1.5},
        {"device": "a,b"},
    ],
)
def test_what_is_no_setting_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Setting.from_dict({"device": "box", "runtime": "fake", **fields})


class Record(WithSetting):
    value: float


def test_a_record_keeps_the_keys_of_its_setting_flat() -> None:
    flat = {"device": "box", "runtime": "fake", "precision": "fp32", "batch": 1, "value": 2.0}
    record = Record.model_validate(flat)
    assert record.setting == Setting("box", "fake", "fp32", 1, None)
    assert record.model_dump(mode="json", exclude_none=True) == flat
    assert Record.model_validate(record.model_dump()) == record
    with pytest.raises(ValueError, match="batch: 0 is not a whole number"):
        Record.model_validate({**flat, "batch": 0})
