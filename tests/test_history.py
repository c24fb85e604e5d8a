"""History: as a dictionary, as a file of comma-separated values, and as a figure."""

import csv
from dataclasses import fields

import numpy as np
import pytest

from fastmlp import History
from tests.networks import batch, build

LISTS = {f.name for f in fields(History)} - {"error_name"}


def full(epochs=3):
    """A history whose figures all differ."""
    return History(
        **{name: [k + e / 10 for e in range(epochs)] for k, name in enumerate(sorted(LISTS))}
    )


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_fields_that_were_there_keep_their_places():
    names = [f.name for f in fields(History)]
    assert names[:6] == [
        "train_loss", "train_error", "val_loss", "val_error", "epoch_seconds", "step_loss"
    ]  # fmt: skip


def test_a_fit_writes_down_the_rate_of_each_epoch_and_step():
    x, labels, _ = batch(33, 5, 3)
    history = build([5, 7, 3], lr=0.25).fit(x, labels, epochs=2, batch_size=8)
    assert history.learning_rate == [0.25, 0.25]
    assert history.step_learning_rate == [0.25] * 10


def test_a_dictionary_has_copies_of_what_there_is():
    history = History(train_loss=[0.5, 0.25], step_loss=[0.7, 0.3, 0.25])
    found = history.to_dict()
    assert found == {"train_loss": [0.5, 0.25], "step_loss": [0.7, 0.3, 0.25]}
    found["train_loss"].append(9.0)
    assert history.train_loss == [0.5, 0.25]
    assert set(full().to_dict()) == LISTS


def test_a_line_per_epoch(tmp_path):
    history, path = full(), tmp_path / "history.csv"
    history.to_csv(path)
    names, *lines = rows(path)
    assert names[0] == "epoch"
    assert set(names[1:]) == LISTS - {"step_loss", "step_learning_rate"}
    assert [line[0] for line in lines] == ["1", "2", "3"]
    for k, name in enumerate(names[1:], start=1):
        assert [float(line[k]) for line in lines] == getattr(history, name), "to the bit"


def test_lists_that_are_shorter_leave_gaps(tmp_path):
    """Without validation data, and where an interrupt came between epoch and validation."""
    history = full()
    history.val_error.clear()
    history.val_loss.pop()
    history.to_csv(tmp_path / "history.csv")
    names, *lines = rows(tmp_path / "history.csv")
    columns = dict(zip(names, zip(*lines, strict=True), strict=True))
    assert columns["val_error"] == ("", "", "")
    assert columns["val_loss"] == (*map(str, history.val_loss), "")
    assert "" not in columns["train_loss"]


def test_no_epoch_is_a_line_of_names(tmp_path):
    History().to_csv(tmp_path / "history.csv")
    assert rows(tmp_path / "history.csv") == [History.columns()]


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match=r"missing.history\.csv"):
        full().to_csv(tmp_path / "missing" / "history.csv")


def test_plot_gives_the_figure_and_writes_it_if_asked(tmp_path):
    pytest.importorskip("matplotlib", reason="plots by Matplotlib")
    history = full()
    figure = history.plot()
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_array_equal(drawn["train"], history.train_loss)
    np.testing.assert_array_equal(drawn["validation"], history.val_loss)
    assert list(tmp_path.iterdir()) == []
    history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_plot_of_no_epoch():
    with pytest.raises(ValueError, match="history must have at least one epoch"):
        History().plot()
