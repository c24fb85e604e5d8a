"""Networks as C files, compiled: the same outputs as ``predict`` works from."""

import ctypes
import json
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_array_equal

from fastmlp import (
    Activation,
    BinaryCrossEntropy,
    Identity,
    MeanSquaredError,
    PoissonNLL,
    ReLU,
    SoftmaxCrossEntropy,
    datasets,
)
from fastmlp.datasets import Column, Schema
from tests.exchange import (
    TOLERANCE,
    every_activation,
    every_dtype,
    every_kind,
    network,
    networks,
    of_activation,
    rows,
)
from tests.networks import assert_close, build

CC = next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
needs_compiler = pytest.mark.skipif(CC is None, reason="compiling C needs gcc, clang or cc")

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wdouble-promotion"]
DIALECTS = {"gcc": "c99", "clang": "c99", "g++": "c++17", "clang++": "c++17"}
C_TYPES = {np.dtype(np.float32): ctypes.c_float, np.dtype(np.float64): ctypes.c_double}


def compiled(source, output, *options, compiler=CC, dialect="c99"):
    """Compile a file, without warnings; returns the output's path."""
    language = ["-x", "c++"] if dialect.startswith("c++") else []
    result = subprocess.run(
        [compiler, f"-std={dialect}", "-O1", *STRICT, *options, *language, source, "-o", output,
         "-lm"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return output


class InC:
    """A network as C code in this process."""

    def __init__(self, mlp, folder, name="mlp"):
        source = Path(folder, f"{name}.c")
        mlp.to_c(source, name)
        library = ctypes.CDLL(str(compiled(source, source.with_suffix(".so"), "-shared", "-fPIC")))
        self._mlp, self._pointer = mlp, ctypes.POINTER(C_TYPES[mlp.dtype])
        self._forward = getattr(library, f"{name}_forward")
        self._predict = getattr(library, f"{name}_predict", None)

    def _at(self, array):
        return array.ctypes.data_as(self._pointer)

    def outputs(self, x):
        x = np.ascontiguousarray(x, self._mlp.dtype)
        y = np.empty((len(x), self._mlp.output_size), x.dtype)
        for row, out in zip(x, y, strict=True):
            self._forward(self._at(row), self._at(out))
        return y

    def predict(self, x):
        return np.array([self._predict(self._at(row)) for row in x])


def assert_same_outputs(mlp, folder, x):
    assert_close(InC(mlp, folder).outputs(x), mlp._outputs(x), TOLERANCE[mlp.dtype.type])


# Outputs


@needs_compiler
@every_dtype
@every_kind
def test_outputs_are_the_same(kind, dtype, tmp_path):
    mlp = network(kind, dtype)
    assert_same_outputs(mlp, tmp_path, rows(mlp))


@needs_compiler
@every_dtype
@every_activation
def test_every_activation(name, dtype, tmp_path):
    """Where they bend, and far out, too."""
    mlp = of_activation(name, dtype)
    assert_same_outputs(mlp, tmp_path, np.concatenate([rows(mlp), 100 * rows(mlp)]))


@needs_compiler
@settings(max_examples=25, deadline=None)
@given(networks())
def test_any_network(mlp):
    with tempfile.TemporaryDirectory() as folder:
        assert_same_outputs(mlp, folder, rows(mlp))


@needs_compiler
@every_dtype
def test_numbers_are_exact(dtype, tmp_path):
    """A row with a single 1 is answered by a row of the weights: to the bit."""
    info = np.finfo(dtype)
    numbers = [info.max, info.tiny, info.smallest_subnormal, -info.eps, 0.1, 1 / 3, 1e10, -2.0, 0.0]
    mlp = build([3, 3], dtype=dtype, bias=False)
    mlp.linear_layers[0].W = np.array(numbers, dtype).reshape(3, 3)
    assert_array_equal(InC(mlp, tmp_path).outputs(np.eye(3, dtype=dtype)), mlp.linear_layers[0].W)


@needs_compiler
def test_pixels_are_given_in_shares_of_255(tmp_path):
    mlp = network("plain", np.float32)
    x = np.random.default_rng(0).integers(0, 256, (20, 7), np.uint8)
    shares = x.astype(np.float32) / np.float32(255)
    assert_close(InC(mlp, tmp_path).outputs(shares), mlp._outputs(x), 1e-6)


# Names that would end a comment, begin another in it, or be taken for a part of the code.
NASTY = (
    "a */ int main",
    "/* b",
    "/*/",
    "*/*",
    "c\n\\",
    "real @ net_",
    "\u202e",
    "??/",
    "\ud800",
    "ü",
)


@needs_compiler
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_a_table_is_described_whatever_its_names_are(dtype, tmp_path):
    mlp = build([len(NASTY) + 2, 2], dtype=np.float32)
    columns = (Column("real @ net_"), Column("city */", NASTY), Column("age"))
    mlp.schema = Schema(columns, ("t",), ("yes", "no"), dtype)
    assert_close(InC(mlp, tmp_path).outputs(rows(mlp)), mlp._outputs(rows(mlp)), 1e-6)
    mlp.to_c(tmp_path / "it.c")
    text = (tmp_path / "it.c").read_text(encoding="utf-8")
    said = re.findall(r'x\[(\d+)\] : (?:1 where (".*") is )?(".*?")(?:, otherwise 0)?\n', text)
    assert [int(place) for place, *_ in said] == list(range(mlp.input_size))
    names = [json.loads(name) for *_, name in said]
    assert names == ["real @ net_", *NASTY, "age"]
    assert {json.loads(column) for _, column, _ in said[1:-1]} == {"city */"}
    assert re.findall(r'y\[\d\] : "(\w+)" of "t"\n', text) == ["yes", "no"]
    head = text[: text.index("#include")]
    assert "pixels" not in head
    assert ("divided by 255" in head) == (dtype == "uint8")


@needs_compiler
def test_what_products_are_computed_in_stays_behind(tmp_path):
    mlp = network("plain", np.float32)
    expected = mlp._outputs(rows(mlp))
    mlp.compute_dtype = "bfloat16"
    assert_close(InC(mlp, tmp_path).outputs(rows(mlp)), expected, 1e-6)


@needs_compiler
def test_mnist(tmp_path):
    """784-128-10, on digits as large as MNIST's."""
    data = datasets.load("digits")
    mlp = build([784, 128, 10], [ReLU, Identity], dtype=np.float32)
    x = np.kron(data.train_x[:500].reshape(-1, 8, 8), np.ones((4, 4)))[:, 2:30, 2:30]
    x = (x / 255).astype(np.float32).reshape(500, 784)
    mlp.fit(x, data.train_y[:500], epochs=3, batch_size=32, seed=0)
    in_c = InC(mlp, tmp_path)
    assert_close(in_c.outputs(x), mlp._outputs(x), 1e-6)
    assert_array_equal(in_c.predict(x), mlp.predict(x))


# Predictions


@needs_compiler
def test_classes(tmp_path):
    mlp = network("plain", np.float64)
    x = rows(mlp, 200)
    assert_array_equal(InC(mlp, tmp_path).predict(x), mlp.predict(x))
    assert len(set(mlp.predict(x))) > 1


@needs_compiler
def test_of_equal_scores_the_first_class_counts(tmp_path):
    mlp = build([3, 4])
    mlp.parameters[:] = 0
    assert_array_equal(InC(mlp, tmp_path).predict(rows(mlp, 1)), [0])


@needs_compiler
def test_a_label(tmp_path):
    mlp = build([7, 5, 2], dtype=np.float32)
    single = type(mlp)(
        7, 1, [5], [ReLU(), Identity()], lambda a, b: mlp.linear_layers[b == 1].W[:, :b],
        lambda b: mlp.linear_layers[b == 1].b[:, :b], BinaryCrossEntropy(), 0.1,
    )  # fmt: skip
    x = rows(single, 200)
    assert_array_equal(InC(single, tmp_path).predict(x), single.predict(x))
    assert set(single.predict(x)) == {0, 1}


@pytest.mark.parametrize("criterion", [MeanSquaredError(), BinaryCrossEntropy(), PoissonNLL()])
def test_other_criteria_have_no_class(criterion, tmp_path):
    mlp = network("plain", np.float32)
    mlp.criterion = criterion
    mlp.to_c(tmp_path / "net.c")
    assert "mlp_predict" not in (tmp_path / "net.c").read_text()


def test_the_file_says_what_outputs_are(tmp_path):
    mlp = network("plain", np.float32)
    for criterion, meaning in {
        SoftmaxCrossEntropy(): "scores of the classes, whose softmax are probabilities",
        BinaryCrossEntropy(): "scores of the labels, whose sigmoid are probabilities",
        PoissonNLL(): "the logarithms of the rates",
        MeanSquaredError(): "the values",
    }.items():
        mlp.criterion = criterion
        mlp.to_c(tmp_path / "net.c")
        text = (tmp_path / "net.c").read_text()
        assert f" * y : {meaning}; must not overlap x\n" in text
        assert max(map(len, text.splitlines())) <= 100


# The file


@pytest.mark.parametrize("compiler", DIALECTS)
@every_dtype
def test_compilers_have_nothing_to_say(compiler, dtype, tmp_path):
    """In C and in C++, as a part of a program and as one."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    network("all", dtype).to_c(tmp_path / "net.c", "net")
    for options in (["-c"], ["-DNET_MAIN"]):
        compiled(
            tmp_path / "net.c", tmp_path / "out", *options, compiler=compiler,
            dialect=DIALECTS[compiler],
        )  # fmt: skip


@needs_compiler
@every_dtype
def test_the_program(dtype, tmp_path):
    """It reads rows of numbers, prints rows of outputs, and complains of half a row."""
    mlp = network("all", dtype)
    mlp.to_c(tmp_path / "net.c", "net")
    program = compiled(tmp_path / "net.c", tmp_path / "net", "-DNET_MAIN")

    def run(text):
        return subprocess.run(
            [program], input=text, capture_output=True, text=True, check=False, timeout=60
        )

    x = rows(mlp)
    done = run("\n".join(" ".join(map(repr, row)) for row in x.tolist()))
    found = np.array([line.split() for line in done.stdout.splitlines()], dtype)
    assert done.returncode == 0
    assert_array_equal(found, InC(mlp, tmp_path).outputs(x))
    assert run("").returncode == 0
    for text, count in (("1 2 3", 3), ("1 2 x", 2), ("x", 0)):
        failed = run(text)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr == f"a row must be 7 numbers, got {count}\n"


@needs_compiler
@pytest.mark.skipif(shutil.which("nm") is None, reason="symbols are read by nm")
def test_no_state_and_no_heap(tmp_path):
    """Of the symbols only functions are public, no data can be written, and calls are of math.h."""
    for name, kind in (("all", np.float32), ("parametric", np.float64)):
        network(name, kind).to_c(tmp_path / "net.c", "net")
        compiled(tmp_path / "net.c", tmp_path / "net.o", "-c")
        lines = subprocess.check_output(["nm", tmp_path / "net.o"], text=True).splitlines()
        symbols = {line.split()[-1]: line.split()[-2] for line in lines}
        assert set(symbols.values()) <= set("TtrRU")
        assert {symbol for symbol, where in symbols.items() if where == "T"} == {
            "net_forward", "net_predict",
        }  # fmt: skip
        used = {symbol.removesuffix("f") for symbol, where in symbols.items() if where == "U"}
        assert used <= {"exp", "tanh", "erfc", "cos", "sqrt", "floor"}


@needs_compiler
def test_threads_at_the_same_time(tmp_path):
    mlp = network("all", np.float64)
    in_c = InC(mlp, tmp_path)
    x = rows(mlp, 400)
    expected = in_c.outputs(x)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(in_c.outputs, [x] * 8):
            assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_stack_that_a_call_takes(dtype, tmp_path):
    """As the file says it: of the two arrays of hidden rows, and of predict's outputs."""
    network("all", dtype).to_c(tmp_path / "net.c")
    text = (tmp_path / "net.c").read_text()
    numbers = 22 + 17 + 3
    assert f"a call takes {numbers * np.dtype(dtype).itemsize} bytes of stack" in text
    declared = re.search(r"_forward\(.*\n{\n    \w+ a\[(\d+)\], b\[(\d+)\];", text)
    assert declared.groups() == ("22", "17")


def test_equal_networks_give_equal_bytes(tmp_path):
    for i in range(2):
        network("all", np.float32).to_c(tmp_path / f"{i}.c")
    assert (tmp_path / "0.c").read_bytes() == (tmp_path / "1.c").read_bytes()


def test_the_mode_of_the_network_does_not_matter(tmp_path):
    mlp = network("batch norm", np.float32)
    for i in range(2):
        mlp.to_c(tmp_path / f"{i}.c")
        mlp.eval()
    assert (tmp_path / "0.c").read_bytes() == (tmp_path / "1.c").read_bytes()


@needs_compiler
@pytest.mark.parametrize("name", ["real", "net_net", "NET", "f", "_1", "main", "double"])
def test_any_identifier_is_a_name(name, tmp_path):
    mlp = network("embeddings", np.float32)
    assert_close(InC(mlp, tmp_path, name).outputs(rows(mlp)), mlp._outputs(rows(mlp)), 1e-6)
    assert f"#ifdef {name.upper()}_MAIN" in (tmp_path / f"{name}.c").read_text()


@pytest.mark.parametrize("name", ["", "1st", "my-net", "net.c", "nét", "a b", "net\n", None])
def test_names_that_are_none(name, tmp_path):
    with pytest.raises(ValueError, match="name must be an identifier of C, got "):
        network("plain", np.float32).to_c(tmp_path / "net.c", name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda mlp: mlp.linear_layers[1].W.fill(np.nan), "w2"),
        (lambda mlp: mlp.linear_layers[0].b.fill(np.inf), "b1"),
        (lambda mlp: mlp.linear_layers[2].W.fill(3e38), "w3"),
    ],
)
def test_numbers_that_are_not_finite(change, what, tmp_path):
    """Also where the factors of batch norm make them so."""
    mlp = network("batch norm", np.float32)
    mlp.bn_layers[2].gamma[:] = 100
    change(mlp)
    with pytest.raises(ValueError, match=f"must be finite, got others in {what}"):
        mlp.to_c(tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_activations_of_a_user_s_own_are_refused(tmp_path):
    mlp = build([5, 4, 3], [ReLU, lambda: Activation.of(lambda z: z * z, lambda z: 2 * z)])
    with pytest.raises(ValueError, match=r"own activations .*, got activations\[1\], Activation"):
        mlp.to_c(tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing.net\.c: the folder .* does not exist"):
        network("plain", np.float32).to_c(tmp_path / "missing" / "net.c")


@needs_compiler
@pytest.mark.long
def test_a_large_network(tmp_path):
    """784-512-512-10: 670,000 numbers."""
    mlp = build([784, 512, 512, 10], dtype=np.float32)
    x = rows(mlp, 1000)
    assert_same_outputs(mlp, tmp_path, x)


@needs_compiler
@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(networks())
def test_many_networks(mlp):
    with tempfile.TemporaryDirectory() as folder:
        assert_same_outputs(mlp, folder, rows(mlp))
