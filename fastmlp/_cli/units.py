"""Numbers with three digits, in the unit that suits."""


def in_bytes(count: int) -> str:
    return _scaled(count, ("bytes", "kB", "MB", "GB", "TB"))


def in_seconds(seconds: float) -> str:
    return _scaled(seconds * 1e9, ("ns", "µs", "ms", "s"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    """A number of the first unit in the largest of which there is one at least, thousands each."""
    exponent = 0
    while number >= 999.5 and exponent + 1 < len(units):
        number, exponent = number / 1000, exponent + 1
    return f"{number:.3g} {units[exponent]}"
