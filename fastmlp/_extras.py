"""Packages that only some users have."""

from importlib import import_module


def require(package: str, extra: str) -> None:
    """Raise an ImportError that names the extra to install when the package is not there."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed: {how_to_get(extra)}", name=error.name
        ) from None


def how_to_get(extra: str) -> str:
    """In words. fastmlp is in no index: by its name alone pip would look for a stranger's."""
    return f"it comes with the extra {extra!r}, in a clone pip install '.[{extra}]'"
