"""The `fastmlp` command besides training: prediction, lists, help, and wrong usage."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, BinaryCrossEntropy, datasets
from tests.command_line import MODEL, files, start
from tests.networks import build

# Prediction


@pytest.fixture
def model(command):
    command("train digits --epochs 9")
    return MLP.load(MODEL)


@pytest.fixture
def seven():
    """The (8, 8) uint8 image of a seven, light on dark, of the test part."""
    digits = datasets.load("digits")
    return digits.test_x[digits.test_y == 7][0].reshape(8, 8)


def verdict(model, image):
    """What predict says of an image, after its name."""
    probabilities = model.predict_proba(image.reshape(1, -1))[0]
    return f"{probabilities.argmax()} ({100 * probabilities.max():.1f} %)"


def pictures(seven):
    """The same image in every form that predict takes, by file name."""
    from PIL import Image

    gray = Image.fromarray(seven)
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[..., :3], clear[..., 3] = 255, seven
    return {
        "gray.png": gray,
        "colour.png": gray.convert("RGB"),
        "palette.png": gray.convert("P"),
        "transparent.png": Image.fromarray(clear),
        "deep.png": Image.fromarray(seven.astype(np.uint16) * 257),
    }


@pytest.mark.parametrize(
    "name", ["gray.png", "colour.png", "palette.png", "transparent.png", "deep.png"]
)
def test_predict_an_image(name, model, seven, command):
    pictures(seven)[name].save(name)
    assert command(f"predict {MODEL} {name}") == (0, f"{name}: {verdict(model, seven)}\n", "")


def test_predict_dark_on_light(model, seven, command):
    from PIL import Image

    Image.fromarray(255 - seven).save("dark.png")
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 3] = seven
    Image.fromarray(ink).save("ink.png")
    expected = "".join(f"{name}: {verdict(model, seven)}\n" for name in ("dark.png", "ink.png"))
    assert command(f"predict {MODEL} --invert dark.png ink.png") == (0, expected, "")


def test_predict_scales_an_image_and_says_so(model, seven, command):
    from PIL import Image

    Image.fromarray(seven).resize((24, 16), Image.Resampling.NEAREST).save("large.png")
    status, output, errors = command(f"predict {MODEL} large.png")
    assert (status, errors) == (0, "large.png: scaled from 24×16 to 8×8 pixels\n")
    label, _ = verdict(model, seven).split(maxsplit=1)
    assert output.startswith(f"large.png: {label} (")


def test_predict_an_archive(model, command):
    digits = datasets.load("digits")
    np.savez("rows.npz", x=digits.test_x[:5].reshape(5, 8, 8))
    status, output, _ = command(f"predict {MODEL} rows.npz")
    assert status == 0
    expected = model.predict(digits.test_x[:5])
    for row, (line, label) in enumerate(zip(output.splitlines(), expected, strict=True)):
        assert line.startswith(f"rows.npz[{row}]: {label} (")


def test_predict_tells_every_label_where_a_sample_may_have_several(command):
    mlp = build([5, 4, 3])
    mlp.criterion = BinaryCrossEntropy()
    mlp.save("labels.safetensors")
    x = np.random.default_rng(0).standard_normal((4, 5))
    np.savez("rows.npz", x=x)
    status, output, _ = command("predict labels.safetensors rows.npz")
    assert status == 0
    shares = [re.fullmatch(r"rows\.npz\[\d\]: (.*) %", line)[1] for line in output.splitlines()]
    expected = 100 / (1 + np.exp(-mlp.forward(x)))
    found = np.array([[float(share) for share in line.split()] for line in shares])
    np.testing.assert_allclose(found, expected, atol=0.0501)


def test_predict_refuses_what_does_not_fit(command, seven):
    pictures(seven)["gray.png"].save("gray.png")
    command("train digits --epochs 1")
    command("train synth --epochs 1")
    Path("text.png").write_text("no image")
    Path("cut.png").write_bytes(Path("gray.png").read_bytes()[:60])
    np.savez("wide.npz", x=np.zeros((2, 65)))
    np.savez("other.npz", images=np.zeros((2, 64)))
    Path("cut.safetensors").write_bytes(Path(MODEL).read_bytes()[:-1])
    for arguments, message in [
        (f"{MODEL} text.png", r"text\.png: cannot be read as an image"),
        (f"{MODEL} cut.png", r"cut\.png: cannot be read as an image"),
        (f"{MODEL} wide.npz", r"wide\.npz: x must be \(N, 64\) for this network, got \(2, 65\)"),
        (f"{MODEL} other.npz", r"other\.npz: must hold the arrays x, got images"),
        ("runs/synth/model.safetensors gray.png", r"gray\.png: .*2 features.*\.npz"),
        ("cut.safetensors gray.png", r"cut\.safetensors: not a fastmlp network"),
        ("gray.png gray.png", r"gray\.png: not a fastmlp network"),
    ]:
        status, output, errors = command(f"predict {arguments}")
        assert (status, output) == (1, "")
        assert re.fullmatch(rf"fastmlp: .*{message}.*\n", errors)


# The other commands


def test_datasets_lists_what_is_where(command, tmp_path):
    folder = tmp_path / "data" / "notmnist"
    folder.mkdir(parents=True)
    (folder / "notMNIST_small.npz").touch()
    status, output, errors = command("datasets --data-dir data")
    assert (status, errors) == (0, "")
    lines = {line.split()[0]: line for line in output.splitlines()}
    assert lines.keys() == {"name", *(entry.name for entry in datasets.available())}
    assert lines["notmnist"].endswith(os.path.join("data", "notmnist", "notMNIST_small.npz"))
    assert lines["mnist"].endswith("downloaded when needed")
    assert lines["digits"].endswith("inside the package")


def test_version_and_help(command):
    assert command("--version") == (0, f"fastmlp {fastmlp.__version__}\n", "")
    for line in ("", "--help", "-h"):
        status, output, errors = command(line)
        assert (status, errors) == (0, "")
        assert all(command in output for command in ("train", "predict", "datasets"))
    status, output, _ = command("train --help")
    assert status == 0
    options = "--hidden --activation --batchnorm --no-batchnorm --epochs --batch-size --lr"
    options += " --target --lr-schedule --momentum --seed --threads --dtype --data-dir --out"
    assert all(option in output for option in options.split())


def test_a_recipe_is_a_write_up_s_alone(command):
    """What `train` takes for a data set is a preset."""
    assert "recipe" not in command("train --help")[1]
    assert "recipe" in command("reproduce --help")[1]


@pytest.mark.parametrize(
    "name", ["", "train", "predict", "inspect", "doctor", "datasets", "warmup"]
)
def test_help_in_80_columns(name, command, monkeypatch):
    """Every option's value has a name, not its type's; no description is cut short."""
    monkeypatch.setenv("COLUMNS", "80")
    _, output, _ = command(f"{name} --help")
    assert max(map(len, output.splitlines())) <= 80
    assert not re.search(r"^ +-.*<\w+>", output, re.MULTILINE)
    assert not re.search(r"\w\.\.\.$", output, re.MULTILINE)


# Wrong usage


USAGE = {
    "trian": "trian",
    "--nope": "--nope",
    "train --hiden 5": "--hiden.*--hidden",
    "train mnsit": "DATASET.*one of mnist, .*path of an .npz, .csv or .parquet file.*mnsit",
    "train digits more": "more",
    "train digits --hidden": "--hidden",
    "train digits --hidden 12,abc": "--hidden.*widths.*12,abc",
    "train digits --hidden 12,": "--hidden.*widths.*12,",
    "train digits --hidden 0": "--hidden.*widths.*0",
    "train digits --hidden 1000000": "--hidden.*widths.*1000000",
    "train digits --hidden -5": "--hidden.*widths.*-5",
    "train digits --activation swish": "--activation.*relu.*swish",
    "train digits --epochs 0": "--epochs.*at least 1.*0",
    "train digits --epochs 1.5": "--epochs.*integer",
    "train digits --batch-size 0": "--batch-size.*at least 1.*0",
    "train digits --lr nan": "--lr.*above 0.*nan",
    "train digits --lr inf": "--lr.*below.*inf",
    "train digits --lr 0": "--lr.*above 0.*0",
    "train digits --lr fast": "--lr",
    "train digits --lr-schedule cosin": "--lr-schedule.*one of constant, step, "
    "exponential, cosine, one-cycle, inverse-scaling, plateau, got 'cosin'; did you mean 'cosine'",
    "train digits --momentum 1": "--momentum.*less than 1.*1",
    "train digits --momentum nan": "--momentum.*nan",
    "train digits --seed -1": "--seed.*at least 0.*-1",
    "train digits --threads 0": "--threads.*at least 1.*0",
    "train digits --dtype int8": "--dtype.*float32 or float64.*int8",
    "train digits --compute-dtype bfloat": "--compute-dtype.*did you mean 'bfloat16'",
    "train digits --dtype float64 --compute-dtype bfloat16": "--compute-dtype.*float32.*float64",
    "warmup --compute-dtype int8": "--compute-dtype.*bfloat16.*int8",
    "train digits --data-dir missing": "--data-dir.*missing",
    "train digits --out file": "--out file",
    "predict": "MODEL",
    "predict missing.safetensors file": "MODEL.*missing.safetensors",
    "predict file": "FILE",
    "predict file missing.png": "FILE.*missing.png",
    "inspect": "MODEL",
    "inspect missing.safetensors": "MODEL.*missing.safetensors",
    "inspect .": "MODEL.*is a directory",
    "inspect file more": "more",
    "datasets more": "more",
}


@pytest.mark.parametrize(
    ("line", "place", "name"),
    [
        ("predict modle.safetensors rows.npz", "'MODEL'", "model.safetensors"),
        ("predict model.safetensors rows.npz row.npz", "'FILE", "rows.npz"),
        ("inspect {}/modle.safetensors", "'MODEL'", "model.safetensors"),
        ("export model.safetensor net.c", "'MODEL'", "model.safetensors"),
        ("sweep sweeep.toml", "'CONFIG'", "sweep.toml"),
        ("train digits --data-dir foldr", "'--data-dir'", "folder"),
        ("reproduce --page pag.md", "'--page'", "page.md"),
    ],
)
def test_a_file_that_is_not_there_is_told_with_the_nearest_name(line, place, name, command):
    Path("folder").mkdir()
    for there in ("model.safetensors", "rows.npz", "sweep.toml", "page.md"):
        Path(there).touch()
    status, output, errors = command(line.format(Path.cwd()))
    assert (status, output) == (2, "")
    pattern = rf"fastmlp: Invalid value for {place}.*: '.*' does not exist; did you mean '{name}'"
    assert re.match(pattern, errors), errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(("line", "message"), USAGE.items(), ids=USAGE)
def test_wrong_usage_is_told_in_one_line(line, message, command):
    Path("file").touch()
    status, output, errors = command(line)
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"fastmlp: .*{message}.*\n", errors)
    assert files(".") == {"file"}


@pytest.mark.parametrize("line", ["--version", "train digits"])
def test_a_number_of_threads_that_is_none(line, command):
    process = start(line, FASTMLP_NUM_THREADS="abc")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert errors == "fastmlp: FASTMLP_NUM_THREADS must be a whole number from 1, got 'abc'\n"
