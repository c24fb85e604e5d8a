"""Small changes to bytes, texts and JSON values, from a generator of random numbers."""

import json
import re

EDGES = [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
         2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
"""Whole numbers at which something changes."""

TEXTS = ["", "0", "-1", "-0.0", "1e400", "nan", "inf", "-inf", "NaN", "Infinity", "1_0", "0x10",
         "é", "\x00", "\n", "\r", '"', "'", ",", ";", "\\", "\ud800", "\x1b[2J", "../../x", "True",
         "9" * 30, "9" * 400, "9" * 5000, "1.5", "x" * 3000, "[" * 2000]  # fmt: skip

VALUES = [None, True, False, -1, 0, 1, 2, 3, 2**31, 2**63, -(2**63), 2**64, 10**18, 10**400, 0.5,
          -0.0, 1e-320, 1e300, float("nan"), float("inf"), "", "x", "relu", "x" * 2000, [], [0],
          [1] * 500, [[]], {}, {"name": "Adam"}, {"": None}, ["0.5"], [None]]  # fmt: skip

_NUMBER = re.compile(rb"-?[0-9]+")


def mutated(rng, content, others=(b"",)):
    """The bytes, changed in one to four places."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(_CHANGES)(rng, content, others)
    return content


def _flip(rng, content, others):
    if not content:
        return content
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def _byte(rng, content, others):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(1) + content[at + 1 :]


def _number(rng, content, others):
    """An edge in the place of 1, 2, 4 or 8 bytes, of either byte order."""
    at, size = rng.randrange(len(content) + 1), rng.choice((1, 2, 4, 8))
    value = (rng.choice(EDGES) + rng.randrange(-1, 2)) % (1 << 8 * size)
    number = value.to_bytes(size, rng.choice(("little", "big")))
    return content[:at] + number + content[at + size :]


def _digits(rng, content, others):
    """Another number in the place of one that is written out."""
    if not (found := list(_NUMBER.finditer(content))):
        return content
    place = rng.choice(found)
    number = rng.choice((str(rng.choice(EDGES)), str(-rng.choice(EDGES)), rng.choice(TEXTS)))
    return content[: place.start()] + _encoded(number) + content[place.end() :]


def _word(rng, content, others):
    at = rng.randrange(len(content) + 1)
    return content[:at] + _encoded(rng.choice(TEXTS)) + content[at + rng.randrange(2) :]


def _cut(rng, content, others):
    return content[: rng.randrange(len(content) + 1)]


def _without(rng, content, others):
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.randrange(1, 17) :]


def _repeated(rng, content, others):
    at = rng.randrange(len(content) + 1)
    piece = content[at : at + rng.randrange(1, 65)]
    return content[:at] + piece * rng.choice((2, 2, 3, 50)) + content[at:]


def _spliced(rng, content, others):
    other = rng.choice(others)
    at = rng.randrange(len(content) + 1)
    return content[:at] + other[min(at, rng.randrange(len(other) + 1)) :]


def _longer(rng, content, others):
    return content + rng.choice((b"\0", b"\xff", rng.randbytes(20), bytes(5000)))


_CHANGES = [_flip, _byte, _number, _digits, _word, _cut, _without, _repeated, _spliced, _longer]


def _encoded(text):
    return text.encode("utf-8", "surrogatepass")


def mutated_json(rng, value):
    """A copy of a JSON value with one of its parts replaced, left out, repeated or added."""
    value = json.loads(json.dumps(value))
    holder, key = _any_place(rng, value)
    if holder is None:
        return rng.choice(VALUES)
    change = rng.randrange(8)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, dict):
        holder[rng.choice(("pruning", "", "self", "cls", "_", "name", "sigma", "dropout"))] = (
            rng.choice(VALUES)
        )
    elif change == 2 and isinstance(holder, list):
        holder += holder * rng.choice((1, 30))
    elif change == 3 and type(holder[key]) in (int, float):
        holder[key] += rng.choice((-1, 1, 8, 1000))
    else:
        holder[key] = rng.choice(VALUES)
    return value


def _any_place(rng, value):
    places = []
    stack = [value]
    while stack:
        part = stack.pop()
        keys = part.keys() if isinstance(part, dict) else range(len(part))
        for key in keys:
            places.append((part, key))
            if isinstance(part[key], (dict, list)):
                stack.append(part[key])
    return rng.choice(places) if places else (None, None)
