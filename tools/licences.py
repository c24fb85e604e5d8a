"""Write docs/licences.md: the licences of the packages that pyproject.toml asks for.

    python -m tools.licences

Most packages say their licence in their metadata. Of one that does not, or that is not installed
here, the line stays that is there already: so a line may be put in by hand.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "licences.md"

_HEAD = """# Licences of dependencies

fastmlp itself is under the MIT licence, its digits under [CC BY 4.0](../fastmlp/data/NOTICE.md).
None of the packages below is part of its wheel: they are installed beside it, the required ones
always, the others with an extra. What these install in turn is not listed, but for llvmlite.

`python -m tools.licences` writes this page from the packages' metadata.

| package | wanted by | licence |
| --- | --- | --- |
"""
# Numba's other half.
_ALSO = {"llvmlite": "numba"}
_CLASSIFIERS = "License :: OSI Approved :: "


def wanted() -> dict[str, str]:
    """Which packages pyproject.toml asks for, each with the extras that do."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"required": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {}
    for group, requirements in groups.items():
        for requirement in requirements:
            name = re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0]
            if name != project["name"]:
                found.setdefault(name, []).append(group)
    return {name: ", ".join(extras) for name, extras in found.items()} | _ALSO


def licence_of(about: metadata.PackageMetadata) -> str | None:
    """By PEP 639's expression, the classifiers, or a field's first line; None where none says."""
    if said := about.get("License-Expression"):
        return str(said)
    classifiers = about.get_all("Classifier") or []
    names = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith(_CLASSIFIERS)]
    first, _, rest = str(about.get("License") or "").strip().partition("\n")
    if names and (rest or not first):
        return ", ".join(names)
    return first.strip() or None


def rows(page: str) -> dict[str, str]:
    """The licence of each package that a page names."""
    return dict(re.findall(r"^\| ([\w-]*\w) \| .* \| (.+) \|$", page, re.MULTILINE))


def lines(page: str) -> Iterator[str]:
    """The rows of the table; page : as it is, for what is not installed here."""
    kept = rows(page)
    for name, extras in sorted(wanted().items(), key=lambda item: item[0].lower()):
        licence = _installed_licence(name) or kept.get(name, "not known")
        yield f"| {name} | {extras} | {licence} |"


def _installed_licence(name: str) -> str | None:
    try:
        return licence_of(metadata.metadata(name))
    except metadata.PackageNotFoundError:
        return None


def main() -> None:
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.write_text(_HEAD + "\n".join(lines(page)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
