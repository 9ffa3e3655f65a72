"""Estimates: computed from the datasheet, checked where somebody measured, and called estimated."""

import sys
from pathlib import Path

import numpy as np
import pytest

from nassearch.errors import TableError
from nassearch.latency.device import list_devices, load_device
from nassearch.latency.efficiency import load_efficiency, read_efficiency
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.roofline import relative_error, roofline
from nassearch.setting import Setting
from nassearch.space import BlockSpec, SearchSpace, block_specs

DATA = Path(__file__).parents[3] / "shared" / "data" / "latency"
BENCH = Path(__file__).parents[2] / "experiments" / "latency-accuracy"
OWNED_BY_NOBODY = ("a100", "v100", "t4", "h100", "jetson_orin", "raspberry_pi_4", "raspberry_pi_5")


def _predictor(space: SearchSpace, name: str, precision: str | None = None) -> LatencyPredictor:
    device = load_device(name)
    setting = device.setting(precision=precision)
    error = relative_error(device, setting)
    return LatencyPredictor.estimated(space, setting, roofline(device, setting), ratio=error)


@pytest.mark.parametrize("name", OWNED_BY_NOBODY)
def test_an_estimate_says_so_and_has_an_interval(space: SearchSpace, name: str) -> None:
    assert name in list_devices()
    predictor = _predictor(space, name)
    assert predictor.provenance == "estimated"
    low, high = predictor.interval([space.smallest, space.largest])
    predicted = predictor.predict([space.smallest, space.largest])
    assert (low < predicted).all()
    assert (predicted < high).all()
    assert predicted[0] < predicted[1]


def test_a_faster_device_is_estimated_faster() -> None:
    space = SearchSpace.load("mobilenet_v3")
    spec = max(block_specs(space), key=lambda spec: spec.resolution * spec.out_channels)
    times = [
        roofline(load_device(name), Setting(name, "tensorrt", "fp16", 64, None))(spec)
        for name in ("t4", "v100", "a100", "h100")
    ]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_a_few_channels_less_hardly_change_an_estimate(precision: str, kernel_size: int) -> None:
    device = load_device("v100")
    block_ms = roofline(device, device.setting(precision=precision, batch=32))
    choices = (("kernel_size", kernel_size), ("activation", "relu"))
    even, odd = (BlockSpec("conv", channels, 256, 14, 1, choices) for channels in (504, 501))
    assert block_ms(odd) == pytest.approx(block_ms(even), rel=0.1)


def test_a_precision_without_a_rate_is_refused() -> None:
    device = load_device("v100")
    with pytest.raises(TableError, match="rates for fp32, fp16, int8"):
        roofline(device, device.setting(precision="bf16"))


def test_a_device_without_rates_is_refused() -> None:
    device = load_device("host")
    with pytest.raises(TableError, match=r"no rates.*nassearch profile --device host"):
        roofline(device, device.setting())


def test_the_curves_state_their_source_and_their_error() -> None:
    efficiency = load_efficiency()
    assert "V100" in efficiency.source
    for precision in ("fp32", "fp16", "int8"):
        assert 0 < efficiency.median_error[precision] <= 0.10


def test_a_damaged_file_of_curves_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "efficiency.json"
    path.write_text('{"curves": {"fp32": {}}}', encoding="utf-8")
    with pytest.raises(TableError, match="efficiency curves"):
        read_efficiency(path)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")
def test_the_stated_error_is_that_of_convolutions_not_fitted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(BENCH)
    sys.modules.pop("fit_efficiency", None)
    import fit_efficiency

    efficiency = load_efficiency()
    lines = (DATA / "v100_tensorrt_convs" / "fp16.txt").read_text().splitlines()
    path = tmp_path / "some.txt"
    path.write_text("\n".join(lines[::9]), encoding="utf-8")
    frame = fit_efficiency.read_convolutions(path)
    frame = frame[fit_efficiency.held_out(frame)]
    errors = fit_efficiency.errors(efficiency, frame, "fp16")
    assert np.median(errors) == pytest.approx(efficiency.median_error["fp16"], abs=0.01)


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("a100", {"runtime": "pytorch"}, "did you mean torch"),
        ("a100", {"runtime": "cuda"}, "nothing of the runtime cuda"),
        ("a100", {"threads": 4}, "nothing of 4 threads"),
        ("raspberry_pi_4", {"threads": 64}, "nothing of 64 threads.*--threads 1"),
        ("raspberry_pi_4", {"runtime": "tensorrt"}, "speaks of onnxruntime"),
    ],
)
def test_a_datasheet_is_not_asked_what_it_says_nothing_of(
    name: str, asked: dict[str, object], message: str
) -> None:
    device = load_device(name)
    with pytest.raises(TableError, match=message):
        roofline(device, device.setting(**asked))


def test_a_framework_that_dispatches_operators_is_estimated_slower(space: SearchSpace) -> None:
    device, spec = load_device("a100"), block_specs(space)[1]
    engine = roofline(device, device.setting())(spec)
    assert roofline(device, device.setting(runtime="torch"))(spec) > 3 * engine
