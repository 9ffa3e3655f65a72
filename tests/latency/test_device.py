"""Devices: found by name, checked, and this machine among them."""

from pathlib import Path

import pytest

from nassearch.errors import ConfigError
from nassearch.latency.device import (
    HOST,
    host_cpu,
    host_device,
    known_or_new_device,
    list_devices,
    load_device,
    read_devices,
    resolve_setting,
)
from nassearch.setting import Setting


def test_this_machine_is_a_device() -> None:
    host = load_device(HOST)
    assert host.present
    assert host.cpu == host_cpu()
    assert HOST in list_devices()


def test_an_unknown_device_names_the_near_ones_and_the_command() -> None:
    with pytest.raises(ConfigError, match=r"did you mean a100.*profile --device a1000"):
        load_device("a1000")


def test_a_device_that_is_saved_is_found(tmp_path: Path) -> None:
    device = host_device().called("mine")
    device.save(tmp_path)
    assert load_device("mine", [tmp_path]) == device
    assert "mine" in list_devices([tmp_path])


def test_saving_never_replaces_a_device_file(tmp_path: Path) -> None:
    device = host_device().called("mine").model_copy(update={"description": "first"})
    device.save(tmp_path)
    device.model_copy(update={"description": "second"}).save(tmp_path)
    assert load_device("mine", [tmp_path]).description == "first"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mine\nspeed: 3\n", "unknown key 'speed'"),
        ("name: other\n", "must be 'mine'"),
        ("name: mine\ndefault: {batch: 0}\n", "default.batch"),
        ("name: [\n", "not valid YAML"),
    ],
)
def test_a_wrong_device_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "device.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_device("mine", [tmp_path])
    assert "device.yaml" in str(caught.value)


def test_a_name_nobody_knows_is_this_machine_under_a_new_name(tmp_path: Path) -> None:
    device = known_or_new_device("my_box", [tmp_path])
    assert device.name == "my_box"
    assert device.present


def test_what_is_asked_replaces_the_default_setting() -> None:
    setting = load_device("a100").setting(precision="int8", batch=64)
    assert (setting.device, setting.precision, setting.batch) == ("a100", "int8", 64)
    assert setting.runtime == load_device("a100").default.runtime


def test_a_device_in_a_list_may_name_its_whole_setting() -> None:
    device, setting = resolve_setting("zen4/openvino-int8-b1-t1")
    assert device.name == "zen4"
    assert setting == Setting("zen4", "openvino", "int8", 1, 1)
    _, setting = resolve_setting("zen4/openvino-int8-b1-t1", precision="fp32", threads=2)
    assert setting == Setting("zen4", "openvino", "fp32", 1, 2)
    _, setting = resolve_setting("a100", batch=64)
    assert setting == Setting("a100", "tensorrt", "fp16", 64, None)


@pytest.mark.parametrize("text", ["zen4/int8", "zen4/", "/openvino-int8-b1", "zen4/a-b-b0"])
def test_half_a_setting_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="zen4/openvino-int8-b1-t1"):
        resolve_setting(text)


ODD = ("", ".", "..", "../x", "a/b", "a\\b", "a,b", "a:b", "a=b", " a", "-a")


@pytest.mark.parametrize("name", ODD)
def test_one_rule_holds_for_the_names_of_devices(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        known_or_new_device(name, [tmp_path])
    with pytest.raises(ConfigError, match="cannot be called"):
        Setting(name, "fake")
    with pytest.raises(ConfigError, match=r"cannot be called|not a setting"):
        resolve_setting(name)


@pytest.mark.parametrize("name", ["pi4", "Redmi Note 10", "zen-4.2", "телефон", "a+"])
def test_names_that_users_may_want_are_taken(name: str, tmp_path: Path) -> None:
    device = known_or_new_device(name, [tmp_path])
    device.save(tmp_path)
    assert load_device(name, [tmp_path]) == device


def test_a_broken_device_breaks_no_other(tmp_path: Path) -> None:
    host_device().called("mine").save(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "device.yaml").write_text("name: [", encoding="utf-8")
    devices = read_devices([tmp_path])
    assert isinstance(devices["broken"], ConfigError)
    assert devices["mine"] == load_device("mine", [tmp_path])


def test_a_file_of_version_0_1_is_read_and_written_alike() -> None:
    device = load_device("zen4")
    assert device.default == Setting("zen4", "onnxruntime", "fp32", 1, 1)
    content = device.model_dump(mode="json", exclude_none=True)
    assert content["default"] == {
        "runtime": "onnxruntime",
        "precision": "fp32",
        "batch": 1,
        "threads": 1,
    }
    assert len(content["settings"]) == 3
