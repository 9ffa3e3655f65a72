"""The whole job through `import nassearch as ns` alone; nothing below the package is imported."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import nassearch as ns

BUDGETS = ["30%", "60%", ("80%", "params=50K")]


@dataclass
class Session:
    """What the steps of one session returned."""

    place: Path
    supernet: ns.TrainedSupernet
    table: ns.LatencyTable
    result: ns.SearchResult
    exports: list[ns.ExportedNetwork]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The ten lines, with a device whose latencies are computed, so that they are exact."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("session")
        patch.chdir(place)
        data = ns.load_data("digits")
        supernet = ns.train_supernet("digits_tiny", data, epochs=2, threads=1)
        table = ns.profile_device("digits_tiny", device="box", runtime="fake", seconds=1)
        result = ns.search_subnets(supernet, devices=[table], budgets=BUDGETS, trials=6)
        exports = ns.export_subnets(result.picks, formats=["weights", "onnx"])
        yield Session(place, supernet, table, result, exports)


@pytest.fixture(autouse=True)
def _in_the_session(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(session.place)


def test_each_entry_of_budgets_has_a_pick_in_order(session: Session) -> None:
    picks = session.result.picks
    assert [pick.budget for pick in picks] == ["30%", "60%", "80% and params=50K"]
    for pick in picks:
        [claim] = pick.latency
        assert claim.setting == session.table.setting
        assert claim.measured_ms <= claim.budget_ms
        assert claim.predicted_ms == pytest.approx(claim.measured_ms, rel=0.02)
    limits = [pick.latency[0].budget_ms for pick in picks]
    assert limits == sorted(limits)
    # shares lie so far from the fastest network to the largest
    share = (limits[1] - limits[0]) / (limits[2] - limits[0])
    assert share == pytest.approx((60 - 30) / (80 - 30))
    assert picks[2].candidate.values["params"].value <= 50_000


def test_a_pick_is_the_most_accurate_of_the_front_within_its_budgets(session: Session) -> None:
    front = session.result.front.to_pandas()
    for pick in session.result.picks:
        limit = pick.latency[0].budget_ms
        within = front[front["latency"] <= limit / 1.02]
        if "params" in pick.budget:
            within = within[within["params"] <= 50_000]
        assert pick.candidate.values["accuracy"].value >= within["accuracy"].max()


def test_exports_are_the_picks_and_agree_with_the_supernet(session: Session) -> None:
    assert len(session.exports) == len(BUDGETS)
    images = session.supernet.data.normalise(session.supernet.data.val.images[:16])
    for export, pick in zip(session.exports, session.result.picks, strict=True):
        assert export.directory.name == pick.architecture.id == export.config.id
        network = ns.load(export.directory)
        assert isinstance(network, ns.Subnet)
        expected = session.supernet.extract(pick.architecture)(images)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
        assert sum(p.numel() for p in network.parameters()) == export.config.params


def test_verify_finds_no_broken_promise(session: Session) -> None:
    checks = ns.verify_exports(session.exports[:1], seconds=0.3)
    assert [check.broken for check in checks] == [[]]
    [latency] = checks[0].latency
    assert latency.measured is not None
    assert latency.measured.median_ms <= latency.promised.budget_ms
    assert checks[0].largest_difference < 1e-4


def test_directories_open_what_objects_held(session: Session) -> None:
    run = session.supernet.directory
    supernet = ns.load_supernet(run)
    assert supernet.fingerprint == session.supernet.fingerprint
    assert supernet.data.fingerprint == session.supernet.data.fingerprint
    result = ns.load_search(run)
    assert [(pick.budget, pick.architecture, pick.latency) for pick in result.picks] == [
        (pick.budget, pick.architecture, pick.latency) for pick in session.result.picks
    ]
    assert len(result.front) == len(session.result.front)
    table = ns.load_table("box/fake-fp32-b1-t1")
    assert table.setting == session.table.setting
    assert {key: row.median_ms for key, row in table.blocks.items()} == pytest.approx(
        {key: row.median_ms for key, row in session.table.blocks.items()}, rel=1e-4
    )
    export = ns.load_export(session.exports[0].directory)
    written = session.exports[0].config.model_dump(mode="json")
    assert export.config.model_dump(mode="json") == written
    again = ns.export_subnets(run, formats=["weights"], out="again")
    assert [item.config.id for item in again] == [item.config.id for item in session.exports]


def test_values_show_themselves(session: Session) -> None:
    shown = [session.supernet.data, session.result, session.exports[0], session.exports]
    assert all("<table" in value._repr_html_() for value in shown)
    assert str(session.supernet.directory) in repr(session.supernet)
    assert list(session.result.to_pandas()["budget"]) == [p.budget for p in session.result.picks]
    assert list(session.table.to_pandas()["key"]) == sorted(session.table.blocks)
    assert len(session.result.plot().data) > 0


def test_another_setting_of_a_device_is_searched_exported_and_verified(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nassearch.pipeline.pick.MEASURE_SECONDS", 0.3)
    table = ns.profile_device(
        "digits_tiny", device="host", precision="int8", seconds=0.5, max_networks=4
    )
    assert table.setting.precision == "int8"
    result = ns.search_subnets(
        session.supernet, devices=["host"], precision="int8", budgets=["100%"], trials=2, out="int8"
    )
    [pick] = result.picks
    assert pick.latency[0].setting == table.setting
    [export] = ns.export_subnets(result.picks)
    assert (export.directory / "model-int8.onnx").is_file()
    [check] = ns.verify_exports(export, seconds=0.3)
    assert "int8" in check.formats
    assert check.latency[0].promised.setting == table.setting
    assert check.latency[0].measured is not None


def num_blocks(architecture: ns.Architecture) -> float:
    """A user's objective, cheap enough to carry a budget."""
    return float(sum(len(stage.blocks) for stage in architecture.stages))


num_blocks.is_cheap = True  # type: ignore[attr-defined]


def test_a_users_objective_and_accuracy_are_arguments(session: Session) -> None:
    networks: list[nn.Module] = []

    def evaluate(network: nn.Module) -> float:
        networks.append(network)
        assert not network.training
        return 1 / (1 + sum(parameter.numel() for parameter in network.parameters()))

    least = num_blocks(session.supernet.space.smallest)
    result = ns.search_subnets(
        session.supernet,
        devices=[session.table],
        objectives=["accuracy", "latency", num_blocks],
        evaluate=evaluate,
        budgets=[("80%", f"num_blocks={least:g}")],
        trials=4,
        out="own",
    )
    [pick] = result.picks
    assert pick.candidate.values["num_blocks"].value == least == num_blocks(pick.architecture)
    assert {type(network) for network in networks} == {ns.Subnet}
    params = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert pick.candidate.values["accuracy"].value == pytest.approx(1 / (1 + min(params)))


def test_a_users_dataset_and_loss_are_arguments(session: Session) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(60) % 3
    data = ns.load_data(TensorDataset(images, labels), classes=["a", "b", "c"])
    assert (data.num_classes, data.in_channels) == (3, 1)
    calls = []

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        calls.append(logits.shape)
        return nn.functional.cross_entropy(logits, labels)

    supernet = ns.train_supernet("digits_tiny", data, epochs=1, loss=loss, out="own-data")
    assert supernet.space.num_classes == 3
    assert calls
    assert {shape[1] for shape in calls} == {3}
    result = ns.search_subnets(supernet, devices=["raspberry_pi_4"], budgets=["50%"], trials=2)
    [export] = ns.export_subnets(result.picks, formats=["weights"])
    assert export.load()(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    again = ns.load_supernet("own-data", data=data)
    assert again.fingerprint == supernet.fingerprint


def test_the_public_names_are_few_and_all_there() -> None:
    assert sorted(ns.__all__) == ns.__all__
    assert len(ns.__all__) <= 34
    assert set(ns.__all__) == set(ns._HOMES)
    assert set(ns.__all__) <= set(dir(ns))
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        ns.train  # noqa: B018


@pytest.mark.parametrize("name", ns.__all__)
def test_a_public_name_is_what_its_home_holds(name: str) -> None:
    value = getattr(ns, name)
    assert inspect.isclass(value) if name[0].isupper() else inspect.isfunction(value)
    assert value.__name__ == name


def test_no_module_hides_a_public_name() -> None:
    modules = [item.name for item in pkgutil.walk_packages(ns.__path__)]
    assert not set(modules) & set(ns.__all__)
    for module in pkgutil.walk_packages(ns.__path__, "nassearch."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert not [name for name in ns.__all__ if inspect.ismodule(getattr(ns, name))]


def test_this_file_imports_nothing_below_the_package() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    below = "nassearch."  # said apart, so that this line is not one
    assert f"from {below}" not in source
    assert f"import {below}" not in source
    assert importlib.import_module("nassearch") is ns
