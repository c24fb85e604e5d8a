"""The version, where modules below the package's own file can read it."""

__version__ = "0.1.0"
