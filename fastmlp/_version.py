"""The version: the tags of the repository give it to an installation, which says it here."""

from ._machine import installed_version

# The second is that of a clone that is not installed.
__version__ = installed_version("fastmlp") or "0+unknown"
