"""The rules of the house: what every kernel must have, who imports what, how long files are."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from benchmarks import cases
from fastmlp import layers
from fastmlp.kernels.activation import ACTIVATIONS
from tests import reference
from tests.processes import ROOT

PACKAGE = Path(fastmlp.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 450


def by_path(path):
    return str(path.relative_to(ROOT))


every_file = pytest.mark.parametrize("path", SOURCES, ids=by_path)


def test_public_kernels_are_those_of_the_documented_modules():
    """The search behind the table of cases finds them: finding none, it would demand none."""
    assert set(cases.PUBLIC_KERNELS) >= {
        "activation_backward", "activation_forward", "batchnorm_backward", "batchnorm_forward",
        "batchnorm_inference", "batchnorm_running", "embed_backward", "embed_forward",
        "hold", "linear_backward", "linear_forward",
        "loss_backward", "loss_forward", "mix_gradient", "predicted_values", "row_errors",
        "scale_gradient", "softmax", "update_parameters",
    }  # fmt: skip


def test_every_public_kernel_has_a_case():
    assert {name.partition("-")[0] for name in cases.KERNELS} == set(cases.PUBLIC_KERNELS)


def test_a_kernel_without_a_case_is_noticed():
    with pytest.raises(LookupError, match=r"kernels without a case.*new_kernel"):
        cases._require("kernels", {"softmax", "new_kernel"}, cases.KERNELS)


@pytest.mark.parametrize("name", cases.KERNELS)
def test_every_case_has_a_reference(name):
    """One array for each output; ``test_kernels`` compares them."""
    case = cases.KERNELS[name]
    arguments = case.arguments(3, 2, np.float64)
    expected = case.reference(*arguments)
    assert len(expected) == len(case.outputs) > 0


@pytest.mark.parametrize("name", cases.PUBLIC_KERNELS)
def test_every_public_kernel_is_documented(name):
    """The shapes of its arrays, too."""
    text = cases.PUBLIC_KERNELS[name].__doc__
    assert text
    assert "(N," in text or "(n,)" in text or "(P,)" in text or "(F,)" in text


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_a_layer_and_a_reference(name):
    layer = layers.activation_named(name)
    assert layer.name == name
    assert type(layer).__name__ in fastmlp.__all__
    z = np.array([-1.5, 0.5])
    function, derivative = reference.ACTIVATIONS[name]
    np.testing.assert_allclose(layer.forward(z), function(z), rtol=1e-14)
    np.testing.assert_allclose(layer.derivative(), derivative(layer.state), rtol=1e-14)
    np.testing.assert_allclose(layer.derivative(), reference.SLOPES[name](z), rtol=1e-14)


def test_activation_codes_differ():
    assert len({formula.code for formula in ACTIVATIONS.values()}) == len(ACTIVATIONS)


@every_file
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


def imported_names(path):
    """Top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


@every_file
def test_numba_is_imported_only_by_the_private_kernel_modules(path):
    policy = path.parent == PACKAGE / "kernels" and path.name.startswith("_")
    assert policy or not {"numba", "llvmlite"} & set(imported_names(path))


@pytest.mark.parametrize("path", sorted((PACKAGE / "layers").glob("*.py")), ids=by_path)
def test_layers_do_no_arithmetic(path):
    """Neither loops over numbers nor products of arrays: that is what kernels are for."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.While), f"line {node.lineno}"
        assert not isinstance(node, ast.BinOp | ast.AugAssign) or not isinstance(
            node.op, ast.MatMult | ast.Pow
        ), f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in {"dot", "matmul", "einsum", "exp"}, f"line {node.lineno}"


def test_imports_point_one_way():
    """The contracts in pyproject.toml, as import-linter judges them."""
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_the_package_takes_numpy_and_numba_alone():
    """With all its public names; optional packages are imported where they are used."""
    program = (
        "import sys; from fastmlp import *; "
        "print([name for name in ('rich', 'typer', 'pooch', 'tqdm', 'safetensors', 'matplotlib', "
        "'PIL', 'sklearn', 'torch', 'pandas', 'pyarrow', 'tensorboardX', 'onnx', 'cloudpickle', "
        "'distributed', 'loky', 'mpi4py', 'optuna') "
        "if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
        timeout=120,
    )  # fmt: skip
    assert result.stdout == "[]\n"
