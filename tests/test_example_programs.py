"""The examples that end by themselves, each run in a fresh folder, and the notebook."""

import numpy as np
import pytest

from fastmlp import datasets
from tests.examples import FOLDER, example

# The server has tests of its own.
PROGRAMS = "mnist", "tabular", "learning_rates", "custom_activation"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_example_is_tested_and_a_page_long():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*PROGRAMS, "serve"}
    assert {path.name for path in FOLDER.glob("*.ipynb")} == {"notebook.ipynb"}
    for name in PROGRAMS:
        assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 60, name


def test_mnist(folder, capsys):
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    pytest.importorskip("matplotlib", reason="figures need the extra plot")
    assert example("mnist").main("digits") > 0.95
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "curves.png"}
    assert "10/10" in capsys.readouterr().out


def test_without_mnist_it_names_the_digits(monkeypatch):
    pytest.importorskip("matplotlib", reason="figures need the extra plot")

    def load(name):
        raise datasets.DatasetNotFoundError(f"no {name} here")

    monkeypatch.setattr(datasets, "load", load)
    hint = r"^no mnist here\nthe digits are in the package: python examples/mnist\.py digits$"
    with pytest.raises(SystemExit, match=hint):
        example("mnist").main()


def test_tabular():
    pytest.importorskip("sklearn", reason="estimators need the extra sklearn")
    pytest.importorskip("pandas", reason="tables need the extra tables")
    program = example("tabular")
    table, _ = program.untidy_table()
    assert table["mean texture"].isna().any()
    assert set(table["mean area"]) == {"small", "middle", "large"}
    found = program.main()
    assert found.keys() == {"RealMLP", "pipeline and MLP"}
    assert min(found.values()) > 0.9


def test_learning_rates(folder):
    """The best is neither the smallest nor one that makes a training diverge."""
    pytest.importorskip("matplotlib", reason="figures need the extra plot")
    program = example("learning_rates")
    best = program.main(epochs=4)
    losses = program.losses(epochs=4)
    assert 0.01 < best < 5
    assert best == program.RATES[losses.mean(axis=1).argmin()]
    assert losses.shape == (9, 3)
    assert losses[0].mean() > 3 * losses.min()
    assert losses[-1].mean() > 3 * losses.min()
    assert (folder / "learning_rates.png").stat().st_size > 1000


def test_custom_activation():
    program = example("custom_activation")
    found = program.main(epochs=10)
    assert found.keys() == {"squared ReLU", "ReLU"}
    assert min(found.values()) > 0.9


def test_a_wrong_slope_is_noticed():
    program = example("custom_activation")
    wrong = program.Activation.of(program.squared_relu, lambda z: 1.9 * z if z > 0 else 0.0)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        program.check_slope(wrong)


def test_the_notebook(folder):
    """All cells, in a kernel; what is committed has no outputs, and nothing of a machine."""
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")
    nbformat = pytest.importorskip("nbformat", reason="notebooks are run by nbclient")
    pytest.importorskip("ipykernel", reason="notebooks need a kernel")
    pytest.importorskip("matplotlib", reason="figures need the extra plot")
    notebook = nbformat.read(FOLDER / "notebook.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": folder}}
    ).execute()
    pictures = [
        output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 3
    last = "".join(output.get("text", "") for output in cells[-1].outputs)
    assert np.isclose(float(last.split()[-1]), 1, atol=0.1)
    assert (folder / "digits.safetensors").exists()
