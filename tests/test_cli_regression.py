"""`fastmlp train --task regression`: targets in their own units, in tables and archives."""

import re

import numpy as np
import pytest

from fastmlp import MLP

pytestmark = pytest.mark.usefixtures("command")
pd = pytest.importorskip("pandas", reason="tables need the extra tables")

ROWS = 400


@pytest.fixture
def table(command):
    """houses.csv: a price in the hundred thousands, years, and a text that tells."""
    rng = np.random.default_rng(0)
    area, old = rng.uniform(30, 200, ROWS), rng.integers(0, 2, ROWS)
    price = 100_000 + 3_000 * area - 50_000 * old
    frame = pd.DataFrame({
        "area": area, "kind": np.where(old, "old", "new"), "price": price, "years": 40 * old + 2,
    })  # fmt: skip
    frame.to_csv("houses.csv", index=False)
    return frame


def figure(name, output):
    return float(re.search(rf"{name} +([-\d.e+]+)", output)[1])


def test_a_price_is_learnt_and_predicted_in_its_own_units(table, command):
    line = "train houses.csv --target price --task regression --optimizer adamw --lr 0.01"
    status, output, errors = command(f"{line} --lr-schedule cosine --dropout 0.05 --epochs 30")
    assert (status, errors) == (0, "")
    assert "mae" in output
    deviation = table.price.iloc[:].std()
    told = float(re.search(r"in standard deviations, of ([\d.e+]+)", output)[1])
    assert told == pytest.approx(deviation, rel=0.1)
    assert figure("test R²", output) > 0.9
    assert 0 < figure("test mean absolute error", output) < 0.3 * deviation
    rms = figure("test root mean squared error", output)
    assert figure("test mean absolute error", output) <= rms < 0.3 * deviation
    mlp = MLP.load("runs/houses/model.safetensors")
    x = np.column_stack([table.area, table.kind == "new", table.kind == "old", table.years])
    assert mlp.score(x, table.price) > 0.9
    assert mlp.predict(x).mean() == pytest.approx(table.price.mean(), rel=0.05)
    curves = (pd.read_csv("runs/houses/history.csv")).val_r2
    assert curves.iloc[-1] > 0.9


def test_several_columns_are_several_outputs(table, command):
    line = "train houses.csv --target price,years --task regression --epochs 1 --out here"
    status, output, _ = command(line)
    assert status == 0
    assert "2 targets, standardised" in output
    assert MLP.load("here/model.safetensors").output_size == 2


def test_an_archive_and_its_predictions(command):
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    np.savez("line.npz", x=x, y=7 + x @ [1.0, -2.0, 0.5])
    status, output, _ = command(
        "train line.npz --task regression --hidden none --no-batchnorm --out line --epochs 30"
    )
    assert status == 0
    assert figure("test R²", output) > 0.99
    status, output, _ = command("predict line/model.safetensors line.npz")
    values = [float(row.split(": ")[1]) for row in output.splitlines()]
    np.testing.assert_allclose(values, 7 + x @ [1.0, -2.0, 0.5], atol=0.3)


def test_a_target_that_never_changes_is_no_division_by_zero(command):
    np.savez("flat.npz", x=np.arange(60.0).reshape(20, 3), y=np.full(20, 3.5))
    status, _, _ = command("train flat.npz --task regression --hidden none --epochs 2 --out flat")
    assert status == 0
    assert np.isfinite(MLP.load("flat/model.safetensors").predict(np.zeros((1, 3)))).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train mnist --task regression", "--task: regression is for a file with targets"),
        ("train --task regression", "--task: regression is for a file with targets"),
        ("train houses.csv --task regresion --target price", "did you mean 'regression'"),
        ("train houses.csv --task regression --target kind", "kind"),
        ("train houses.csv --task regression", "must name the column of houses.csv with the targ"),
        ("train houses.csv --task regression --target price --dropout 1", "--dropout"),
    ],
)
def test_bad_usage(line, message, table, command):
    status, output, errors = command(line)
    assert status in (1, 2)
    assert not output
    assert message in errors
    assert errors.count("\n") == 1
