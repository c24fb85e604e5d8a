"""`fastmlp inspect`: what it says of a network in a file, on any terminal, and what it refuses."""

import errno
import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp import MLP, BinaryCrossEntropy, LeakyReLU, SoftmaxCrossEntropy, Tanh, optimizers
from tests.command_line import MODEL, posix, shown_on_a_terminal
from tests.exchange import every_kind, network
from tests.networks import batch, build

HEADINGS = ["layer", "widths", "norm", "activation", "dropped", "parameters", "range"]


@pytest.fixture
def inspected(command):
    """What is said of a network: its layers, each a dictionary, and everything else, another."""

    def inspect(mlp, **options):
        mlp.save("model", **options)
        status, output, errors = command("inspect model")
        assert (status, errors) == (0, "")
        layers, facts = output.split("\n\n")
        heading, *lines = layers.splitlines()
        starts = [heading.index(name) for name in HEADINGS]
        ends = [*starts[1:], None]
        cells = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines]
        return (
            {row[0]: dict(zip(HEADINGS, row, strict=True)) for row in cells},
            dict(re.split(r"  +", line.strip(), maxsplit=1) for line in facts.splitlines()),
        )

    return inspect


def number(text):
    return int(text.replace(",", ""))


# Layers


@every_kind
def test_parameters_of_the_layers_are_all_parameters(kind, inspected):
    mlp = network(kind, np.float32)
    layers, _ = inspected(mlp)
    *parts, total = [number(layer["parameters"]) for layer in layers.values()]
    assert sum(parts) == total == mlp.parameters.size
    assert [name for name in layers if name.isdigit()] == ["1", "2", "3", "4"]


def test_what_layers_are(inspected):
    layers, _ = inspected(network("all", np.float64))
    assert list(layers) == ["embeddings", "scales", "1", "2", "3", "4", "all"]
    assert [layer["widths"] for layer in layers.values()] == [
        "5-15", "22", "22-17", "17-17", "17-5", "5-3", "7-3",
    ]  # fmt: skip
    assert [layer["norm"] for layer in layers.values()] == ["", "", *["layer"] * 3, "", ""]
    assert [layer["activation"] for layer in layers.values()] == [
        "", "", "parametric silu", "parametric tanh + input", "parametric gelu", "identity", "",
    ]  # fmt: skip
    assert [layer["dropped"] for layer in layers.values()] == [
        "", "", "10 %", "20 %", "30 %", "40 %", "",
    ]  # fmt: skip


def test_numbers_of_activations_and_batch_norm(inspected):
    mlp = build([5, 4, 3], [lambda: LeakyReLU(0.25), Tanh], num_bn_layers=1, bias=False)
    layers, _ = inspected(mlp)
    assert [layer["activation"] for layer in layers.values()] == ["leaky_relu 0.25", "tanh", ""]
    assert [layer["norm"] for layer in layers.values()] == ["batch", "", ""]
    assert [layer["parameters"] for layer in layers.values()] == ["28", "12", "40"]


def test_ranges_of_the_parameters(inspected):
    mlp = build([5, 4, 3], dtype=np.float32)
    mlp.linear_layers[0].W.reshape(-1)[3] = -2.5
    mlp.linear_layers[0].b[0, 1] = 12.25
    mlp.linear_layers[1].W.reshape(-1)[:2] = np.nan, -7
    mlp.linear_layers[1].b[0, 2] = np.inf
    layers, _ = inspected(mlp)
    assert layers["1"]["range"] == "-2.5 to 12.2"
    assert re.fullmatch(r"-7 to [\d.]+, 2 not finite", layers["2"]["range"])
    assert layers["all"]["range"] == "-7 to 12.2, 2 not finite"
    mlp.parameters[:] = np.nan
    layers, _ = inspected(mlp)
    assert layers["all"]["range"] == "39 not finite"


@every_kind
def test_the_range_of_all_is_that_of_the_layers_together(kind, inspected):
    layers, _ = inspected(network(kind, np.float32))
    *parts, total = [tuple(map(float, layer["range"].split(" to "))) for layer in layers.values()]
    least, greatest = zip(*parts, strict=True)
    assert total == (min(least), max(greatest))


# Training


def test_what_a_network_was_trained_by(inspected):
    mlp = build([5, 4, 3], dtype=np.float32, dropout=0.5, dropout_seed=11)
    mlp.criterion = SoftmaxCrossEntropy(0.125)
    mlp.optimizer = optimizers.AdamW(0.01, weight_decay=0.1, clip_norm=1.0)
    x, labels, _ = batch(1200, 5, 3, dtype=np.float32)
    mlp.fit(x, labels, batch_size=1)
    mlp.dropout_seed = 11
    mlp.forward(x)
    _, facts = inspected(mlp)
    expected = {
        "dtype": "float32", "criterion": "SoftmaxCrossEntropy", "label_smoothing": "0.125",
        "class_weights": "None", "optimizer": "AdamW", "lr": "0.01", "betas": "(0.9, 0.999)",
        "eps": "1e-08", "weight_decay": "0.1", "clip_norm": "1", "updates": "1,200",
        "dropout seed": "11", "steps since": "1",
    }  # fmt: skip
    assert dict(list(facts.items())[: len(expected)]) == expected


def test_what_is_not_there_is_not_mentioned(inspected):
    mlp = build([5, 3], dtype=np.float64)
    mlp.criterion = BinaryCrossEntropy("sum")
    _, facts = inspected(mlp)
    assert list(facts)[:7] == [
        "dtype", "criterion", "reduction", "optimizer", "lr", "momentum", "weight_decay",
    ]  # fmt: skip
    assert (facts["dtype"], facts["reduction"]) == ("float64", "sum")
    assert "dropout seed" not in facts


# Sizes and costs


def test_sizes(inspected):
    mlp = network("batch norm", np.float64)
    _, facts = inspected(mlp)
    assert facts["file"] == f"format 4, {os.path.getsize('model') / 1000:.3g} kB"
    parameters, statistics = mlp.parameters.size, mlp.statistics.size
    assert facts["memory to train"] == f"{8 * (3 * parameters + statistics) / 1000:.3g} kB"
    assert facts["memory to predict"] == f"{8 * (parameters + statistics) / 1000:.3g} kB"
    assert facts["and reads"] == f"{8 * (parameters + statistics + 7) / 1000:.3g} kB"
    assert number(facts["a row takes"].split()[0]) == 7 * 17 + 17 * 17 + 17 * 5 + 5 * 3
    mlp.optimizer = optimizers.Adam(average=0.9)
    _, facts = inspected(mlp)
    assert facts["memory to train"] == f"{8 * (5 * parameters + statistics) / 1000:.3g} kB"


def test_numbers_of_a_file_may_be_rounded(inspected):
    mlp = build([5, 4, 3], dtype="bfloat16")
    assert "weights" not in inspected(mlp)[1]["file"]
    _, facts = inspected(mlp, weights_dtype="bfloat16")
    assert facts["file"].startswith("format 4, weights in bfloat16, ")
    assert facts["dtype"] == "float32, products in bfloat16"


def test_costs_are_those_of_predictions(inspected, monkeypatch):
    """The medians of a tenth of a second, or three calls; these take 1, 4, 9 ... ms a row."""
    clock, calls = [0.0], []

    def predict(mlp, x):
        calls.append(x)
        clock[0] += len(calls) ** 2 * len(x) / 1000

    monkeypatch.setattr(MLP, "predict", predict)
    watch = SimpleNamespace(perf_counter=lambda: clock[0])
    monkeypatch.setattr("fastmlp._cli.inspect.time", watch)
    _, facts = inspected(network("plain", np.float32))
    assert [len(x) for x in calls] == [1] * 7 + [1000] * 4
    assert all(x.dtype == np.float32 for x in calls)
    assert all(np.count_nonzero(x) == x.size for x in calls)
    assert facts["1 row in"] == "20.5 ms"
    assert facts["1,000 rows in"] == "100 s"


def test_units():
    from fastmlp._cli.units import in_bytes, in_seconds

    texts = [in_bytes(count) for count in (0, 999, 1000, 999_499, 999_500, 1234e6, 5e13)]
    assert texts == ["0 bytes", "999 bytes", "1 kB", "999 kB", "1 MB", "1.23 GB", "50 TB"]
    texts = [in_seconds(seconds) for seconds in (2e-9, 3.456e-5, 0.9999, 12.3)]
    assert texts == ["2 ns", "34.6 µs", "1 s", "12.3 s"]


# Terminals


@posix
@pytest.mark.parametrize("columns", [40, 80, 1000])
def test_lines_fit_a_terminal(columns, command):
    """A cell a line where the table of layers is too wide; framed where there is room."""
    build([784, 128, 10], dtype=np.float32, num_bn_layers=1, dropout=0.5).save("model")
    text = shown_on_a_terminal("inspect model", COLUMNS=str(columns))
    assert max(map(len, text.splitlines())) <= columns
    assert ("┃ layer ┃" in text) == (columns == 1000)
    assert bool(re.search(r"^layer +widths", text, re.MULTILINE)) == (columns == 80)
    assert bool(re.search(r"^widths +784-128$", text, re.MULTILINE)) == (columns == 40)
    assert len(re.findall(r"\b100,736\b", text)) == 1
    assert "\n\n\n" not in text
    assert not re.search(r"^\w+ *$", text, re.MULTILINE)


def test_in_a_pipe_it_is_the_same_on_any_terminal(command, monkeypatch):
    network("all", np.float32).save("model")
    said = []
    for columns in ("40", "1000"):
        monkeypatch.setenv("COLUMNS", columns)
        said.append(command("inspect model")[1].split("1 row in")[0])
    assert said[0] == said[1]


# Files


def test_a_trained_model(command):
    command("train digits --epochs 1")
    status, output, _ = command(f"inspect {MODEL}")
    assert status == 0
    assert re.search(r"^1 +64-256 +batch +relu ", output, re.MULTILINE)


class Payload:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_files_that_are_no_models_are_refused_as_by_predict(command):
    network("plain", np.float32).save("whole")
    content = Path("whole").read_bytes()
    Path("cut").write_bytes(content[:-1])
    Path("changed").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    Path("empty").touch()
    Path("pickled").write_bytes(pickle.dumps(Payload()))
    for name in ("cut", "changed", "empty", "pickled"):
        status, output, errors = command(f"inspect {name}")
        assert (status, output) == (1, "")
        assert re.fullmatch(rf"fastmlp: {name}: not a fastmlp network: .*\n", errors)
        assert (status, output, errors) == command(f"predict {name} whole")
    assert not Path("executed").exists()


def test_an_error_of_reading_names_the_file(command, monkeypatch):
    network("plain", np.float32).save("model")

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(MLP, "load", fail)
    status, output, errors = command("inspect model")
    assert (status, output) == (1, "")
    assert errors == "fastmlp: model: Input/output error\n"
