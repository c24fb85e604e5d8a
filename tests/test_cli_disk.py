"""Errors of the disk: one line, which names the file, and exit status 1."""

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, recipes
from fastmlp._files import in_words, naming
from fastmlp.recipes import _report
from fastmlp.recipes._experiment import Measure, Outcome, Recipe
from fastmlp.recipes._figures import LOSS, Line, Panel, draw
from tests.command_line import MODEL, RESULTS, files

pytestmark = pytest.mark.usefixtures("command")

QUICK = "train digits --hidden none --no-batchnorm --epochs 1 --out results"
FULL = "No space left on device"

on_a_full_disk = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="this system has no /dev/full, a disk that is full"
)


def fill(*arguments, **options):
    """Take the place of what writes: the system's error, which names no file."""
    raise OSError(errno.ENOSPC, FULL)


def told(errors, path, what=FULL):
    """Whether that one line is all that was said."""
    return errors == f"fastmlp: {path}: {what}\n"


# Results that cannot be written


def test_a_disk_too_full_for_the_model(command, monkeypatch):
    monkeypatch.setattr(os, "fsync", fill)
    status, output, errors = command(QUICK)
    assert status == 1
    assert told(errors, os.path.join("results", "model.safetensors"))
    assert "accuracy" not in output
    assert files("results") == set()


@on_a_full_disk
@pytest.mark.parametrize("name", sorted(RESULTS - {"model.safetensors"}))
def test_a_disk_too_full_for_what_follows(name, command):
    Path("results").mkdir()
    Path("results", name).symlink_to("/dev/full")
    status, _, errors = command(QUICK)
    assert status == 1
    assert told(errors, os.path.join("results", name))


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_a_folder_in_place_of_a_result(name, command):
    Path("results", name).mkdir(parents=True)
    status, _, errors = command(QUICK)
    assert status == 1
    path = re.escape(os.path.join("results", name))
    assert re.fullmatch(rf"fastmlp: {path}: (Is a directory|Permission denied)\n", errors)


@pytest.mark.parametrize(("option", "folder"), [("--out gone", "gone"), ("", "runs/digits")])
def test_a_folder_for_results_that_vanishes(option, folder, command, monkeypatch):
    fit = MLP.fit

    def fit_and_remove(*arguments, **options):
        history = fit(*arguments, **options)
        shutil.rmtree(folder, ignore_errors=True)
        return history

    monkeypatch.setattr(MLP, "fit", fit_and_remove)
    status, output, errors = command(f"train digits --hidden none --epochs 1 {option}")
    assert status == 1
    path = re.escape(str(Path(folder, "model.safetensors")))
    assert re.fullmatch(rf"fastmlp: {path}: .*\n", errors)
    assert "accuracy" not in output


# Results of `reproduce`


@pytest.fixture
def tiny(monkeypatch):
    """A recipe that takes no time, and a page for it."""

    def experiment(setting):
        picture = draw(setting.out / "curve.png", "tiny", Panel(LOSS, [Line("training", [2, 1])]))
        return Outcome("tiny", "2-3-2", [Measure("loss", None, 1.0)], [picture], 1.0, None)

    monkeypatch.setattr(recipes, "RECIPES", (Recipe("tiny", "nothing", (experiment,)),))
    Path("page.md").write_text("\n".join(_report.markers("tiny")), encoding="utf-8")


@on_a_full_disk
@pytest.mark.parametrize("name", ["curve.png", "report.json", "report.md"])
def test_a_disk_too_full_for_a_report(name, tiny, command):
    Path("results").mkdir()
    Path("results", name).symlink_to("/dev/full")
    status, _, errors = command("reproduce tiny --out results")
    assert status == 1
    assert told(errors, os.path.join("results", name))


def test_a_disk_too_full_for_the_page(tiny, command, monkeypatch):
    write = Path.write_text

    def write_unless_page(path, *arguments, **options):
        return (fill if path.name == "page.md" else write)(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", write_unless_page)
    status, _, errors = command("reproduce tiny --page page.md")
    assert status == 1
    assert told(errors, "page.md")


def test_a_page_that_is_no_text(tiny, command):
    Path("page.md").write_bytes(b"\xff\xfe")
    status, _, errors = command("reproduce tiny --page page.md")
    assert status == 2
    assert re.fullmatch(r"fastmlp: .*--page.*page\.md must be UTF-8 text: .*\n", errors)


# Files that cannot be read


def test_a_folder_in_place_of_data(command):
    Path("data.npz").mkdir()
    status, _, errors = command("train data.npz")
    assert status == 1
    assert re.fullmatch(r"fastmlp: data\.npz: cannot be read as \.npz: .*\n", errors)


def test_data_that_cannot_be_read(command, monkeypatch):
    np.savez("data.npz", x=np.zeros((9, 2)), y=np.arange(9))
    for place in ("zipfile.ZipFile", "zipfile.ZipFile.open"):
        with monkeypatch.context() as patch:
            patch.setattr(place, fill)
            status, _, errors = command("train data.npz")
        assert status == 1
        assert re.fullmatch(rf"fastmlp: data\.npz: .*{FULL}\n", errors)


def test_a_model_that_cannot_be_read(command, monkeypatch):
    command(QUICK.replace("results", str(Path(MODEL).parent)))
    np.savez("rows.npz", x=np.zeros((1, 64)))
    monkeypatch.setattr(MLP, "load", fill)
    status, _, errors = command(f"predict {MODEL} rows.npz")
    assert status == 1
    assert told(errors, MODEL)


# The words


def raised(error):
    with pytest.raises(OSError, match=r".") as caught, naming(Path("a", "b")):
        raise error
    return caught.value


PATH = os.path.join("a", "b")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, FULL), f"{PATH}: {FULL}"),
        (OSError("encoder error -2"), f"{PATH}: encoder error -2"),
        (OSError(f"{PATH} is odd"), f"{PATH} is odd"),
        (OSError(errno.ENOSPC, FULL, "other"), f"other: {FULL}"),
        (OSError(errno.ENOSPC, FULL, "other", None, PATH), f"{PATH}: {FULL}"),
    ],
)
def test_naming(error, words):
    """The name is added where there is none; that of another file stays."""
    found = raised(error)
    assert in_words(found) == words
    assert found.errno == error.errno
