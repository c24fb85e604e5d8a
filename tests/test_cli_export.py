"""The command `fastmlp export`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, datasets
from fastmlp.datasets import Column, Schema
from tests.command_line import MODEL
from tests.networks import build
from tests.onnx_models import agree, expected, onnx, run


@pytest.fixture
def model(command):
    command("train digits --epochs 2 --batchnorm")
    return MLP.load(MODEL)


def test_a_trained_model(model, command):
    status, output, errors = command(f"export {MODEL} digits.onnx")
    size = Path("digits.onnx").stat().st_size
    assert (status, output, errors) == (0, f"digits.onnx: {size:,} bytes\n", "")
    x = (datasets.load("digits").test_x / 255).astype(np.float32)
    agree(run("digits.onnx", x=x), expected(model, x))


def test_options(model, command):
    options = "--outputs prediction,probabilities --fold-batchnorm --input-dtype uint8"
    assert command(f"export {MODEL} digits.ONNX {options}")[0] == 0
    x = datasets.load("digits").test_x
    wanted = expected(model, x)
    del wanted["scores"]
    found = run("digits.ONNX", x=x)
    assert list(found) == ["prediction", "probabilities"]
    agree(found, wanted)
    operators = {node.op_type for node in onnx.load("digits.ONNX").graph.node}
    assert "BatchNormalization" not in operators


def test_a_c_file_is_that_of_the_method(model, command):
    status, output, errors = command(f"export {MODEL} digits.c")
    assert (status, errors) == (0, "")
    assert output == f"digits.c: {Path('digits.c').stat().st_size:,} bytes\n"
    model.to_c("own.c")
    assert Path("digits.c").read_text() == Path("own.c").read_text()


@pytest.mark.parametrize("classes", [("low", "high"), None])
def test_of_a_table_columns_and_classes_go_along(classes, command):
    mlp = build([3, 2], dtype=np.float32)
    columns = (Column("age"), Column("city", ("Köln", "Bonn")))
    mlp.schema = Schema(columns, ("spend",) if classes else ("a", "b"), classes, "float64")
    mlp.save("model")
    told = "classes of spend: low, high" if classes else "targets: a, b"
    for name, where in [
        ("people.onnx", "its property fastmlp.schema"), ("people.c", "the comment at its top")
    ]:  # fmt: skip
        status, output, errors = command(f"export model {name}")
        assert (status, errors) == (0, "")
        assert output.splitlines() == [
            f"{name}: {Path(name).stat().st_size:,} bytes",
            "columns: age, city (2 categories)",
            told,
            f"{where} says which of the 3 numbers of a row is which",
        ]
    properties = {p.key: p.value for p in onnx.load("people.onnx").metadata_props}
    assert Schema.from_dict(json.loads(properties["fastmlp.schema"])) == mlp.schema
    lines = [
        'x[0] : "age"',
        'x[1] : 1 where "city" is "Köln", otherwise 0',
        'x[2] : 1 where "city" is "Bonn", otherwise 0',
        *(['y[0] : "low" of "spend"', 'y[1] : "high" of "spend"'] if classes
          else ['y[0] : "a"', 'y[1] : "b"']),
    ]  # fmt: skip
    text = Path("people.c").read_text(encoding="utf-8")
    assert "".join(f" * {line}\n" for line in lines) in text
    assert "pixels" not in text


def test_what_cannot_be_written_is_said_in_a_line(model, command):
    Path("text.safetensors").write_text("no model")
    for arguments, status, message in [
        (f"{MODEL} digits.txt", 2, r"Invalid value for OUT: must end in \.onnx.*, got digits\.txt"),
        (f"{MODEL} digits", 2, r"must end in \.onnx or \.c, got digits"),
        (f"{MODEL} a.c --outputs scores", 2, r"--outputs: a \.c file has no such choice"),
        (f"{MODEL} a.onnx --outputs label", 1, "outputs must be of scores, .* got 'label'"),
        (f"{MODEL} a.onnx --input-dtype int8", 1, "input_dtype must be one of float32, uint8"),
        (f"{MODEL} nowhere/a.onnx", 1, r"nowhere/a\.onnx: the folder .* does not exist"),
        ("text.safetensors a.onnx", 1, r"text\.safetensors: not a fastmlp network"),
        ("none.safetensors a.onnx", 2, r"none\.safetensors.*does not exist"),
    ]:
        found, output, errors = command(f"export {arguments}")
        assert (found, output) == (status, "")
        assert re.fullmatch(rf"fastmlp: .*{message}.*\n", errors), errors
        assert not Path("a.onnx").exists()
