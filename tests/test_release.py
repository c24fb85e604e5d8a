"""What a release is made of: its version, its wheel, licences, and the pages around it."""

import re
import tomllib
from importlib import metadata

import pytest

import fastmlp
from tests.processes import ROOT, output_of
from tools import licences, wheel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def loaded(name):
    yaml = pytest.importorskip("yaml", reason="comes with packages of the extra test")
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_version_is_the_installation_s():
    try:
        expected = metadata.version("fastmlp")
    except metadata.PackageNotFoundError:
        expected = "0+unknown"
    assert fastmlp.__version__ == expected


def test_a_clone_that_is_not_installed_has_a_version():
    program = """
from importlib import metadata

def version(name):
    raise metadata.PackageNotFoundError(name)

metadata.version = version
import fastmlp
print(fastmlp.__version__)
"""
    assert output_of("-c", program) == "0+unknown\n"


def test_importing_the_package_does_not_look_for_its_version():
    """That would read its metadata before Ctrl-C is answered."""
    program = "import sys, fastmlp; print('fastmlp._version' in sys.modules)"
    assert output_of("-c", program) == "False\n"


# Wheels


def whole():
    names = [*wheel.NEEDED, *(f"fastmlp-1.dist-info/{name}" for name in wheel.LICENCES)]
    return dict.fromkeys(names, b"")


def test_a_wheel_with_everything():
    assert list(wheel.complaints(whole(), whole())) == []


@pytest.mark.parametrize("name", whole())
def test_a_wheel_that_lacks_something(name):
    files = whole()
    del files[name]
    (complaint,) = wheel.complaints(files, files)
    assert complaint == f"{name.removeprefix('fastmlp-1.dist-info/')} is missing"


def test_a_wheel_with_tests():
    files = whole() | {"tests/test_mlp.py": b""}
    assert list(wheel.complaints(files, files)) == ["tests/test_mlp.py should not be there"]


def test_a_wheel_of_other_files():
    files, others = whole(), whole()
    files["fastmlp/py.typed"], others["fastmlp/more.py"] = b"1", b""
    complaints = list(wheel.complaints(files, others))
    assert complaints == ["fastmlp/more.py differs", "fastmlp/py.typed differs"]


# Licences


def test_every_dependency_s_licence_is_listed():
    rows = licences.rows(licences.PAGE.read_text(encoding="utf-8"))
    assert rows.keys() - {"package"} == licences.wanted().keys()
    assert "not known" not in rows.values()


def test_dependencies_are_those_of_all_extras():
    names = licences.wanted()
    assert (names["numpy"], names["typer"], names["rich"]) == ("required", "cli", "cli, bench")
    assert not any(re.search(r"[^\w-]", name) for name in names)
    for requirements in PROJECT["optional-dependencies"].values():
        assert all(text.startswith((*names, "fastmlp[")) for text in requirements)


OSI = "Classifier: License :: OSI Approved"


@pytest.mark.parametrize(("fields", "said"), [
    ("License-Expression: MIT\nLicense: other\n", "MIT"),
    ("License: BSD\n", "BSD"),
    (f"License: A text\n        of lines\n{OSI} :: X\n", "X"),
    (f"License: A text\n        of lines\n{OSI}\n", "A text"),
    (f"{OSI} :: X\n{OSI} :: Y\n", "X, Y"),
    ("Classifier: Topic :: Z\n", None),
])  # fmt: skip
def test_where_a_licence_is_said(fields, said, tmp_path):
    """In metadata as they are installed."""
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{fields}")
    assert licences.licence_of(metadata.PathDistribution(tmp_path).metadata) == said


def test_a_package_that_is_not_here_keeps_its_line(monkeypatch):
    monkeypatch.setattr(licences, "wanted", lambda: {"nothing-such": "extra", "other-such": "x"})
    page = "| nothing-such | earlier | MIT |\n"
    assert list(licences.lines(page)) == [
        "| nothing-such | extra | MIT |", "| other-such | x | not known |",
    ]  # fmt: skip


# Pages and forms


def test_the_citation_has_what_the_format_asks_for():
    """Citation File Format 1.2.0, its required keys and those used here."""
    citation = loaded("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation.keys() <= {
        "cff-version", "message", "title", "authors", "type", "abstract", "license",
        "repository-code", "keywords",
    }  # fmt: skip
    assert citation["type"] in ("software", "dataset")
    assert citation["license"] == PROJECT["license"]
    assert all(author.keys() == {"name"} for author in citation["authors"])


@pytest.mark.parametrize("name", ["bug", "slow", "idea"])
def test_forms_of_issues(name):
    """GitHub's syntax for issue forms: what it asks for, and labels for what is filled in."""
    form = loaded(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert fields
    assert len({part["id"] for part in fields}) == len(fields)
    assert all(part["attributes"]["label"] for part in fields)


def test_continuous_integration_covers_the_versions_of_python():
    jobs = loaded(".github/workflows/ci.yml")["jobs"]
    (first,) = [step["with"] for step in jobs["all"]["steps"] if "python" in step.get("uses", "")]
    tested = [first["python-version"], *jobs["tests"]["strategy"]["matrix"]["python"]]
    classifier = "Programming Language :: Python :: 3."
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if classifier in text]
    assert tested == named
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert {"run": ".ci/run"} in jobs["all"]["steps"]


def test_the_workflow_runs_the_readme_s_command():
    (command,) = re.findall(
        r"<!-- test-command -->\n```sh\n(.*)\n```", (ROOT / "README.md").read_text(encoding="utf-8")
    )
    steps = loaded(".github/workflows/ci.yml")["jobs"]["tests"]["steps"]
    assert steps[-1] == {"run": command}


def test_the_changelog_begins_with_what_is_not_released():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections[0] == "[Unreleased]"
    parts = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert parts <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
