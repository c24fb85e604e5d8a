"""fastmlp sweep: what is tried, what comes of it, and that it goes on to the same results."""

import itertools
import json
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, datasets
from fastmlp._cli import samplers, sweep_file
from fastmlp._extras import how_to_get
from fastmlp._files import to_oneself
from tests.command_line import clusters, files, posix, shown_on_a_terminal, start

pytestmark = pytest.mark.usefixtures("command")

FILES = {"sweep.json", "results.jsonl", "model.safetensors", "history.csv"}

GRID = """
[data]
dataset = "digits"
[network]
hidden = ["16", "32,16"]
[fit]
epochs = 1
lr = [0.05, 0.2, 0.1]
"""
DRAWN = """
[data]
dataset = "digits"
[network]
hidden = ["16", "none"]
[fit]
epochs = 1
batch-size = {low = 16, high = 256, log = true}
lr = {low = 1e-3, high = 0.3, log = true}
[sweep]
trials = 3
"""
ASKED = DRAWN.replace("trials = 3", 'trials = 13\nworkers = 2\nsampler = "optuna"')


@pytest.fixture
def sweep(command):
    """Run a sweep of that content; more of the command line; returns as ``command``."""

    def run(content, more=""):
        Path("it.toml").write_text(content)
        return command(f"sweep it.toml {more}")

    return run


def results(folder="runs/it"):
    """Trials by number, without the times."""
    lines = Path(folder, "results.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        record.pop("seconds", None)
    return {record["trial"]: record for record in records}


def table(output):
    """The rows of the final table, as lists of cells."""
    lines = output.split("\n\n")[-2].splitlines()
    return [line.split() for line in lines]


def model(folder="runs/it"):
    return Path(folder, "model.safetensors").read_bytes()


def test_a_grid(sweep, command):
    """All values with each other; the best first, and its network as `train` makes it."""
    status, output, errors = sweep(GRID)
    assert (status, errors) == (0, "")
    assert "digits: 1,294 training, 143 validation samples" in output
    assert files("runs/it") == FILES
    found = results()
    tried = [(found[i]["hidden"], found[i]["lr"]) for i in range(6)]
    assert tried == list(itertools.product(["16", "32,16"], [0.05, 0.2, 0.1]))
    heading, *rows = table(output)
    assert heading == ["trial", "hidden", "lr", "val", "error", "val", "loss"]
    ranked = sorted(found.values(), key=lambda record: (record["val_error"], record["trial"]))
    assert [int(row[0]) for row in rows] == [record["trial"] for record in ranked]
    assert rows[0][3:] == [f"{ranked[0]['val_error']:.4g}", f"{ranked[0]['val_loss']:.4g}"]
    best = ranked[0]
    given = f"--epochs 1 --hidden {best['hidden']} --lr {best['lr']}"
    assert command(f"train digits {given} --out alone")[0] == 0
    assert model() == model("alone")
    test = datasets.load("digits")
    error = MLP.load("runs/it/model.safetensors").evaluate(test.test_x, test.test_y)[1]
    assert re.search(rf"best +trial {best['trial']}\n", output)
    assert f"test accuracy  {100 * (1 - error):.2f} %" in output


def test_ranges_are_drawn_from(sweep):
    assert sweep(DRAWN)[0] == 0
    found = results()
    assert [found[i]["hidden"] for i in range(6)] == ["16", "none"] * 3
    for first in (0, 2, 4):
        # Every choice from the lists has the same draws.
        pair = [(found[i]["lr"], found[i]["batch-size"]) for i in (first, first + 1)]
        assert pair[0] == pair[1]
        assert 1e-3 <= pair[0][0] <= 0.3
        assert isinstance(pair[0][1], int)
        assert 16 <= pair[0][1] <= 256
    assert len({record["lr"] for record in found.values()}) == 3
    # More of them do not change those that there are.
    assert sweep(DRAWN.replace("trials = 3", "trials = 4"), "--out more")[0] == 0
    assert {i: results("more")[i] for i in range(6)} == found
    assert sweep(DRAWN + "seed = 1\n", "--out other")[0] == 0
    assert results("other")[0]["lr"] != found[0]["lr"]


def test_draws_are_uniform():
    """Of numbers and of logarithms, the ends of whole numbers included."""
    generator = np.random.default_rng(0)
    for low, high, log in ((2.0, 4.0, False), (1e-4, 1.0, True), (1, 4, False), (2, 64, True)):
        drawn = [sweep_file.Range(low, high, log).draw(generator) for _ in range(4000)]
        assert low <= min(drawn) <= max(drawn) <= high
        assert {type(value) for value in drawn} == {type(low)}
        scaled = np.log(np.array(drawn) / low) if log else np.array(drawn) - low
        whole = np.log(high / low) if log else high - low
        # The mean of 4000 of a deviation of at most 0.5 of the whole, six times.
        assert abs(scaled.mean() / whole - 0.5) < 6 * 0.5 / 4000**0.5
        if not log and isinstance(low, int):
            assert set(drawn) == {1, 2, 3, 4}


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_result(workers, sweep):
    assert sweep(DRAWN)[0] == 0
    assert sweep(f"{DRAWN}workers = {workers}\n", "--out other")[0] == 0
    assert results("other") == results()
    assert model("other") == model()


@pytest.mark.parametrize("content", [GRID, DRAWN, ASKED], ids=["grid", "drawn", "asked"])
def test_what_is_missing_is_trained(content, sweep):
    if content is ASKED:
        pytest.importorskip("optuna", reason="comes with the extra optuna")
    _, whole, _ = sweep(content)
    before, best = results(), model()
    lines = Path("runs/it/results.jsonl").read_text().splitlines(keepends=True)
    for kept in (lines[::2], lines[:3], []):
        Path("runs/it/results.jsonl").write_text("".join(kept))
        status, output, _ = sweep(content)
        assert status == 0
        assert f"{len(kept)} of them are there already" in output
        assert table(output) == table(whole)
        assert results() == before
        assert model() == best
    written = Path("runs/it/results.jsonl").stat().st_mtime_ns
    assert table(sweep(content)[1]) == table(whole)
    assert Path("runs/it/results.jsonl").stat().st_mtime_ns == written


def test_optuna_chooses_by_what_came_of_earlier_trials(sweep):
    pytest.importorskip("optuna", reason="comes with the extra optuna")
    assert sweep(ASKED)[0] == 0
    found = results()
    assert len(found) == 13
    assert {record["hidden"] for record in found.values()} == {"16", "none"}
    # The first ten are drawn blindly. With other results of these, the others are others.
    lines = Path("runs/it/results.jsonl").read_text().splitlines()[:10]
    told = [json.loads(line) for line in lines]
    for record in told:
        record["val_error"] = record["lr"]
    Path("runs/it/results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in told))
    assert sweep(ASKED)[0] == 0
    again = results()
    assert [again[i]["lr"] for i in range(10)] == [found[i]["lr"] for i in range(10)]
    assert again[12]["lr"] < np.median([record["lr"] for record in told])
    assert again[12]["lr"] != found[12]["lr"]


@pytest.mark.parametrize("ahead", [1, 3])
def test_trials_are_asked_for_and_told_in_one_order(ahead, sweep, monkeypatch):
    """Whichever ends first; and the same once more when some are there."""
    heard = []

    class Recorder(samplers.Grid):
        def ask(self, number):
            heard.append(f"ask {number}")
            return super().ask(number)

        def tell(self, number, error):
            heard.append(f"tell {number}")
            assert error == results()[number]["val_error"]

    Recorder.ahead = ahead
    monkeypatch.setattr("fastmlp._cli.sweep.sampler_of", Recorder)
    expected = []
    for number in range(6):
        expected += [f"tell {number - ahead}"] * (number >= ahead) + [f"ask {number}"]
    sweep(GRID + "[sweep]\nworkers = 3\n")
    assert heard == expected
    lines = Path("runs/it/results.jsonl").read_text().splitlines(keepends=True)
    Path("runs/it/results.jsonl").write_text("".join(lines[:2] + lines[4:]))
    heard.clear()
    sweep(GRID + "[sweep]\nworkers = 3\n")
    assert heard == expected


def test_without_optuna(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    status, _, errors = sweep(ASKED)
    assert status == 1
    assert errors == f"fastmlp: optuna is not installed: {how_to_get('optuna')}\n"
    assert not Path("runs").exists()


def test_trials_that_diverge_come_last(sweep):
    content = GRID.replace("0.05, 0.2, 0.1", "1e25, 0.1").replace(
        "epochs", 'optimizer="sgd"\nepochs'
    )
    status, output, errors = sweep(content)
    assert (status, errors) == (0, "")
    rows = table(output)[1:]
    assert [row[0] for row in rows[2:]] == ["0", "2"]
    assert [row[-2:] for row in rows[2:]] == [["diverged", "diverged"]] * 2
    assert "the loss is" in results()[0]["why"]
    assert len(results()) == 4


def test_trials_that_fail_come_again(sweep, monkeypatch):
    fit, left = MLP.fit, [3]

    def failing(mlp, *arguments, **options):
        if options.get("validation_data") is not None and options.get("callbacks"):
            left[0] -= 1
            if left[0] == 0:
                raise MemoryError("none left")
        return fit(mlp, *arguments, **options)

    monkeypatch.setattr(MLP, "fit", failing)
    status, output, errors = sweep(GRID)
    assert status == 1
    assert errors == "fastmlp: 1 of 6 trials failed: the same command tries them again\n"
    assert re.search(r"^ +\d   MemoryError: none left$", output, re.MULTILINE)
    assert len(results()) == 5
    assert sweep(GRID)[0] == 0
    assert len(results()) == 6


@posix
@pytest.mark.parametrize(
    ("number", "word", "status"), [("SIGINT", "interrupted", 130), ("SIGTERM", "terminated", 143)]
)
def test_a_signal_keeps_the_trials_that_have_ended(number, word, status, command):
    Path("it.toml").write_text(GRID.replace("epochs = 1", "epochs = 40") + "[sweep]\nworkers = 1\n")
    process = start("sweep it.toml")
    for line in process.stdout:
        if line.split()[:1] == ["1"]:
            break
    process.send_signal(getattr(signal, number))
    _, errors = process.communicate(timeout=60)
    found = results()
    assert process.returncode == status, errors
    assert errors == (f"fastmlp: {word} after {len(found)} of 6 trials: the same command goes on\n")
    assert 2 <= len(found) < 6
    Path("it.toml").write_text(GRID.replace("epochs = 1", "epochs = 40"))
    assert command("sweep it.toml")[0] == 0
    assert {i: results()[i] for i in found} == found
    assert len(results()) == 6


def test_regression_and_standardised_pixels(sweep, command):
    x = clusters(90, 4)[0]
    np.savez("values.npz", x=x.astype(np.float32), y=x[:, 0] * 3 + 7)
    content = """
        [data]
        dataset = "values.npz"
        task = "regression"
        [network]
        hidden = "8"
        [fit]
        lr = [0.01, 0.001]
        epochs = 2
    """
    status, output, errors = sweep(content)
    assert (status, errors) == (0, "")
    assert "test R²" in output
    assert " mae " in output
    lr = results()[0]["lr"] if results()[0]["val_error"] <= results()[1]["val_error"] else 0.001
    line = f"train values.npz --task regression --hidden 8 --epochs 2 --lr {lr} --out alone"
    assert command(line)[0] == 0
    assert model() == model("alone")
    # A preset that holds out nothing does in a sweep.
    standardised = '[data]\ndataset="digits"\n[fit]\npreset="speedrun"\nepochs=1\nseed=[0, 1]\n'
    status, output, _ = sweep(standardised, "--out runs/speed")
    assert status == 0
    digits = datasets.load("digits")
    error = MLP.load("runs/speed/model.safetensors").evaluate(digits.test_x, digits.test_y)[1]
    assert error < 0.2


WRONG = {
    "[netwrok]\n": r"must have the parts \[data\], \[network\], \[fit\], \[sweep\], got 'netwrok'; "
    "did you mean 'network'?",
    "lr = 3\n": r"must have the parts .*, got 'lr'",
    "fit = 3\n": r"must have the parts .*, got 'fit'",
    "[fit]\nepoch = 3\n": r"\[fit\] must have some of .*, got 'epoch'; did you mean 'epochs'?",
    "[fit]\nbatch_size = 3\n": r"\[fit\] must have some of .*, got 'batch_size'; did you mean",
    "[fit]\nepochs = 'five'\n": r"\[fit\] epochs must be a whole number, or a list of such, or "
    r"\{low = ..., high = ...\}, got 'five'",
    "[fit]\nepochs = 1.5\n": r"\[fit\] epochs must be a whole number, .* got 1.5",
    "[fit]\nepochs = true\n": r"\[fit\] epochs must be a whole number, .* got True",
    "[fit]\nlr = []\n": r"\[fit\] lr must have at least one value to choose from",
    "[fit]\nlr = [0.1, 'b']\n": r"\[fit\] lr\[1\] must be a number, got 'b'",
    "[network]\nbatchnorm = 1\n": r"\[network\] batchnorm must be true or false, or a list",
    "[network]\nhidden = {low = 1, high = 3}\n": r"\[network\] hidden must be a text, or a list",
    "[network]\nhidden = '0'\n": r"\[network\] hidden must be widths from 1",
    "[fit]\nlr = {low = 1}\n": r"\[fit\] lr must be \{low = ..., high = ..., log = true\}, got",
    "[fit]\nlr = {low = 1, high = 2, lag = true}\n": r"\[fit\] lr must be \{low",
    "[fit]\nlr = {low = 2, high = 1}\n": r"\[fit\] lr must have a low below its high, got 2.0 and",
    "[fit]\nlr = {low = nan, high = 1}\n": r"\[fit\] lr must have a low below its high",
    "[fit]\nlr = {low = 0.0, high = 1, log = true}\n": r"\[fit\] lr must have a low above 0",
    "[fit]\nlr = {low = 1, high = 2, log = 1}\n": r"\[fit\] lr.log must be true or false, got 1",
    "[fit]\nepochs = {low = 1, high = 2.5}\n": r"\[fit\] epochs.high must be a whole number",
    "[fit]\nlr = [0.1, -1]\n": r"\[fit\] lr must be above 0",
    "[fit]\nmomentum = {low = 0, high = 1}\n[sweep]\ntrials = 2\n": r"\[fit\] momentum must be",
    "[fit]\nbatch-size = 0\n": r"\[fit\] batch-size must be at least 1, got 0",
    "[fit]\noptimizer = ['adam', 'momentum']\nmomentum = 0.5\n": r"\[fit\] momentum adam has no",
    "[fit]\noptimizer = 'adamm'\n": r"\[fit\] optimizer must be one of .*did you mean 'adam",
    "[fit]\npreset = 'fast'\n": r"\[fit\] preset must be one of speedrun, accurate, got fast",
    "[network]\ndtype = ['float16']\n": r"\[network\] dtype must be float32 or float64, got",
    "[data]\ndataset = ['digits']\n": r"\[data\] dataset must be a text, got \['digits'\]",
    "[data]\ntask = 'regression'\n": r"\[data\] task regression is for a file with targets",
    "[fit]\nlr = {low = 0.1, high = 0.2}\n": r"\[sweep\] trials must be given",
    "[sweep]\ntrials = 3\n": r"\[sweep\] trials is how often ranges are drawn, and there are none",
    "[fit]\nlr = [0.1]\n[sweep]\ntrials = 0\n": r"\[sweep\] trials must be at least 1, got 0",
    "[sweep]\nseed = -1\n": r"\[sweep\] seed must be at least 0, got -1",
    "[sweep]\nsampler = 'grid'\n": r"\[sweep\] sampler must be one of random, optuna, got 'grid'",
    "[sweep]\nsampler = 'optuna'\ntrials = 3\n": r"\[sweep\] sampler 'optuna' needs lists or",
    "[fit\n": "cannot be read as TOML: ",
    "[fit]\nlr = 0.1\nlr = 0.2\n": "cannot be read as TOML: ",
}


@pytest.mark.parametrize("content", WRONG)
def test_what_is_wrong_in_the_file_is_named(content, sweep):
    status, output, errors = sweep(content)
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"fastmlp: it\.toml: {WRONG[content]}.*\n", errors), errors
    assert not Path("runs").exists()


def test_other_refusals(sweep, command):
    assert command("sweep missing.toml")[0] == 2
    Path("it.toml").write_bytes(b"\xff")
    assert "cannot be read as TOML" in command("sweep it.toml")[2]
    few = clusters(9, 4)
    np.savez("few.npz", x=few[0].astype(np.float32), y=few[1])
    status, _, errors = sweep('[data]\ndataset = "few.npz"\n')
    assert status == 1
    assert "a sweep needs 10 training samples or more" in errors


def test_a_folder_of_something_else(sweep, command):
    assert command("train digits --epochs 1 --out runs/it")[0] == 0
    before = model()
    status, _, errors = sweep(GRID)
    assert status == 2
    assert errors == "fastmlp: runs/it has results that are not a sweep's: give another --out\n"
    assert model() == before
    assert sweep(GRID, "--out one")[0] == 0
    for changed, what in (
        (GRID.replace("0.2", "0.3"), "lists"),
        (GRID.replace("0.05, 0.2", "0.2, 0.05"), "lists"),
        (GRID.replace("epochs = 1", "epochs = 2"), "fixed"),
        (GRID + "[sweep]\nseed = 1\n", "seed"),
        (GRID.replace("digits", "synth"), "fixed, dataset, data"),
    ):
        status, _, errors = sweep(changed, "--out one")
        assert status == 2
        assert errors == (
            f"fastmlp: one has the results of another sweep ({what}): give another --out\n"
        )
    Path("one/results.jsonl").write_text('{"trial": 1}\n{"tri\n')
    status, _, errors = sweep(GRID, "--out one")
    assert status == 1
    assert re.fullmatch("fastmlp: one/results.jsonl, line 2: cannot be read as JSON: .*\n", errors)
    for line in ('{"trial": "x"}', '{"trial": 1}', '{"trial": 1, "val_error": "x"}', "3"):
        Path("one/results.jsonl").write_text(line + "\n")
        assert "line 1: must be the result of a trial" in sweep(GRID, "--out one")[2]
    Path("file").write_text("")
    assert "--out file must be a folder to write to" in sweep(GRID, "--out file")[2]


@pytest.mark.parametrize(("kinds", "told"), [(30, False), (31, True)])
def test_many_whole_numbers_as_classes_are_remarked_on(kinds, told, sweep):
    rows = [f"{k % 7},{k % kinds}" for k in range(120)]
    Path("trees.csv").write_text("\n".join(["height,age", *rows, ""]))
    of_table = '[data]\ndataset = "trees.csv"\ntarget = "age"\n'
    status, _, errors = sweep(f'{of_table}[network]\nhidden = "none"\n[fit]\nepochs = 1\n')
    assert status == 0
    remark = 'trees: 31 classes; for numbers: task = "regression" in [data]\n'
    assert errors == (remark if told else "")


@posix
def test_a_folder_has_one_sweep_at_a_time(sweep):
    Path("runs/it").mkdir(parents=True)
    with to_oneself(Path("runs/it")):
        status, _, errors = sweep(GRID)
        assert files("runs/it") == set()
    assert status == 2
    assert errors == (
        "fastmlp: runs/it is being written by another sweep: wait for its end, or give another "
        "--out\n"
    )
    assert sweep(GRID)[0] == 0


def test_data_that_have_changed_are_another_sweep(sweep):
    x, y = clusters(90, 4)
    content = GRID.replace("digits", "table.npz")
    np.savez("table.npz", x=x.astype(np.float32), y=y)
    assert sweep(content)[0] == 0
    np.savez("table.npz", x=x.astype(np.float32) + 1, y=y)
    assert "another sweep (data)" in sweep(content)[2]


@posix
def test_the_table_fits_a_terminal(sweep):
    content = DRAWN.replace("epochs = 1", 'epochs = 1\noptimizer = ["adam", "momentum"]')
    content = content.replace("[fit]", "dropout = [0.0, 0.25]\n[fit]")
    assert sweep(content)[0] == 0
    for columns in (80, 40):
        text = shown_on_a_terminal("sweep it.toml", COLUMNS=str(columns))
        final = text[text.index("results go to") :]
        assert max(map(len, final.splitlines())) <= columns, final
        assert "batch-size" in final
        assert re.search(r"test accuracy\W+\d\d", final)
