"""`fastmlp train`: what it writes, what it prints, and how it fails."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, datasets, optimizers
from fastmlp._extras import how_to_get
from fastmlp.initializers import he_normal
from tests.command_line import (
    MODEL,
    RESULTS,
    clusters,
    files,
    history,
    posix,
    shown_on_a_terminal,
    start,
    written_to_a_terminal,
)

pytestmark = pytest.mark.usefixtures("command")

# Read before the tests change the environment and the folder.
FASTMLP_DATA = os.environ.get("FASTMLP_DATA") and os.path.abspath(os.environ["FASTMLP_DATA"])

# Training


def test_train_prints_and_writes_what_it_found(command):
    status, output, errors = command("train digits")
    assert (status, errors) == (0, "")
    assert "\x1b" not in output
    accuracy = float(re.search(r"^test accuracy +(\d+\.\d\d) %$", output, re.MULTILINE)[1])
    assert accuracy >= 96
    assert re.search(r"^training time +\d+\.\d\d s$", output, re.MULTILINE)
    assert re.search(r"^training speed +[\d,]+ samples/s$", output, re.MULTILINE)
    assert files("runs/digits") == RESULTS
    assert all(os.path.join("runs", "digits", name) in output for name in RESULTS)
    digits = datasets.load("digits")
    loss, error = MLP.load(MODEL).evaluate(digits.test_x, digits.test_y)
    assert f"{100 * (1 - error):.2f}" == f"{accuracy:.2f}"
    assert re.search(rf"^test loss +{loss:.4f}$", output, re.MULTILINE)


def test_history_has_a_row_per_epoch(command):
    _, output, _ = command("train digits --epochs 3")
    rows = history("runs/digits")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        assert f"{float(row['train_loss']):.4f}" in output
        assert f"{100 * float(row['val_error']):.2f} %" in output
        assert float(row["epoch_seconds"]) > 0


def test_options_reach_the_network(command):
    status, output, _ = command(
        "train digits --hidden 7,5 --activation tanh --no-batchnorm --epochs 2 --batch-size 16 "
        "--lr 0.01 --momentum 0.5 --seed 3 --threads 1 --dtype float64 --out here/and/there"
    )
    assert status == 0
    assert files("here/and/there") == RESULTS
    mlp = MLP.load("here/and/there/model.safetensors")
    assert mlp.hiddens == (7, 5)
    assert [activation.name for activation in mlp.activations] == ["tanh", "tanh", "identity"]
    assert (mlp.num_bn_layers, mlp.lr, mlp.momentum, mlp.dtype) == (0, 0.01, 0.5, np.float64)
    assert fastmlp.get_num_threads() == 1
    assert "batch 16," in output
    assert len(history("here/and/there")) == 2


FOUR = {
    "constant": [1, 1, 1, 1],
    "step": [1, 1, 0.1, 0.1],
    "exponential": [1, 0.01**0.25, 0.1, 0.01**0.75],
    # Of 41 steps an epoch the last; the cosine follows a warm-up of 8, the cycle's peak is at 32.8.
    "cosine": [(1 + np.cos(np.pi * (s - 8) / 156)) / 2 for s in (40, 81, 122, 163)],
    "one-cycle": [(164 - s) / 164 / 0.8 for s in (40, 81, 122, 163)],
    "inverse-scaling": [(s + 1) ** -0.5 for s in (40, 81, 122, 163)],
}


@pytest.mark.parametrize("name", FOUR)
def test_a_schedule_by_its_name(name, command):
    """1,294 rows in batches of 32, four times."""
    status, output, _ = command(f"train digits --lr 0.125 --epochs 4 --lr-schedule {name}")
    assert status == 0
    assert f", lr 0.125 ({name}), " in output
    found = [float(row["learning_rate"]) for row in history("runs/digits")]
    np.testing.assert_allclose(found, 0.125 * np.array(FOUR[name]), rtol=1e-12)


def test_without_a_name_the_schedule_is_one_cycle(command):
    models = []
    for option in ("", "--lr-schedule one-cycle", "--lr-schedule constant"):
        assert command(f"train digits --epochs 1 {option} --out {Path(MODEL).parent}")[0] == 0
        models.append(Path(MODEL).read_bytes())
    assert models[0] == models[1] != models[2]


@pytest.mark.parametrize(
    ("options", "optimizer", "words"),
    [
        ("", optimizers.Momentum(0.05, 0.9), "lr 0.05 (one-cycle), momentum 0.9, seed"),
        ("--optimizer adamw", optimizers.AdamW(), "lr 0.001 (one-cycle), adamw, seed"),
        ("--optimizer lion --lr 0.25", optimizers.Lion(0.25), "lr 0.25 (one-cycle), lion, seed"),
        ("--optimizer sgd", optimizers.SGD(momentum=0.9), "lr 0.001 (one-cycle), sgd with momen"),
        ("--optimizer rmsprop --momentum 0.5", optimizers.RMSprop(momentum=0.5), "momentum 0.5"),
    ],
)
def test_an_optimizer_by_its_name(options, optimizer, words, command):
    status, output, _ = command(f"train digits --epochs 1 {options}")
    assert status == 0
    assert words in output
    assert MLP.load(MODEL).optimizer == optimizer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--optimizer adm", "did you mean 'adam'?"),
        ("--optimizer adam --momentum 0.9", "adam has no momentum"),
    ],
)
def test_an_optimizer_that_is_refused(options, message, command):
    status, _, errors = command(f"train digits {options}")
    assert status == 2
    assert message in " ".join(errors.split())


def test_layer_norm_in_the_place_of_batch_norm(command):
    """The preset of the digits has batch norm."""
    status, output, _ = command("train digits --epochs 1 --layer-norm")
    assert status == 0
    assert "relu, layer norm, float32" in output
    mlp = MLP.load(MODEL)
    assert (mlp.num_bn_layers, mlp.num_ln_layers) == (0, 2)
    status, _, errors = command("train digits --layer-norm --batchnorm")
    assert status == 2
    assert "--layer-norm: takes the place of batch norm" in errors


def test_dropout_by_its_share(command):
    """Repeatable as the rest is: what is dropped follows from the seed too."""
    models = []
    for seed in (0, 0, 1):
        line = f"train digits --epochs 1 --dropout 0.2 --seed {seed} --out {Path(MODEL).parent}"
        status, output, _ = command(line)
        assert status == 0
        assert ", dropout 0.2, float32" in output
        models.append(Path(MODEL).read_bytes())
    assert models[0] == models[1] != models[2]
    assert MLP.load(MODEL).dropout == (0, 0.2, 0.2)
    status, _, errors = command("train digits --dropout 1")
    assert status == 2
    assert "--dropout: must be from 0 to less than 1, got 1.0" in errors


def test_the_accurate_preset_drops_features_smooths_labels_and_trains_on_all(command):
    line = "train digits --preset accurate --epochs 1 --hidden 20"
    status, output, _ = command(f"{line} --out {Path(MODEL).parent}")
    assert status == 0
    assert " 0 validation," in output
    assert "batch norm, dropout 0.4, input dropout 0.1, label smoothing 0.1, float32" in output
    mlp = MLP.load(MODEL)
    assert mlp.dropout == (0.1, 0.4)
    assert mlp.criterion.label_smoothing == 0.1
    assert isinstance(mlp.optimizer, optimizers.AdamW)


@pytest.mark.parametrize("rows", [90, 8])
def test_a_plateau_is_seen_on_what_there_is(rows, command):
    """Of 8 rows none are held out. At this rate the loss goes up and down."""
    x, y = clusters(rows, 4)
    y[::7] = 0
    np.savez("mine.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    line = "train mine.npz --lr-schedule plateau --no-batchnorm --hidden none --lr 50 --epochs 30"
    assert command(line)[0] == 0
    found = history("runs/mine")
    watched = "val_loss" if rows == 90 else "train_loss"
    best, waited, rate = np.inf, 0, 50.0
    for row in found:
        assert float(row["learning_rate"]) == rate
        better = float(row[watched]) < best * (1 - 1e-4)
        best, waited = (float(row[watched]), 0) if better else (best, waited + 1)
        if waited == 2:
            rate, waited = rate / 2, 0
    assert rate < 50


def test_what_products_are_computed_in_reaches_the_network(command):
    status, output, _ = command("train digits --epochs 2 --compute-dtype bfloat16")
    assert status == 0
    assert ", float32 computed in bfloat16, batch " in output
    mlp = MLP.load(MODEL)
    assert (mlp.compute_dtype, mlp.dtype) == ("bfloat16", np.float32)


def test_batch_norm_and_no_hidden_layer(command):
    assert command("train digits --hidden 9,8 --batchnorm --epochs 1")[0] == 0
    assert MLP.load(MODEL).num_bn_layers == 2
    assert command("train digits --hidden none --batchnorm --epochs 1 --out linear")[0] == 0
    mlp = MLP.load("linear/model.safetensors")
    assert (mlp.hiddens, mlp.num_bn_layers) == ((), 0)


def test_the_seed_alone_decides(command):
    models = []
    for options in ("--seed 1", "--seed 1 --threads 1", "--seed 2"):
        assert command(f"train digits --epochs 2 {options} --out {Path(MODEL).parent}")[0] == 0
        models.append(Path(MODEL).read_bytes())
    assert models[0] == models[1]
    assert models[0] != models[2]


def test_the_seed_draws_the_weights(command):
    assert command("train digits --hidden 9 --lr 1e-9 --epochs 1 --no-batchnorm --seed 5")[0] == 0
    w = MLP.load(MODEL).linear_layers[0].W
    np.testing.assert_allclose(w, he_normal(5)(64, 9), atol=1e-6)


def test_a_run_leaves_earlier_ones_alone(command):
    """Each has a folder of its own and says which; an empty one may belong to a run at work."""
    Path("runs/digits").mkdir(parents=True)
    for folder in (Path("runs/digits-2"), Path("runs/digits-3")):
        status, output, _ = command("train digits --hidden none --epochs 1")
        assert status == 0
        assert f"results go to {folder}\n" in output
        assert str(folder / "model.safetensors") in output
        assert files(folder) == RESULTS
    assert files("runs/digits") == set()
    assert "runs/DATASET-2" in command("train --help")[1]


def test_results_replace_those_in_a_folder_that_is_named(command):
    for epochs in (1, 2):
        assert command(f"train digits --hidden none --epochs {epochs} --out mine")[0] == 0
    assert len(history("mine")) == 2
    assert files(".") == {"mine"}


@pytest.mark.parametrize("what", ["a file", pytest.param("a link to nothing", marks=posix)])
def test_no_place_for_results(what, command):
    if what == "a file":
        Path("runs").touch()
    else:
        Path("runs").symlink_to("nowhere")
    status, output, errors = command("train digits")
    assert (status, output) == (2, "")
    folder = re.escape(os.path.join("runs", "digits"))
    assert re.fullmatch(rf"fastmlp: {folder} cannot be made, give another --out: .*\n", errors)


def test_an_archive_sorted_by_class(command):
    x, y = clusters(600, 3, classes=10)
    np.savez("mine.npz", x=x, y=y)
    status, output, _ = command("train mine.npz")
    assert status == 0
    assert float(re.search(r"test accuracy +(\S+) %", output)[1]) > 95
    # The first tenth, and the last, are all there is of a class.
    assert float(history("runs/mine")[-1]["val_error"]) < 0.1
    assert files("runs/mine") == RESULTS - {"mistakes.png"}
    assert "mistakes.png" not in output


def test_an_archive_too_small_to_hold_rows_out(command):
    x, y = clusters(8, 4)
    np.savez("tiny.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    status, output, _ = command("train tiny.npz --epochs 2")
    assert status == 0
    assert "8 training, 0 validation, 8 test" in output
    assert {row["val_loss"] for row in history("runs/tiny")} == {""}
    assert files("runs/tiny") == RESULTS - {"mistakes.png"}


def test_without_a_name_and_without_mnist_it_says_so_and_takes_the_digits(command):
    status, output, errors = command("train --epochs 1")
    assert status == 0
    assert output.startswith("digits:")
    assert re.search(r"mnist was not found.*127\.0\.0\.1.*embedded digits", errors, re.DOTALL)
    assert files("runs/digits") == RESULTS


def test_a_named_set_that_cannot_be_had(command):
    status, output, errors = command("train mnist")
    assert (status, output) == (1, "")
    assert "fastmlp: mnist was not found" in errors
    assert "http://127.0.0.1:9/mnist/train-images-idx3-ubyte.gz" in errors
    assert f"into {datasets.cache_dir() / 'mnist'}" in errors
    assert not Path("runs").exists()


@pytest.mark.long
@pytest.mark.skipif(not FASTMLP_DATA, reason="FASTMLP_DATA names no folder with the MNIST files")
def test_the_preset_for_mnist(command, monkeypatch):
    """.ci/run does it each time, as the README's training command."""
    monkeypatch.setenv("FASTMLP_DATA", FASTMLP_DATA)
    status, output, _ = command("train")
    assert status == 0
    assert output.startswith("mnist: 55,000 training, 5,000 validation, 10,000 test samples\n")
    assert float(re.search(r"test accuracy +(\S+) %", output)[1]) >= 98
    assert files("runs/mnist") == RESULTS
    assert Path("runs/mnist/report.html").stat().st_size < 1_000_000


def test_a_loss_that_is_lost(command):
    status, output, errors = command("train digits --lr 1e20 --no-batchnorm --epochs 9")
    assert status == 1
    assert re.fullmatch(
        r"fastmlp: the loss is (nan|inf) in epoch 1, step \d+: fit ended there, before its update; "
        r"the learning rate may be too large, lr is 1e\+20: nothing was written; "
        r"try a smaller --lr\n",
        errors,
    )
    assert "accuracy" not in output
    assert files("runs") == set()


# Terminals and pipes


@posix
def test_on_a_terminal_that_cannot_move_its_cursor():
    text = written_to_a_terminal("train digits --epochs 2", TERM="dumb")
    assert "│ test accuracy" in text
    assert "\x1b" not in text


LONG = "a-folder-whose-name-is-longer-than-most-terminals-are-wide/" * 3


@posix
@pytest.mark.parametrize("columns", ["40", pytest.param("80", marks=pytest.mark.long), "1000"])
def test_paths_are_whole_on_a_terminal_of_any_width(columns, tmp_path):
    folder = tmp_path / LONG / "notmnist"
    folder.mkdir(parents=True)
    (folder / "notMNIST_small.npz").touch()
    text = shown_on_a_terminal("datasets", FASTMLP_DATA=str(tmp_path / LONG), COLUMNS=columns)
    assert str(folder / "notMNIST_small.npz") in text
    assert ("│" in text) == (columns == "1000")
    out = os.path.join(LONG, "results")
    text = shown_on_a_terminal(f"train digits --epochs 1 --out {out}", COLUMNS=columns)
    paths = {os.path.join(out, name) for name in RESULTS}
    assert all(path in text for path in {f"results go to {out}\n", *paths})
    assert ("│" in text) == (columns == "1000")


def test_paths_are_whole_in_a_pipe(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out = os.path.join(LONG, "results")
    _, output, _ = command(f"train digits --epochs 1 --out {out}")
    assert all(os.path.join(out, name) in output.split() for name in RESULTS)


def test_a_path_in_an_error_keeps_its_spaces(command, capsys):
    from fastmlp.cli import main

    path = "two  spaces " * 9 + "end"
    for line in (["train", "digits", "--data-dir", path], ["train", "digits", "--out", "file"]):
        Path("file").touch()
        assert main(line) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert path in errors[0]


@posix
@pytest.mark.parametrize("line", ["datasets", "--version"], ids=["at once", "at the end"])
def test_a_reader_that_leaves_before_it_is_written(line):
    process = start(line, PYTHONUNBUFFERED="")
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), errors) == (1, "")


def test_an_encoding_without_our_signs():
    process = start("datasets", PYTHONIOENCODING="ascii")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "28?28" in output


def test_more_weights_than_memory(command):
    status, _, errors = command("train synth --hidden 999999,999999")
    assert status == 1
    assert re.fullmatch(r"fastmlp: not enough memory: .*\n", errors)


@pytest.mark.parametrize(
    ("package", "extra"),
    [("typer", "cli"), ("rich", "cli"), ("matplotlib", "plot"), ("safetensors", "io")],
)
def test_without_an_optional_package(package, extra, command, monkeypatch):
    """It is told before anything is trained."""
    monkeypatch.setitem(sys.modules, package, None)
    status, output, errors = command("train digits")
    assert (status, output) == (1, "")
    assert errors == f"fastmlp: {package} is not installed: {how_to_get(extra)}\n"
