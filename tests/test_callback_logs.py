"""Callbacks that log: a file of comma-separated values, and events for TensorBoard."""

import csv
import struct
import sys
from types import ModuleType

import numpy as np
import pytest

from fastmlp.callbacks import CSVLogger, EarlyStopping, TensorBoard
from tests.networks import assert_same_state, batch, build, state


def fit(callbacks, epochs=4, validation=True, mlp=None):
    x, labels, _ = batch(40, 5, 3)
    return (mlp or build([5, 7, 3])).fit(
        x, labels, epochs=epochs, batch_size=8, callbacks=callbacks,
        validation_data=(x[:9], labels[:9]) if validation else None,
    )  # fmt: skip


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("validation", [True, False])
def test_a_line_for_every_epoch_is_in_the_file_before_the_next(validation, tmp_path):
    path, sizes = tmp_path / "log.csv", []

    class Count:
        def on_epoch_end(self, mlp, history):
            sizes.append(len(rows(path)))

    history = fit([CSVLogger(path), Count()], validation=validation)
    assert sizes == [2, 3, 4, 5]
    history.to_csv(tmp_path / "whole.csv")
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    fit([CSVLogger(path)], epochs=1)
    assert len(rows(path)) == 2, "without append it begins anew"


def test_a_log_that_goes_on(tmp_path):
    path = tmp_path / "log.csv"
    logger = CSVLogger(path, append=True)
    first, second = (fit([logger], epochs=2, validation=validation) for validation in (True, False))
    names, *lines = rows(path)
    assert names == first.columns()
    assert lines == [[str(v) for v in h.row(epoch)] for h in (first, second) for epoch in (0, 1)]


def test_an_empty_file_is_given_its_columns(tmp_path):
    path = tmp_path / "log.csv"
    path.touch()
    fit([CSVLogger(path, append=True)], epochs=1)
    assert len(rows(path)) == 2


def test_the_lines_so_far_outlive_an_error(tmp_path):
    class Refuse:
        def on_epoch_end(self, mlp, history):
            if len(history.train_loss) == 3:
                raise RuntimeError("no")

    path = tmp_path / "log.csv"
    with pytest.raises(RuntimeError, match=r"^no$"):
        fit([CSVLogger(path), Refuse()])
    assert [line[0] for line in rows(path)] == ["epoch", "1", "2", "3"]


def test_a_log_that_cannot_be_written(tmp_path):
    mlp = build([5, 7, 3])
    before = state(mlp)
    other = tmp_path / "other.csv"
    other.write_text("epoch,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv must begin with the columns epoch,train_.*"
                                         r" got epoch,loss$"):  # fmt: skip
        fit([CSVLogger(other, append=True)], mlp=mlp)
    assert other.read_text() == "epoch,loss\n1,2\n"
    with pytest.raises(OSError, match=r"missing.log\.csv"):
        fit([CSVLogger(tmp_path / "missing" / "log.csv")], mlp=mlp)
    assert_same_state(state(mlp), before)


def scalars(folder):
    """(tag, step) -> value, of the events in a folder: records of length, checksum, message."""
    event_pb2 = pytest.importorskip(
        "tensorboardX.proto.event_pb2", reason="reads the events by tensorboardX's messages"
    )
    found = {}
    for path in folder.iterdir():
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = value.simple_value
    return found


def test_tensorboard_has_a_scalar_of_each_figure(tmp_path):
    pytest.importorskip("tensorboardX", reason="writes the events")
    history = fit([TensorBoard(tmp_path)], epochs=2)
    names = set(history.columns()[1:]) - {"val_r2"}  # That of a regression.
    assert "learning_rate" in names
    assert scalars(tmp_path) == {
        (name, epoch + 1): np.float32(getattr(history, name)[epoch])
        for name in names
        for epoch in range(2)
    }


class Writer:
    """Takes the place of SummaryWriter."""

    def __init__(self, folder):
        self.folder, self.calls = folder, []
        Writer.last = self

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


def test_tensorboard_through_pytorch(monkeypatch, tmp_path):
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    for name in ("torch", "torch.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    history = fit([TensorBoard(tmp_path)], epochs=1, validation=False)
    assert Writer.last.folder == str(tmp_path)
    assert Writer.last.calls == [
        ("add_scalar", "train_loss", history.train_loss[0], 1),
        ("add_scalar", "train_error", history.train_error[0], 1),
        ("add_scalar", "epoch_seconds", history.epoch_seconds[0], 1),
        ("add_scalar", "learning_rate", 0.05, 1),
        ("flush",),
        ("close",),
    ]


def test_tensorboard_without_a_writer(monkeypatch, tmp_path):
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"tensorboardX.*'tensorboard'.*PyTorch.*"
                                          r"neither is installed"):  # fmt: skip
        TensorBoard(tmp_path)


@pytest.mark.parametrize("make", [CSVLogger, TensorBoard])
def test_an_end_without_a_beginning(make, tmp_path):
    """The callback before it has raised."""
    if make is TensorBoard:
        pytest.importorskip("tensorboardX", reason="writes the events")

    class Refuse:
        def on_train_begin(self, mlp, plan):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        fit([Refuse(), make(tmp_path / "log"), EarlyStopping(1)])
    assert list(tmp_path.iterdir()) == []
