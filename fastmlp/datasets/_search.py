"""Where data sets are looked for."""

import os
import sys
from pathlib import Path

from ._errors import DatasetError

DataDir = str | os.PathLike[str] | None


def cache_dir() -> Path:
    """The user's cache folder of fastmlp, in XDG_CACHE_HOME where that is set; it may not exist."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen, "fastmlp")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastmlp"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local, "fastmlp", "Cache")
    return Path.home() / ".cache" / "fastmlp"


def folders(name: str, data_dir: DataDir) -> list[Path]:
    """The folders to look in, in order: in each root the set's own folder, then the root itself.

    Raises DatasetError when data_dir is given and is no folder.
    """
    roots = []
    if data_dir is not None:
        if not os.path.isdir(data_dir):
            raise DatasetError(f"data_dir must be a folder, got {os.fspath(data_dir)!r}")
        roots.append(Path(data_dir))
    if environment := os.environ.get("FASTMLP_DATA"):
        roots.append(Path(environment))
    roots.append(cache_dir())
    return [folder for root in roots for folder in (root / name, root)]
