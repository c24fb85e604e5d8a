"""Look into a wheel: what it must have, and what it must not.

    python -m tools.wheel WHEEL SAME

SAME is another wheel, whose files must be the same, byte by byte: one from the sdist and one from
the tree show that the sdist lacks nothing.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator

NEEDED = (
    "fastmlp/__init__.py", "fastmlp/py.typed", "fastmlp/data/digits.npz",
    "fastmlp/data/speed.json", "fastmlp/data/NOTICE.md",
)  # fmt: skip
LICENCES = "licenses/LICENSE", "licenses/fastmlp/data/NOTICE.md"


def complaints(files: dict[str, bytes], others: dict[str, bytes]) -> Iterator[str]:
    """What is wrong with the files of a wheel, beside those of the one that it must be like."""
    missing = [name for name in NEEDED if name not in files]
    missing += [end for end in LICENCES if not any(name.endswith(f"/{end}") for name in files)]
    yield from (f"{name} is missing" for name in missing)
    for name in files:
        top = name.partition("/")[0]
        if top != "fastmlp" and not top.endswith(".dist-info"):
            yield f"{name} should not be there"
    for name in sorted(files.keys() | others.keys()):
        if files.get(name) != others.get(name):
            yield f"{name} differs"


def read(path: str) -> dict[str, bytes]:
    """The content of the files in a wheel, by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


if __name__ == "__main__":
    found = list(complaints(*map(read, sys.argv[1:3])))
    print("\n".join(found) or f"{sys.argv[1]}: nothing is missing")
    sys.exit(bool(found))
