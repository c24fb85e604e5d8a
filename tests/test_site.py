"""The site: it is built without a warning, and has every public name and every command."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import types
import zlib
from pathlib import Path

import pytest

import fastmlp
from benchmarks.cases import PUBLIC_KERNELS
from tests.processes import ROOT

pytest.importorskip("sphinx", reason="the site needs the extra docs")
pytest.importorskip("pydata_sphinx_theme", reason="the site needs the extra docs")

MODULES = sorted(
    f"fastmlp.{info.name}" for info in pkgutil.iter_modules(fastmlp.__path__) if info.name[0] != "_"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the pages."""
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-d", folder / "read", ROOT / "docs", folder / "html"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def inventory(site):
    """The names of all Python objects that have a place: objects.inv, of Sphinx' version 2."""
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    entries = [line.split() for line in zlib.decompress(packed).decode().splitlines()]
    return {entry[0] for entry in entries if entry[1].startswith("py:")}


def public_names(module):
    """Those of ``__all__``; or without an underscore, if the module itself makes them."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    source = inspect.getsource(module)
    assigned = re.findall(r"^([A-Za-z]\w*)(?:: .*?)? = ", source, re.MULTILINE)
    return {
        *assigned,
        *(
            name
            for name, value in vars(module).items()
            if name[0] != "_" and getattr(value, "__module__", None) == module.__name__
        ),
    } - {name for name, value in vars(module).items() if isinstance(value, types.ModuleType)}


@pytest.mark.parametrize("name", ["fastmlp", *MODULES])
def test_every_public_name_has_its_text(inventory, name):
    module = importlib.import_module(name)
    found = {f"{name}.{each}" for each in public_names(module)}
    assert name == "fastmlp.kernels" or found
    assert found - inventory == set()


def test_every_module_has_its_text(inventory):
    assert {*MODULES} - inventory == {"fastmlp.mlp"}  # Its one class is fastmlp.MLP.


def test_every_kernel_has_its_text(inventory):
    kernels = {f"{kernel.__module__}.{name}" for name, kernel in PUBLIC_KERNELS.items()}
    assert kernels - inventory == set()


def test_methods_have_their_text(inventory):
    """Those of a network, and its attributes, from whichever class of the house they come."""
    values = {name: inspect.getattr_static(fastmlp.MLP, name) for name in dir(fastmlp.MLP)}
    described = {
        name
        for name, value in values.items()
        if name[0] != "_" and value.__doc__ not in (None, type(value).__doc__)
    }
    assert described >= {"fit", "forward", "to_onnx", "from_torch", "to_c", "parameters", "lr"}
    assert {f"fastmlp.MLP.{name}" for name in described} - inventory == set()


def test_the_command_s_page_has_every_option(site):
    typer = pytest.importorskip("typer", reason="the command needs the extra cli")
    from fastmlp._cli.commands import app

    page = (site / "reference" / "command.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    for name, command in typer.main.get_command(app).commands.items():
        assert f"fastmlp {name}" in text
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option in text, f"{name} {option}"


def test_files_of_the_repository_are_pages(site):
    """Or downloads; a link to one that a page shows leads to that page."""
    benchmarks = (site / "benchmarks.html").read_text(encoding="utf-8")
    assert "784-512-512-10 ReLU" in benchmarks
    assert 'href="measuring.html"' in benchmarks
    for page, path in (
        ("serving", "examples/serve.py"),
        ("start/index", "fastmlp/data/NOTICE.md"),
    ):
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        (download,) = re.findall(rf'href="(?:\.\./)*(_downloads/\w+/{Path(path).name})"', text)
        assert (site / download).read_bytes() == (ROOT / path).read_bytes()


def test_docstrings_of_the_house_are_marked_up(site):
    """An argument begins a line of a list, and a page that is named is a link."""
    page = (site / "reference" / "fastmlp.html").read_text(encoding="utf-8")
    terms = " ".join(re.findall(r"<dt>.*?</dt>", page))
    arguments = [name for name in inspect.signature(fastmlp.MLP.fit).parameters if name != "self"]
    described = re.findall(r"^ +(\w+) : ", fastmlp.MLP.fit.__doc__, re.MULTILINE)
    assert {*described} == {*arguments} - {"epochs"}
    for name in (*described, "output_size", "dropout_seed"):
        assert f'<span class="pre">{name}</span>' in terms, name
    assert 'href="../ranks.html"' in page


def test_formulas_are_markup(monkeypatch):
    """Browsers draw them: no script of another server is asked for."""
    from docutils.utils.math import MathError

    monkeypatch.syspath_prepend(ROOT / "docs" / "_extensions")
    mathml = importlib.import_module("mathml")
    assert "<mfrac>" in mathml.markup(r"\frac{\partial L}{\partial \texttt{delta}_1 \dots}")
    with pytest.raises(MathError, match="unknown"):
        mathml.markup(r"\unknown")


@pytest.mark.parametrize("attribute", ["href", "src"])
def test_links_lead_somewhere(site, attribute):
    """Those of the site's own. Of others the form alone: nothing is asked of the network."""
    missing, others = [], set()
    for path in site.rglob("*.html"):
        if "_static" in path.parts:
            continue
        for target in re.findall(rf'<[^>]* {attribute}="([^"]*)"', path.read_text("utf-8")):
            if re.match("https?:", target):
                others.add(target)
            if re.match("[a-z]+:|#|$", target):
                continue
            file, _, anchor = target.partition("?")[0].partition("#")
            there = (path.parent / file).resolve()
            text = there.read_text("utf-8") if anchor and there.is_file() else f'id="{anchor}"'
            if not there.is_file() or f'id="{anchor}"' not in text:
                missing.append((path.name, target))
    assert missing == []
    assert [
        link for link in others if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/\S*)?", link)
    ] == []
