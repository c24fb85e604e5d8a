"""`fastmlp predict --out`: what the file has of every kind of network, and what is refused."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, BinaryCrossEntropy, MeanSquaredError
from fastmlp.datasets import Column, Schema
from tests.networks import build

pytestmark = pytest.mark.usefixtures("command")
pd = pytest.importorskip("pandas", reason="tables need the extra tables")

COLUMNS = Column("age"), Column("city", ("Köln", "Bonn"))
X = np.array([[0.5, 1, 0], [-1.5, 0, 1], [2.25, 0, 1], [-3, 1, 0]])


def saved(targets, classes, outputs, criterion=None, dtype=np.float32):
    """A network of a table, in a file; the table new.csv has X."""

    def of_criterion(*arguments, **options):
        *before, usual, lr = arguments
        return MLP(*before, criterion or usual, lr, **options)

    mlp = build([3, outputs], cls=of_criterion, dtype=dtype)
    mlp.schema = Schema(COLUMNS, targets, classes, "float64")
    mlp.save("model")
    cities = np.where(X[:, 1] == 1, "Köln", "Bonn")
    pd.DataFrame({"city": cities, "age": X[:, 0]}).to_csv("new.csv", index=False)
    return mlp


def written(command, line, rows):
    """The lines of out.csv: its headings, and the others."""
    assert command(f"predict {line} --out out.csv") == (0, f"out.csv: {rows}\n", "")
    with open("out.csv", newline="", encoding="utf-8") as file:
        heading, *lines = csv.reader(file)
    return heading, lines


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_classes(dtype, command):
    """By name, whatever signs it has, and probabilities to the bit."""
    names = ('a, "b"', "x\ny", "ü")
    mlp = saved(("spend",), names, 3, dtype=dtype)
    heading, lines = written(command, "model new.csv", "4 rows")
    assert heading == ["row", "prediction", *names]
    shares = mlp.predict_proba(X)
    assert [line[:2] for line in lines] == [
        [str(row), names[k]] for row, k in enumerate(shares.argmax(axis=1), 1)
    ]
    assert len({line[1] for line in lines}) > 1
    np.testing.assert_array_equal(np.array([line[2:] for line in lines], dtype), shares)


def test_whole_numbers_as_classes(command):
    mlp = saved(("spend",), (30, -4), 2)
    heading, lines = written(command, "model new.csv", "4 rows")
    assert heading == ["row", "prediction", "30", "-4"]
    assert [int(line[1]) for line in lines] == [(30, -4)[k] for k in mlp.predict(X)]


def test_names_that_are_taken_have_an_underscore(command):
    saved(("t",), ("row", "row_", "prediction"), 3)
    heading, _ = written(command, "model new.csv", "4 rows")
    assert heading == ["row", "prediction", "row_", "row__", "prediction_"]
    assert len(set(pd.read_csv("out.csv").columns)) == 5


@pytest.mark.parametrize("targets", [("price",), ("price", "size")])
def test_values(targets, command):
    mlp = saved(targets, None, len(targets), MeanSquaredError())
    heading, lines = written(command, "model new.csv", "4 rows")
    assert heading == ["row", *(["prediction"] if len(targets) == 1 else targets)]
    found = np.array([line[1:] for line in lines], np.float32)
    np.testing.assert_array_equal(found, mlp.predict(X).reshape(4, -1))


@pytest.mark.parametrize("labels", [("a",), ("a", "b")])
def test_labels_of_which_a_row_may_have_several(labels, command):
    mlp = saved(labels, None, len(labels), BinaryCrossEntropy())
    heading, lines = written(command, "model new.csv", "4 rows")
    assert heading == ["row", *labels]
    found = np.array([line[1:] for line in lines], np.float32)
    np.testing.assert_array_equal(found, mlp.predict_proba(X))


def test_archives_images_and_several_files(command):
    from PIL import Image

    mlp = build([4, 2], dtype=np.float32)
    mlp.save("model")
    pixels = np.array([[0, 200], [10, 0]], np.uint8)
    Image.fromarray(pixels).save("it.png")
    x = np.array([[1, 2, 3, 4], [-4, 3, 2, 1], [0, 0, 0, 1]], np.float32)
    np.savez("rows.npz", x=x)
    heading, lines = written(command, "model rows.npz it.png", "4 rows")
    assert heading == ["file", "row", "prediction", "0", "1"]
    labels = [*mlp.predict(x), *mlp.predict(pixels.reshape(1, 4))]
    places = [("rows.npz", "1"), ("rows.npz", "2"), ("rows.npz", "3"), ("it.png", "1")]
    assert [line[:3] for line in lines] == [
        [*place, str(k)] for place, k in zip(places, labels, strict=True)
    ]
    heading, lines = written(command, "model it.png", "1 row")
    assert heading == ["row", "prediction", "0", "1"]
    assert [line[0] for line in lines] == ["1"]


def test_what_was_there_is_replaced_as_a_whole_or_stays(command):
    saved(("spend",), ("low", "high"), 2)
    Path("out.csv").write_text("before")
    Path("bad.csv").write_text("city\nBonn\n")
    status, output, errors = command("predict model new.csv bad.csv --out out.csv")
    assert (status, output) == (1, "")
    assert errors.startswith("fastmlp: bad.csv: must have the columns age, city, lacks age")
    assert Path("out.csv").read_text() == "before"
    assert written(command, "model new.csv", "4 rows")[0][0] == "row"


def test_what_no_predictions_can_be_written_to_is_refused_before(command):
    saved(("spend",), ("low", "high"), 2)
    before = Path("new.csv").read_bytes()
    Path("link.csv").symlink_to("new.csv")
    for out, status, message in [
        ("out.txt", 2, r"Invalid value for --out: must end in \.csv, got out\.txt"),
        ("new.csv", 2, r"--out: must be another file than new\.csv, a FILE"),
        ("link.csv", 2, r"--out: must be another file than link\.csv, a FILE"),
        ("nowhere/out.csv", 1, r"nowhere/out\.csv: the folder .* does not exist"),
    ]:
        found, output, errors = command(f"predict model new.csv --out {out}")
        assert (found, output) == (status, "")
        assert re.fullmatch(rf"fastmlp: .*{message}.*\n", errors), errors
    assert Path("new.csv").read_bytes() == before
