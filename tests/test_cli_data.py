"""`fastmlp train` on a user's own data: odd labels, what counts as a picture, NaN and infinity."""

import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, datasets
from fastmlp._cli.classes import MOST_UNUSED
from fastmlp._extras import how_to_get
from fastmlp.history import NotFiniteWarning
from tests.command_line import RESULTS, clusters, files, trees

pytestmark = pytest.mark.usefixtures("command")

QUICK = "--hidden none --no-batchnorm --epochs 1"


# Labels

REMARKS = {
    "from 1": ([1, 2, 3], "0 to 3, 1 has no training sample: 0; .*subtract 1 from labels"),
    "one left out": ([0, 1, 3], r"0 to 3, 1 has no training sample: 2; .*np\.unique\("),
    "from 2": ([2, 3, 4], r"0 to 4, 2 have no training sample: 0 to 1; .*np\.unique\("),
    "years": ([0, 5, 7, 9, 20, 22, 24, 2026], "0 to 2026, 2019 have no training sample: "
              r"1 to 4, 6, 8, 10 to 19, 21, \.\.\.; .*np\.unique\("),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "remark"), REMARKS.values(), ids=REMARKS)
def test_classes_without_a_sample_are_named(labels, remark, command):
    x, y = clusters(20 * len(labels), 3, len(labels))
    np.savez("mine.npz", x=x, y=np.array(labels)[y])
    status, output, errors = command(f"train mine.npz {QUICK}")
    assert status == 0
    assert re.fullmatch(rf"mine: of the classes {remark}.*\n", errors)
    assert f"3-{max(labels) + 1} relu" in output
    assert MLP.load("runs/mine/model.safetensors").output_size == max(labels) + 1


def test_a_class_of_the_test_part_alone_is_named(command):
    x, y = clusters(30, 3)
    np.savez("mine.npz", train_x=x[y < 2], train_y=y[y < 2], test_x=x, test_y=y)
    status, _, errors = command(f"train mine.npz {QUICK}")
    assert status == 0
    assert errors.startswith("mine: of the classes 0 to 2, 1 has no training sample: 2; ")


def test_of_usual_labels_nothing_is_said(command):
    x, y = clusters(60, 3)
    np.savez("mine.npz", x=x, y=y)
    status, _, errors = command(f"train mine.npz {QUICK}")
    assert (status, errors) == (0, "")


@pytest.mark.parametrize("largest", [800_000_000, np.iinfo(np.int64).max, MOST_UNUSED + 3])
def test_labels_that_would_waste_nearly_all_outputs(largest, command):
    x, y = clusters(60, 3)
    np.savez("mine.npz", x=x, y=np.array([0, 1, largest])[y])
    status, output, errors = command("train mine.npz --out results")
    assert (status, output) == (1, "")
    assert re.fullmatch(
        rf"fastmlp: mine: the labels have 3 different values but go up to {largest}, .*"
        r"np\.unique\(labels, return_inverse=True\)\[1\].*\n",
        errors,
    )
    assert files(".") == {"mine.npz"}


def test_as_many_idle_outputs_as_may_be(command):
    x, y = clusters(60, 3)
    np.savez("mine.npz", x=x, y=np.array([0, 1, MOST_UNUSED + 2])[y])
    status, _, errors = command(f"train mine.npz {QUICK}")
    assert status == 0
    assert f"{MOST_UNUSED} have no training sample: 2 to {MOST_UNUSED + 1}; " in errors


# Pictures

DTYPES = {"bytes": np.uint8, "floats": np.float64}
PICTURES = [
    ((8, 8), "floats", True),
    ((3, 5), "floats", True),
    ((64,), "bytes", True),
    ((63,), "bytes", False),
    ((49,), "bytes", False),
    *(((features,), "floats", False) for features in (4, 9, 16, 64)),
    ((8, 8, 1), "bytes", False),
]


@pytest.mark.parametrize("parts", [False, True], ids=["x", "parts"])
@pytest.mark.parametrize(("shape", "numbers", "drawn"), PICTURES)
def test_mistakes_are_drawn_of_pictures_alone(shape, numbers, drawn, parts, command):
    x, y = clusters(60, int(np.prod(shape)))
    x = (20 * (x + 3)).reshape(60, *shape).astype(DTYPES[numbers])
    arrays = {"train_x": x, "train_y": y, "test_x": x, "test_y": y} if parts else {"x": x, "y": y}
    np.savez("mine.npz", **arrays)
    status, output, _ = command(f"train mine.npz {QUICK}")
    assert status == 0
    written = RESULTS if drawn else RESULTS - {"mistakes.png"}
    assert files("runs/mine") == written
    listed = output.partition("\nfiles ")[2]
    assert set(map(os.path.basename, listed.split())) == written
    side = shape if len(shape) == 2 else (8, 8)
    assert datasets.load("mine.npz").image_shape == (side if drawn else None)


def test_pictures_keep_their_shape(command, monkeypatch):
    shapes = []
    monkeypatch.setattr(
        "fastmlp.plotting.mistakes", lambda images, *rest: shapes.append(images.shape[1:])
    )
    x, y = clusters(60, 12)
    np.savez("mine.npz", x=x.reshape(60, 2, 6), y=y)
    assert command(f"train mine.npz {QUICK}")[0] == 0
    assert shapes == [(2, 6)]


def test_what_the_known_sets_hold():
    assert datasets.load("digits").image_shape == (8, 8)
    assert datasets.load("synth").image_shape is None


def test_the_help_says_what_a_picture_is(command):
    text = " ".join(command("train --help")[1].split())
    assert "mistakes.png. An .npz has pictures if x is (N, H, W), or uint8 " in text


# Tables


@pytest.fixture
def frame():
    pytest.importorskip("pandas", reason="tables need the extra tables")
    return trees()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_trained_on_and_its_classes_are_named(suffix, frame, command):
    if suffix == "csv":
        frame.to_csv("trees.csv", index=False)
    else:
        pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")
        frame.to_parquet("trees.parquet")
    status, output, errors = command(f"train trees.{suffix} --target tree")
    assert (status, errors) == (0, "")
    assert output.startswith(
        "trees: 216 training, 24 validation, 60 test samples\n"
        "classes 0 to 2: ash, beech, oak\n"
        "column 'leaf': a feature for each of long, round\n"
        "4-256-256-3 relu, "
    )
    assert float(re.search(r"test accuracy +(\S+) %", output)[1]) > 95
    assert files("runs/trees") == RESULTS - {"mistakes.png"}
    mlp = MLP.load("runs/trees/model.safetensors")
    assert (mlp.input_size, mlp.output_size) == (4, 3)


@pytest.mark.parametrize("hidden", ["none", "16"])
def test_columns_of_any_size_are_learnt_as_well_and_taken_as_they_are(hidden, command):
    """A column that is constant, one of 0 and 1, and one in the hundred thousands."""
    rng = np.random.default_rng(0)
    x = np.hstack([rng.standard_normal((600, 3)), np.zeros((600, 1)), rng.integers(0, 2, (600, 1))])
    y = (x[:, 0] + x[:, 4] > x[:, 1] + 0.5).astype(int)
    accuracies = []
    for name, rows in (("small", x), ("large", x * [1e5, 1, 1, 1, 1] + [3e5, 50, 0, 7, 0])):
        np.savez(f"{name}.npz", x=rows, y=y)
        line = f"train {name}.npz --hidden {hidden} --epochs 20 --no-batchnorm --dtype float64"
        status, output, _ = command(line)
        assert status == 0
        accuracies.append(float(re.search(r"test accuracy +(\S+) %", output)[1]))
        data = datasets.load(f"{name}.npz")
        wrong = MLP.load(f"runs/{name}/model.safetensors").evaluate(data.test_x, data.test_y)[1]
        assert 100 * (1 - wrong) == pytest.approx(accuracies[-1], abs=0.005)
    assert accuracies[0] > 90
    assert accuracies[1] == pytest.approx(accuracies[0], abs=1)


def test_many_names_are_cut(frame, command):
    frame["tree"] = np.resize([f"t{k:02}" for k in range(30)], len(frame))
    frame.to_csv("trees.csv", index=False)
    _, output, _ = command(f"train trees.csv --target tree {QUICK}")
    names = ", ".join(f"t{k:02}" for k in range(20))
    assert f"\nclasses 0 to 29: {names}, ...\n" in output


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("trees.csv", 2, "--target.*target must name the column of trees.csv with the classes"),
        ("digits --target tree", 2, r"--target.*for files ending in \.csv or \.parquet.*'digits'"),
        ("--target tree", 2, "--target: needs a DATASET, a table"),
        ("none.csv --target tree", 1, "none.csv: no such file"),
        ("none.csv", 1, "none.csv: no such file"),
        ("teers.csv", 1, "teers.csv: no such file; did you mean 'trees.csv'[?]"),
        ("none.parquet --task regression", 1, "none.parquet: no such file"),
        ("trees.csv --target tre", 1, "trees.csv: target.*tree, height, .*; did you mean 'tree'"),
        (
            "trees.csv --target height",
            1,
            r"target 'height' must be text or whole.*in row 1; for numbers: --task regression, .*",
        ),
    ],
)
def test_tables_that_are_refused(options, status, message, frame, command):
    frame.to_csv("trees.csv", index=False)
    got, output, errors = command(f"train {options}")
    assert (got, output) == (status, "")
    assert re.fullmatch(rf"fastmlp: .*{message}.*\n", errors)
    assert files(".") == {"trees.csv"}


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_a_table_that_others_than_commas_separate(sign, frame, command):
    """Also where numbers have a comma in the place of a point."""
    frame[["tree", "leaf"]].to_csv("words.csv", sep=sign, index=False)
    frame.to_csv("numbers.csv", sep=sign, decimal=",", index=False)
    for name in ("words", "numbers"):
        status, output, errors = command(f"train {name}.csv --target tree")
        assert (status, output) == (1, "")
        assert errors.startswith(f"fastmlp: {name}.csv: ")
        assert errors.endswith(f"; columns must be separated by commas, not by {sign!r}\n")
    frame[["tree"]].to_csv("one.csv", index=False)
    frame.rename(columns={"tree": f"a{sign}b"}).to_csv("several.csv", index=False)
    for name in ("one", "several"):
        errors = command(f"train {name}.csv --target none")[2]
        assert "target must be one of its columns" in errors
        assert "commas" not in errors


@pytest.mark.parametrize(("kinds", "told"), [(30, False), (31, True)])
def test_many_whole_numbers_as_classes_are_remarked_on(kinds, told, frame, command):
    frame["tree"] = np.arange(len(frame)) % kinds
    frame.to_csv("trees.csv", index=False)
    status, _, errors = command(f"train trees.csv --target tree {QUICK}")
    assert status == 0
    remark = "trees: 31 classes; for numbers: --task regression\n"
    assert errors == (remark if told else "")
    frame["tree"] = [f"t{k}" for k in frame.tree]
    frame.to_csv("trees.csv", index=False)
    assert command(f"train trees.csv --target tree {QUICK}")[2] == ""


def test_a_value_that_is_missing_is_told_by_its_column(frame, command):
    frame.loc[11, "width"] = np.nan
    frame.to_csv("trees.csv", index=False)
    status, _, errors = command("train trees.csv --target tree")
    assert (status, errors) == (
        1,
        "fastmlp: trees.csv: column 'width' must have a value in every row, got none in row 12\n",
    )


def test_tables_without_pandas(monkeypatch, command):
    Path("trees.csv").touch()
    monkeypatch.setitem(sys.modules, "pandas", None)
    status, output, errors = command("train trees.csv --target tree")
    assert (status, output) == (1, "")
    assert errors == f"fastmlp: pandas is not installed: {how_to_get('tables')}\n"


# NaN and infinity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["x", "train_x", "test_x"])
def test_data_that_are_not_finite(key, value, command):
    """Row and column are the file's: what is held out, and shuffled, is not counted yet."""
    x, y = clusters(60, 7)
    spoiled = x.copy()
    spoiled[12, 5] = spoiled[30, 0] = value
    if key == "x":
        np.savez("mine.npz", x=spoiled, y=y)
    else:
        arrays = {"train_x": x, "train_y": y, "test_x": x, "test_y": y} | {key: spoiled}
        np.savez("mine.npz", **arrays)
    status, output, errors = command("train mine.npz")
    assert (status, output) == (1, "")
    assert errors == f"fastmlp: mine.npz: {key}[12, 5] must be finite, got {value}\n"
    assert not Path("runs").exists()


def test_pictures_that_are_not_finite(command):
    x, y = clusters(60, 12)
    x[12, 11] = np.nan
    np.savez("mine.npz", x=x.reshape(60, 2, 6), y=y)
    for line in ("train mine.npz", "predict model.safetensors mine.npz"):
        assert command(f"train digits {QUICK} --out .")[0] == 0
        status, _, errors = command(line)
        assert (status, errors) == (1, "fastmlp: mine.npz: x[12, 1, 5] must be finite, got nan\n")


def test_labels_that_are_no_whole_numbers(command):
    x, y = clusters(60, 3)
    np.savez("mine.npz", x=x, y=np.where(y == 2, np.nan, y))
    status, _, errors = command("train mine.npz")
    assert (status, errors) == (1, "fastmlp: mine.npz: y must be integer classes, got float64\n")


def test_data_that_fit_refuses(command, monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("x[12, 5] must be finite, got nan")

    # The warm-up fits, too.
    monkeypatch.setattr("fastmlp._cli.train.compile_for", lambda mlp: None)
    monkeypatch.setattr(MLP, "fit", refuse)
    status, _, errors = command("train digits")
    assert (status, errors) == (1, "fastmlp: digits: x[12, 5] must be finite, got nan\n")
    assert files("runs") == set()


def test_a_fit_that_ends_before_a_loss_that_is_not_finite(command, monkeypatch):
    """Its network is not written, and it is told in one line."""

    def lost(*arguments, **options):
        warnings.warn("the loss is nan in epoch 2, step 7", NotFiniteWarning, stacklevel=2)

    monkeypatch.setattr("fastmlp._cli.train.compile_for", lambda mlp: None)
    monkeypatch.setattr(MLP, "fit", lost)
    status, output, errors = command("train digits --lr 0.5 --epochs 2")
    assert status == 1
    assert errors == (
        "fastmlp: the loss is nan in epoch 2, step 7: nothing was written; try a smaller --lr\n"
    )
    assert "accuracy" not in output
    assert files("runs") == set()
