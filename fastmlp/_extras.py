"""Packages that only some users have."""

from importlib import import_module


def require(package: str, extra: str) -> None:
    """Raise an ImportError that names the extra to install when the package is not there."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        raise ImportError(
            f'{error.name} is not installed: pip install "fastmlp[{extra}]"', name=error.name
        ) from None
