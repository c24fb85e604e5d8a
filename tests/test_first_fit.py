"""The benchmark of the first fit: what it runs, what it says, and where that stands."""

import json

import pytest

from benchmarks import first_fit
from benchmarks.compare._readme import latest, marks
from benchmarks.tabular import load

RECORD = {
    "date": "2026-01-02",
    "machine": {"cpu": "A processor"},
    "warnings": [],
    "seconds": dict(
        zip(first_fit.KINDS, ([6.9, 7.0, 9.0], [8.4], [7.8], [9.6], [8.8], [13.2]), strict=True)
    ),
}


@pytest.mark.parametrize("kind", first_fit.KINDS)
def test_what_is_run_trains(kind, capsys):
    exec(first_fit.program(first_fit.KINDS[kind]), {})
    assert json.loads(capsys.readouterr().out) > 0


def test_the_sentence_has_medians():
    assert first_fit.sentence(RECORD) == (
        "**The first `fit` compiles**: 7 seconds for plain layers with momentum; in their "
        "place 8 with data that have columns of zeros, as MNIST has, 8 with Adam, 10 with the "
        "rarer activations, losses and update rules, 9 with batch norm and dropout, 13 with layer "
        "norm, residual connections and the like (A processor, 2026-01-02, nothing else running)."
    )


def test_and_doubts():
    doubtful = first_fit.sentence(RECORD | {"warnings": ["load average 3.0 before the start"]})
    assert doubtful.endswith(", load average 3.0 before the start).")


def test_every_kind_is_measured_in_an_empty_cache(monkeypatch):
    caches = []

    def run_fresh(code, cache):
        assert not list(cache.iterdir())
        caches.append(cache)
        return float(len(caches))

    monkeypatch.setattr(first_fit, "run_fresh", run_fresh)
    monkeypatch.setattr(first_fit, "import_seconds", lambda: {"fastmlp": 0.1})
    record = first_fit.measure(2)
    kinds = len(first_fit.KINDS)
    assert list(record["seconds"].values()) == [[i, i + kinds] for i in range(1, kinds + 1)]
    assert len(set(caches)) == 2 * kinds
    json.dumps(record)


@pytest.mark.parametrize("page", first_fit.PAGES, ids=lambda page: page.name)
def test_pages_show_the_record(page):
    begin, end = marks("first-fit")
    inside = page.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    assert inside.strip() == first_fit.sentence(load(latest(first_fit.NAME)))
