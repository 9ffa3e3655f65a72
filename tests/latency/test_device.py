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
)


def test_this_machine_is_a_device() -> None:
    host = load_device(HOST)
    assert host.present
    assert host.cpu == host_cpu()
    assert HOST in list_devices()


def test_an_unknown_device_names_the_near_ones_and_the_command() -> None:
    with pytest.raises(ConfigError, match=r"did you mean a100.*profile --device a1000"):
        load_device("a1000")


def test_a_device_that_is_saved_is_found(tmp_path: Path) -> None:
    device = host_device().model_copy(update={"name": "mine"})
    device.save(tmp_path)
    assert load_device("mine", [tmp_path]) == device
    assert "mine" in list_devices([tmp_path])


def test_saving_never_replaces_a_device_file(tmp_path: Path) -> None:
    device = host_device().model_copy(update={"name": "mine", "description": "first"})
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
