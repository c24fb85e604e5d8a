"""The version: the tags of the repository give it to an installation, which says it here."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fastmlp")
except PackageNotFoundError:  # A clone that is not installed.
    __version__ = "0+unknown"
