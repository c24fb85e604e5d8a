"""From a table to predictions by the command alone: train, predict and inspect."""

import re
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, BinaryCrossEntropy, datasets
from fastmlp.datasets import Column, Schema
from tests.command_line import files, posix, shown_on_a_terminal, start, trees
from tests.networks import build
from tests.pages import block, pages

pytestmark = pytest.mark.usefixtures("command")
pd = pytest.importorskip("pandas", reason="tables need the extra tables")

TRAIN = "train trees.csv --target tree --no-batchnorm --hidden 16 --epochs 8 --out here"
MODEL = "here/model.safetensors"


@pytest.fixture
def frame(command):
    """trees.csv, on which a network has been trained."""
    frame = trees()
    frame.to_csv("trees.csv", index=False)
    assert command(TRAIN)[0] == 0
    return frame


def verdicts(name):
    """What predict is to say of each row of a table, by what the network itself says."""
    mlp = MLP.load(MODEL)
    x = datasets.load_rows(name, mlp.schema).x
    return [
        f"{name} row {row}: {('ash', 'beech', 'oak')[shares.argmax()]} ({100 * shares.max():.1f} %)"
        for row, shares in enumerate(mlp.predict_proba(x), 1)
    ]


# Classes


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_classes_are_told_by_name(suffix, frame, command):
    """With columns in another order, others among them, and without the target."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")
    new = frame[["leaf", "width", "height"]].assign(note=None, age=np.inf).iloc[::7]
    if suffix == "csv":
        new.to_csv("new.csv", index=False)
    else:
        new.to_parquet("new.parquet")
    status, output, errors = command(f"predict {MODEL} new.{suffix}")
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines == verdicts(f"new.{suffix}")
    named = [re.fullmatch(r".* row \d+: (\w+) \(.* %\)", line)[1] for line in lines]
    assert np.mean(named == frame.tree.iloc[::7]) > 0.95


def test_the_table_itself_and_several_at_once(frame, command):
    frame.head(3).to_csv("few.csv", index=False)
    status, output, errors = command(f"predict {MODEL} trees.csv few.csv")
    assert (status, errors) == (0, "")
    assert output.splitlines() == [*verdicts("trees.csv"), *verdicts("few.csv")]


def test_rows_of_an_archive_have_the_names_too(frame, command):
    np.savez("rows.npz", x=datasets.load_rows("trees.csv", MLP.load(MODEL).schema).x[:4])
    status, output, _ = command(f"predict {MODEL} rows.npz")
    assert status == 0
    told = [line.split(": ")[1] for line in verdicts("trees.csv")[:4]]
    assert output.splitlines() == [f"rows.npz[{row}]: {each}" for row, each in enumerate(told)]


def test_a_text_that_was_not_there_is_told(frame, command):
    new = frame.copy()
    new.loc[[4, 17], "leaf"] = "star"
    new.to_csv("new.csv", index=False)
    status, output, errors = command(f"predict {MODEL} new.csv")
    assert status == 0
    assert output.splitlines() == verdicts("new.csv")
    assert errors == (
        "new.csv: column 'leaf' has a text that the network has not learnt in 2 rows, first in "
        "row 5: it is taken for none of its categories\n"
    )
    new.head(5).to_csv("new.csv", index=False)
    assert "in 1 row, first in row 5: " in command(f"predict {MODEL} new.csv")[2]


def test_what_is_wrong_with_a_table_is_told(frame, command):
    for name, new, message in (
        ("few", frame.drop(columns="width"), "must have the columns height, width, leaf, lacks wi"),
        ("gap", frame.assign(width=None), "column 'width' must have a value in every row, got none "
                                          "in row 1"),
        ("text", frame.assign(width="w"), "column 'width' must be numbers, got 'w' in row 1"),
    ):  # fmt: skip
        new.to_csv(f"{name}.csv", index=False)
        status, output, errors = command(f"predict {MODEL} {name}.csv")
        assert (status, output) == (1, "")
        assert errors.startswith(f"fastmlp: {name}.csv: {message}")
        assert errors.count("\n") == 1
    frame.to_csv("signs.csv", sep=";", index=False)
    errors = command(f"predict {MODEL} signs.csv")[2]
    assert errors.endswith("; columns must be separated by commas, not by ';'\n")
    status, output, errors = command(f"predict {MODEL} none.csv")
    assert (status, output) == (2, "")
    assert "none.csv" in errors


def test_a_network_that_knows_no_columns_takes_no_table(frame, command):
    mlp = MLP.load(MODEL)
    mlp.schema = None
    mlp.save("plain.safetensors")
    status, output, errors = command("predict plain.safetensors trees.csv")
    assert (status, output) == (1, "")
    assert errors == (
        "fastmlp: trees.csv: this network knows of no columns, since it has not learnt from a "
        "table: give an .npz with x\n"
    )


def test_whole_numbers_as_classes(command):
    frame = trees()
    frame["tree"] = frame.tree.map({"oak": 30, "beech": -1, "ash": 4})
    frame.to_csv("trees.csv", index=False)
    assert command(TRAIN)[0] == 0
    output = command(f"predict {MODEL} trees.csv")[1]
    named = re.findall(r" row \d+: (\S+) \(", output)
    assert set(named) == {"30", "-1", "4"}
    assert np.mean(np.array(named, int) == frame.tree) > 0.95


def test_names_are_a_line_each_whatever_a_file_says(command):
    mlp = build([2, 2], dtype=np.float32)
    mlp.schema = Schema(
        (Column("a\x1b[2J"), Column("b")), ("t\n",), ("x\ny", "\x1b]0;z"), "float64"
    )
    mlp.save("model.safetensors")
    Path("new.csv").write_text("b,a\x1b[2J\n1,2\n3,-4\n-5,6\n", encoding="utf-8")
    status, output, _ = command("predict model.safetensors new.csv")
    assert status == 0
    assert len(output.splitlines()) == 3
    assert re.findall(r": (.*) \(", output) == [
        ("x y", "]0;z")[label] for label in mlp.predict([[2.0, 1], [-4, 3], [6, -5]])
    ]
    said = command("inspect model.safetensors")[1]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", output + said)
    assert "\ncolumns: a [2J, b\nclasses of t : x y,  ]0;z\n" in said


def test_the_commands_of_the_page(command):
    """As docs/tabular.md shows them, on a table of its kind."""
    page = pages()["docs/tabular.md"]
    frame = trees().rename(columns={"tree": "income"})
    frame.to_csv("adult.csv", index=False)
    frame.drop(columns="income")[:7].to_csv("new.csv", index=False)
    lines = block(page, "sh", "fastmlp train").text.splitlines()
    outputs = []
    for line in lines:
        status, output, errors = command(line.removeprefix("fastmlp "))
        assert (status, errors) == (0, "")
        outputs.append(output)
    assert "test accuracy" in outputs[0]
    assert "\nclasses of income: ash, beech, oak\n" in outputs[1]
    assert len(re.findall(r"^new\.csv row \d: (?:ash|beech|oak) \(", outputs[2], re.M)) == 7
    assert outputs[3:] == ["predictions.csv: 7 rows\n"]
    assert len(pd.read_csv("predictions.csv")) == 7


def test_a_network_of_ones_own(frame, command):
    """Trained in Python on what the table gives, it is as any other once it has the schema."""
    data = datasets.load("trees.csv", target="tree")
    mlp = build([4, 3], dtype=np.float32)
    mlp.schema = data.schema
    mlp.fit(data.train_x, data.train_y, epochs=5, seed=0)
    Path("here").mkdir(exist_ok=True)
    mlp.save(MODEL)
    assert command(f"predict {MODEL} trees.csv")[1].splitlines() == verdicts("trees.csv")


# Values


def test_values_of_a_regression(command):
    frame = trees()
    frame.to_csv("trees.csv", index=False)
    line = "train trees.csv --task regression --no-batchnorm --hidden 8 --epochs 2 --target"
    for targets in ("height", "height,width"):
        assert command(f"{line} {targets} --out here")[0] == 0
        frame.drop(columns="height").assign(width=2.0)[: 1 if "," in targets else 9].to_csv(
            "new.csv", index=False
        )
        status, output, errors = command(f"predict {MODEL} new.csv")
        assert (status, errors) == (0, "")
        mlp = MLP.load(MODEL)
        assert mlp.schema.targets == tuple(targets.split(","))
        rows = mlp.predict(datasets.load_rows("new.csv", mlp.schema).x)
        values = [" ".join(f"{v:.6g}" for v in np.atleast_1d(row)) for row in rows]
        expected = [f"new.csv row {row}: {each}" for row, each in enumerate(values, 1)]
        assert output.splitlines() == expected


def test_labels_of_which_a_row_may_have_several(command):
    mlp = build([2, 3], dtype=np.float32)
    mlp.criterion = BinaryCrossEntropy()
    mlp.schema = Schema((Column("a"), Column("b")), ("x", "y", "z"), None, "float64")
    mlp.save("model.safetensors")
    Path("new.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    shares = " ".join(f"{100 * share:.1f}" for share in mlp.predict_proba([[1.0, 2.0]])[0])
    assert command("predict model.safetensors new.csv")[1] == f"new.csv row 1: {shares} %\n"


# Who keeps a schema, and who does not


def test_only_a_network_of_columns_as_they_are_knows_them(command, interrupt):
    """One in training takes standardised columns: its checkpoint would predict nonsense."""
    trees().to_csv("trees.csv", index=False)
    interrupt(10)
    status, _, errors = command(TRAIN)
    assert status == 130
    assert "the network as it was then" in errors
    assert MLP.load("here/checkpoint.safetensors").schema is None
    status, output, _ = command(f"predict {MODEL} trees.csv")
    assert (status, len(output.splitlines())) == (0, 300)
    assert command("train --resume here")[0] == 0
    assert command(f"predict {MODEL} trees.csv")[1].splitlines() == verdicts("trees.csv")


def test_the_best_network_of_a_sweep(command):
    trees().to_csv("trees.csv", index=False)
    Path("it.toml").write_text(
        '[data]\ndataset = "trees.csv"\ntarget = "tree"\n[network]\nhidden = "8"\n'
        "batchnorm = false\n[fit]\nepochs = 1\nlr = [0.1, 0.01]\n"
    )
    assert command("sweep it.toml --out here")[0] == 0
    assert command(f"predict {MODEL} trees.csv")[1].splitlines() == verdicts("trees.csv")


def test_a_table_that_no_file_can_describe_is_refused_before_it_is_trained_on(command, monkeypatch):
    monkeypatch.setattr("fastmlp.datasets._schema.MOST_BYTES", 100)
    trees().to_csv("trees.csv", index=False)
    status, output, errors = command("train trees.csv --target tree")
    assert (status, output) == (1, "")
    assert re.fullmatch(r"fastmlp: trees: schema must take at most 100 bytes .*\n", errors)
    assert files("runs") == set()


# What is said of it


def test_inspect_tells_columns_and_classes(frame, command):
    status, output, _ = command(f"inspect {MODEL}")
    assert status == 0
    layers, columns, facts = output.split("\n\n")
    assert columns == (
        "columns: height, width, leaf (2 categories)\nclasses of tree: ash, beech, oak"
    )
    assert layers.startswith("layer ")
    assert facts.startswith("dtype ")
    mlp = build([30, 2], dtype=np.float32)
    mlp.schema = Schema(tuple(Column(f"c{k:02}") for k in range(30)), ("a", "b"), None, "float32")
    mlp.save("wide")
    output = command("inspect wide")[1]
    names = ", ".join(f"c{k:02}" for k in range(20))
    assert f"\n\ncolumns: {names}, ...\ntargets: a, b\n\n" in output


@posix
@pytest.mark.parametrize("columns", [40, 80])
def test_inspect_fits_a_terminal(columns):
    mlp = build([30, 2], dtype=np.float32)
    mlp.schema = Schema(
        tuple(Column(f"column {k:02}") for k in range(30)), ("tree",), ("ash", "oak"), "float32"
    )
    mlp.save("model")
    text = shown_on_a_terminal("inspect model", COLUMNS=str(columns))
    assert max(map(len, text.splitlines())) <= columns
    assert text.count("column ") == 20
    assert not re.search(r"column\n", text)


@pytest.mark.parametrize("known", [False, True])
def test_inspect_ends_its_last_line(known):
    mlp = build([2, 2], dtype=np.float32)
    if known:
        mlp.schema = Schema((Column("a"), Column("b")), ("t",), ("x", "y"), "float64")
    mlp.save("model")
    with start("inspect model") as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert output.endswith("s\n")
    assert not output.endswith("\n\n")
