"""What the pages show is so: their programs run, and their commands have the options they use."""

import contextlib
import io
import os
import re
import shlex

import pytest

import fastmlp
from tests.pages import PIECE, blocks, pages
from tests.processes import ROOT
from tests.tiny_mnist import TinySet

for package in ("sklearn", "pandas", "pyarrow", "onnxruntime", "loky", "distributed"):
    pytest.importorskip(package, reason="the pages use what the extra test brings")
typer = pytest.importorskip("typer", reason="the pages use the command")

PAGES = pages()
SHELL = "", "sh", "bash", "console"
every_page = pytest.mark.parametrize("path", PAGES)
# It is read as plain text, too, and has no comments for tests.
SETUP = {
    "README.md": """
import numpy as np
import pandas as pd
from fastmlp.callbacks import Checkpoint

X, y = np.random.default_rng(0).standard_normal((120, 5)), np.arange(120) % 2
frame = pd.DataFrame(X[:, :2], columns=["age", "height"]).assign(job=np.where(y, "baker", "smith"))
x, labels = X, y


def network():
    layers = [ReLU(), Identity()]
    return MLP(5, 2, [8], layers, he_normal(0), zeros, SoftmaxCrossEntropy(), lr=0.1)
"""
}


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A folder of its own, where MNIST is small; what programs set is as before afterwards."""
    data, home = tmp_path / "data", tmp_path / "home"
    TinySet(monkeypatch, side=28).write(data)
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("FASTMLP_DATA", str(data))
    environment, threads = dict(os.environ), fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


@every_page
def test_no_block_is_overlooked(path):
    fences = re.findall(r"^ *```+\w*$", PAGES[path], re.MULTILINE)
    directives = re.findall(r"^```\{\w+\}", PAGES[path], re.MULTILINE)
    shown = [block for block in blocks(PAGES[path]) if block.language != "hidden"]
    assert len(fences) + len(directives) == 2 * (len(shown) + len(directives))


@every_page
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer. Maximum iterations")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
def test_the_programs_run(path, at_home):
    names = {"__name__": "page"}
    exec(SETUP.get(path, ""), names)
    for block in blocks(PAGES[path]):
        if block.language in ("python", "hidden") and block.reason is None:
            program = "\n" * (block.line - 1) + block.text
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(program, path, "exec"), names)
            assert set(block.said()) <= set(output.getvalue().splitlines()), output.getvalue()


@pytest.mark.parametrize(
    ("path", "block"),
    [
        pytest.param(path, block, id=f"{path}:{block.line}")
        for path, text in PAGES.items()
        for block in blocks(text)
        if block.reason is not None
    ],
)
def test_what_is_not_run(path, block):
    pytest.skip(block.reason)


def commands_of(text):
    """The arguments of the `fastmlp` commands in a page's blocks and in its sentences."""
    shell = [b.text.replace("\\\n", " ") for b in blocks(text) if b.language in SHELL]
    prose = PIECE.sub("", text)
    lines = [*"\n".join(shell).splitlines(), *re.findall(r"`(fastmlp [^`]*)`", prose)]
    for line in lines:
        before, found, command = line.partition("fastmlp ")
        if found and not re.search(r"[\w.'\"-]$", before):
            yield shlex.split(re.split(r" [|&>;]", command)[0], comments=True)


def test_commands_are_found():
    text = (
        "```sh\nmpiexec -n 2 fastmlp train x --lr 1 | tee log\n```\n`fastmlp sweep`, fastmlp it\n"
    )
    assert [*commands_of(text)] == [["train", "x", "--lr", "1"], ["sweep"]]


def parse(command, arguments):
    """Raise an error of click's unless the command, or one of its own commands, knows them."""
    context = command.make_context("fastmlp", [], resilient_parsing=True)
    context.resilient_parsing = False
    inner = getattr(command, "commands", None)
    if inner and arguments[0] in inner:
        parse(inner[arguments[0]], arguments[1:])
    else:
        _, rest, _ = command.make_parser(context).parse_args(list(arguments))
        assert not inner or not rest, f"no such command: {rest[0]}"


@every_page
def test_the_commands_have_their_options(path):
    from fastmlp._cli.commands import app

    for arguments in commands_of(PAGES[path]):
        parse(typer.main.get_command(app), arguments)


@every_page
def test_links_lead_to_files_of_the_repository(path):
    """The site's own are looked at where it is built; here, those of who reads the files."""
    prose = PIECE.sub("", PAGES[path])
    for target in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", prose):
        file = (ROOT / path).parent / target
        assert file.is_file(), target
        assert (ROOT / "docs" / "reference") not in file.resolve().parents, target
