"""The cost of a fit on many machines: the model, what is fitted, and the page that shows it."""

import json

import numpy as np
import pytest

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks.networks import NETWORKS
from benchmarks.ranks import __main__ as command
from benchmarks.ranks import _measure, _report
from benchmarks.ranks._model import LINKS, MACHINES, Link, Model, Step, bytes_of, fitted
from tests.mpi import needs_mpi

MODEL = Model(operation=1e-11, byte=2e-11, step=3e-5)
LINK = Link(latency=5e-6, bandwidth=2e9)


def steps(model, names=_measure.NAMES):
    return [
        Step(name, batch, model.seconds(NETWORKS[name], batch))
        for name in names
        for batch in (16, 64, 256)
    ]


def record(model=MODEL, link=LINK):
    """What a machine of that model would measure."""
    alone = {}
    for name in _measure.NAMES:
        own = NETWORKS[name].batch_size
        alone[name] = {str(b): model.seconds(NETWORKS[name], b) for b in (own, 2 * own)}
    two = {
        name: model.seconds(NETWORKS[name], NETWORKS[name].batch_size, 2, link) for name in alone
    }
    sizes = {str(n): 2 * (link.latency + n / 2 / link.bandwidth) for n in _measure.SIZES}
    machine = {"machine": {"cpu": "a processor"}, "load": 0.1}
    return machine | {"alone": alone, "memory": two, "messages": two, "link": sizes}


def test_bytes_are_those_of_the_parameters():
    network = NETWORKS["784-128-10"]
    assert bytes_of(network) == network.build().parameters.nbytes


@pytest.mark.parametrize("model", [MODEL, Model(1e-11, 0, 3e-5), Model(1e-11, 2e-11, 0)])
def test_the_model_is_found_in_its_own_steps(model):
    found = fitted(steps(model))
    np.testing.assert_allclose(
        [found.operation, found.byte, found.step],
        [model.operation, model.byte, model.step],
        rtol=1e-6, atol=1e-20,
    )  # fmt: skip


def test_no_number_is_negative():
    """Steps whose smaller networks take less than nothing otherwise."""
    steep = [Step(s.name, s.batch, s.seconds**1.5) for s in steps(Model(1e-11, 0, 0))]
    found = fitted(steep)
    assert found.operation > 0
    assert min(found.byte, found.step) >= 0


@pytest.mark.parametrize("name", _measure.NAMES)
@pytest.mark.parametrize("machines", [2, 1024])
def test_from_that_batch_on_machines_are_faster(name, machines):
    network = NETWORKS[name]
    batch = MODEL.batch_for(network, machines, LINK)
    alone, together = (MODEL.seconds(network, batch, n, LINK) for n in (1, machines))
    assert alone == pytest.approx(together)
    larger = 1.1 * batch
    assert MODEL.seconds(network, larger, machines, LINK) < MODEL.seconds(network, larger)


@pytest.mark.parametrize("machines", [2, 64])
def test_from_that_batch_on_they_reach_a_share_of_their_speed(machines):
    network = NETWORKS["784-300-10"]
    batch = MODEL.batch_for(network, machines, LINK, efficiency=0.5)
    alone, together = (MODEL.seconds(network, batch, n, LINK) for n in (1, machines))
    assert alone / (machines * together) == pytest.approx(0.5)


def test_a_link_is_found_in_its_messages():
    found = _report.link_of(record())
    np.testing.assert_allclose([found.latency, found.bandwidth], [5e-6, 2e9], rtol=1e-6)


def test_the_page_and_its_figure_follow_from_the_results(tmp_path, monkeypatch):
    page = tmp_path / "ranks.md"
    names = "ranks-measured", "ranks-model", "ranks-batches"
    page.write_text("".join(f"<!-- {n}:begin -->\nold\n<!-- {n}:end -->\n" for n in names))
    (tmp_path / "docs" / "images").mkdir(parents=True)
    monkeypatch.setattr(command, "PAGE", page)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    command.write(record())
    text = page.read_text()
    assert "old" not in text
    assert all(text.count(f"| {name} |") == 1 + 2 * len(LINKS) for name in _measure.NAMES)
    assert "+0% to +0% off" in text or "-0% to +0% off" in text
    figure = tmp_path / "docs" / "images" / "ranks.svg"
    before = figure.read_bytes()
    assert b"<svg" in before
    command.write(record())
    assert figure.read_bytes() == before


def test_a_busy_machine_is_said_to_be_one():
    assert "load" not in _report.sections(record())["ranks-measured"]
    assert "load 3.0 at" in _report.sections(record() | {"load": 3.0})["ranks-measured"]


def test_the_committed_page_shows_the_committed_results():
    results = json.loads(command.RESULTS.read_text(encoding="utf-8"))
    page = command.PAGE.read_text(encoding="utf-8")
    for name, text in _report.sections(results).items():
        assert f"<!-- {name}:begin -->\n{text}\n<!-- {name}:end -->" in page


def test_batches_are_a_row_for_each_machine_at_least():
    for link in LINKS:
        batches = _report._batches_of(record(), "784-512-512-10", link, 0.0, MACHINES)
        assert all(b >= n for b, n in zip(batches, MACHINES, strict=True))


@needs_mpi
def test_two_ranks_are_measured():
    """On next to no rows."""
    found = _measure.by_two("link", 0.0)
    assert list(map(int, found)) == list(_measure.SIZES)
    assert all(seconds > 0 for seconds in found.values())
