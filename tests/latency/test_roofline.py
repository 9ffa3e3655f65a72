"""Estimates: computed from the datasheet, checked where somebody measured, and called estimated."""

import sys
from pathlib import Path

import numpy as np
import pytest

from nassearch.errors import TableError
from nassearch.latency.device import list_devices, load_device
from nassearch.latency.efficiency import (
    FILE,
    Layers,
    dump_efficiency,
    load_efficiency,
    read_efficiency,
)
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.roofline import (
    GPU_RELATIVE_ERROR,
    LEAST_LAUNCHES,
    columns_ms,
    relative_error,
    roofline,
)
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


def _pointwise(channels: int, pixels: int, *, batch: int) -> Layers:
    row = [batch, channels, channels, 1, pixels, channels * pixels, channels * pixels, channels**2]
    return Layers(*(np.array([value], dtype=np.float64) for value in [*row, 0, 0]))


@pytest.mark.parametrize("device", ["v100", "a100", "h100", "t4"])
def test_a_layer_inside_a_network_pays_no_call_of_its_own(device: str) -> None:
    rates, setting = load_device(device).rates, Setting(device, "tensorrt", "fp16", 1, None)
    assert rates is not None
    launch_ms, kinds = rates.launch_overhead_us / 1e3, np.array(["pointwise"])
    called_ms = load_efficiency().call_launches * launch_ms
    assert called_ms > launch_ms
    for layer in (_pointwise(64, 3136, batch=1), _pointwise(512, 3136, batch=16)):
        alone = columns_ms(layer, kinds, rates, setting, alone=True)[0]
        inside = columns_ms(layer, kinds, rates, setting)[0]
        assert inside == pytest.approx(max(alone - called_ms, LEAST_LAUNCHES * launch_ms))
    assert inside > 0.5 * alone, "a layer with work to do hardly notices"


def test_the_interval_admits_what_no_measurement_told() -> None:
    device = load_device("a100")

    def error(**asked: object) -> float:
        return relative_error(device, device.setting(**asked))  # type: ignore[arg-type]

    assert error() == error(batch=64) == error(runtime="tensorflow") == GPU_RELATIVE_ERROR
    assert error(precision="int8") >= 2 * (1 + GPU_RELATIVE_ERROR) - 1, (
        "or the layers ran in 16 bits"
    )
    assert error(runtime="torch") > 1, "hosts dispatch at twice and at half the rate"


def test_a_file_of_curves_is_written_as_it_was_read(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "latency_tables" / FILE
    text = shipped.read_text(encoding="utf-8")
    assert dump_efficiency(read_efficiency(shipped)) == text
    older = tmp_path / FILE  # of version 0.2, which knew no calls
    lines = [line for line in text.splitlines() if '"call_' not in line]
    older.write_text("\n".join(lines), encoding="utf-8")
    assert read_efficiency(older).call_launches == 0


@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")
def test_whole_networks_that_were_not_fitted_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    sys.modules.pop("gpunets", None)
    import gpunets

    costs = gpunets.read_costs(
        DATA, [name for name in gpunets.A100_MS if name not in gpunets.FITTED]
    )
    errors = []
    for row in gpunets.read_rows(DATA):
        if row.runtime == "tensorrt" and row.network in costs:
            estimated_ms = gpunets.estimate(costs[row.network], "v100", batch=row.batch)
            errors.append((row.batch, abs(estimated_ms / row.measured_ms - 1)))
    assert len(errors) == 21
    assert np.mean([error for _, error in errors]) <= 0.12
    assert np.mean([error for batch, error in errors if batch == 1]) <= 0.15
    assert max(error for _, error in errors) <= GPU_RELATIVE_ERROR


def test_a_framework_that_dispatches_operators_is_estimated_slower(space: SearchSpace) -> None:
    device, spec = load_device("a100"), block_specs(space)[1]
    engine = roofline(device, device.setting())(spec)
    assert roofline(device, device.setting(runtime="torch"))(spec) > 3 * engine
