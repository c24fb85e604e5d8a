"""report.html of `fastmlp train`: it fits the run, and says how to load and repeat it."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, datasets
from tests.command_line import clusters, files, history, trees
from tests.html_pages import read
from tests.page_networks import NASTY

pytestmark = pytest.mark.usefixtures("command")


def page(folder):
    return read(Path(folder, "report.html"))


def code(found, heading):
    """What stands below a heading."""
    section = next(texts for texts in found.texts.values() if texts[0] == heading)
    return section[1]


def options(found):
    section = next(name for name, texts in found.texts.items() if texts[0] == "Options")
    return found.facts(section)


def test_the_page_is_of_the_run(command):
    line = "train digits --epochs 3 --hidden 9,8 --lr 0.03 --seed 7 --optimizer adamw"
    status, output, _ = command(f"{line} --out here")
    assert status == 0
    assert "here/report.html" in output
    found = page("here")
    assert re.search(r"test accuracy +(\S+ %)", output)[1] in found.texts["summary"]
    assert [row[:3] for row in found.tables["curves"][0][1:]] == [
        [row["epoch"], *(f"{float(row[name]):.6g}" for name in ("train_loss", "train_error"))]
        for row in history("here")
    ]
    chosen = options(found)
    assert chosen.items() >= {
        "dataset": "digits", "hidden": "9, 8", "epochs": "3", "lr": "0.03", "seed": "7",
        "optimizer": "adamw", "batch size": "32", "batchnorm": "yes", "activation": "relu",
        "lr schedule": "one-cycle", "dtype": "float32", "validate": "yes", "dropout": "0",
        "training samples": "1,294", "validation samples": "143", "task": "classification",
    }.items()  # fmt: skip
    assert "momentum" not in chosen, "adamw has none"
    assert found.facts("network")["widths"] == "64-9-8-10"
    assert found.facts("machine")["threads"]
    assert re.search(r"fastmlp \d.*numba \d", found.facts("machine")["versions"])
    digits = datasets.load("digits")
    wrong = (MLP.load("here/model.safetensors").predict(digits.test_x) != digits.test_y).sum()
    assert len(found.all("mistakes", "img")) == min(wrong, 24)
    assert Path("here/report.html").stat().st_size < 1_000_000


def test_the_network_is_loaded_as_the_page_says(command):
    command("train digits --epochs 1")
    lines = code(page("runs/digits"), "Load the network")
    assert len(lines.splitlines()) == 3
    scope = {"x": datasets.load("digits").test_x}
    exec(lines, scope)
    assert isinstance(scope["mlp"], MLP)


@pytest.mark.parametrize("target", ["tree", "height"])
def test_a_table_is_predicted_as_the_page_says(target, command):
    pytest.importorskip("pandas", reason="tables need the extra tables")
    trees().to_csv("trees.csv", index=False)
    task = "classification" if target == "tree" else "regression"
    line = f"train trees.csv --target {target} --task {task} --no-batchnorm --epochs 8 --out here"
    assert command(line)[0] == 0
    *lines, last = (
        code(page("here"), "Load the network").replace("table.csv", "trees.csv").split("\n")
    )
    scope = {}
    exec("\n".join([*lines, f"found = {last}"]), scope)
    if task == "regression":
        assert np.corrcoef(scope["found"], trees().height)[0, 1] > 0.9
    else:
        assert np.mean(np.array(scope["found"]) == trees().tree) > 0.95


def test_a_table_is_shown_by_its_columns(command):
    pd = pytest.importorskip("pandas", reason="tables need the extra tables")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.uniform(2e4, 3e4, 200), "city": ["Köln", "Bonn"] * 100})
    frame["yes"] = rng.choice(["y", "n"], 200)
    frame.to_csv("people.csv", index=False)
    assert command("train people.csv --target yes --epochs 1 --out here")[0] == 0
    found = page("here")
    assert options(found)["standardise"] == "yes"
    heading, *rows = found.tables["mistakes"][0]
    assert heading[5:] == ["age", "city"]
    test = datasets.load("people.csv", target="yes").test_x
    assert len(rows) > 5
    for row in rows:
        age, bonn, köln = test[int(row[0])]
        assert bonn + köln == 1
        assert row[5:] == [f"{age:.6g}", "Bonn" if bonn else "Köln"]
    assert "are shown" not in found.text("mistakes")
    columns = found.tables["curves"][0][0]
    assert "val loss" in columns
    assert "val r2" not in columns


@pytest.mark.parametrize(
    "line",
    [
        "digits --epochs 2 --no-batchnorm --dropout 0.25 --seed 3 --momentum 0.5",
        "digits --epochs 1 --layer-norm --optimizer adamw --lr-schedule cosine --hidden none",
        "digits --preset speedrun --epochs 1 --dtype float64 --lr 1e-3 --activation tanh",
        "'my data.npz' --task regression --epochs 2 --hidden 5 --batch-size 8 --data-dir .",
    ],
)
def test_the_network_is_trained_again_as_the_page_says(line, command, monkeypatch, capsys):
    from fastmlp.cli import main

    # Pictures take longer than these trainings.
    monkeypatch.setattr("fastmlp._cli.report.write_mistakes", lambda *arguments: [])
    monkeypatch.setattr("fastmlp.plotting.curves", lambda *arguments: None)
    x, y = clusters(60, 4)
    np.savez("my data.npz", x=x, y=y * 1.5)
    assert main(["train", *shlex.split(line), "--out", "first"]) == 0
    words = shlex.split(code(page("first"), "Train it again"))
    assert words[:2] == ["fastmlp", "train"]
    assert main([*words[1:], "--out", "second"]) == 0
    models = [Path(folder, "model.safetensors").read_bytes() for folder in ("first", "second")]
    assert models[0] == models[1]
    capsys.readouterr()


def sections_but_for_times(found):
    """Of a page, what does not depend on how fast a training was."""
    return {name: found.texts[name] for name in ("confusion", "mistakes", "calibration", "network")}


def test_a_training_that_went_on_leaves_the_page_of_a_whole_one(command, interrupt):
    line = "train digits --epochs 3 --dropout 0.1"
    assert command(f"{line} --out whole")[0] == 0
    interrupt(60)
    assert command(f"{line} --out parts")[0] == 130
    assert "report.html" not in files("parts")
    assert command("train --resume parts")[0] == 0
    whole, parts = page("whole"), page("parts")
    assert sections_but_for_times(whole) == sections_but_for_times(parts)
    assert options(whole) == options(parts)
    assert code(whole, "Train it again") == code(parts, "Train it again")
    columns = [[row[:5] for row in found.tables["curves"][0]] for found in (whole, parts)]
    assert columns[0] == columns[1]


def test_names_of_a_table_are_escaped(command):
    pytest.importorskip("pandas", reason="tables need the extra tables")
    rng = np.random.default_rng(0)
    kinds = np.array([NASTY, "plain"])[rng.integers(0, 2, 80)]
    quoted = ['"' + kind.replace('"', '""') + '"' for kind in kinds]
    rows = [f"{a:.3f},{kind}" for a, kind in zip(rng.random(80), quoted, strict=True)]
    Path("a&b<i>.csv").write_text("\n".join(["a,kind", *rows]), encoding="utf-8")
    assert command("train a&b<i>.csv --target kind --epochs 1 --out here")[0] == 0
    found = page("here")
    assert "<script>" not in found.source
    assert "<i>" not in found.source
    # In sorted order.
    assert [row[0] for row in found.tables["confusion"][0][1:3]] == [NASTY, "plain"]
    assert found.texts[""][0] == "a&b<i>"


def test_targets_have_the_names_of_their_columns(command):
    pytest.importorskip("pandas", reason="tables need the extra tables")
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{3 * a:.3f},{-a:.3f}" for a in rng.random(80)]
    Path("t.csv").write_text("\n".join(["a,cost,<gain>", *rows]), encoding="utf-8")
    line = "train t.csv --task regression --target cost,<gain> --epochs 2 --out here"
    status, output, _ = command(line)
    assert status == 0
    found = page("here")
    assert [row[0] for row in found.tables["values"][0][1:]] == ["cost", "<gain>"]
    assert "standardised for the training" in options(found)["targets"]
    r2 = float(re.search(r"test R² +(\S+)", output)[1])
    assert f"{r2:.4f}" in found.texts["summary"]
    each = [float(row[1]) for row in found.tables["values"][0][1:]]
    assert np.mean(each) == pytest.approx(r2, abs=1e-4)


def test_an_interrupted_training_has_no_page(command, interrupt):
    interrupt(100)
    assert command("train digits --epochs 4 --out it")[0] == 130
    assert "report.html" not in files("it")
    assert "model.safetensors" in files("it")
