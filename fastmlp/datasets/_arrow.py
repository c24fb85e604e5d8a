"""Record batches in Arrow IPC files: where they lie, how many rows they have, and their numbers.

A file is the magic ARROW1 and two zeros; messages; and a footer, its size in 4 bytes and ARROW1
again. A message is ff ff ff ff, the size of its header in 4 bytes, the header, and a body. Headers
are flatbuffers: a table begins with how far before it its vtable lies, which has its own size,
the table's, and for each field how far into the table it lies, 0 for none.

pyarrow would tell the rows of a batch only by reading it, and takes what its header promises.
References: arrow.apache.org/docs/format/Columnar.html, "Serialization and Interprocess
Communication"; github.com/apache/arrow, format/Message.fbs; flatbuffers.dev, "Internals".
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAGIC = b"ARROW1"
_RECORD_BATCH = 3
# Bytes that a buffer may have beyond its numbers, to end where a cache line does.
_PADDING = 128


class Batch(NamedTuple):
    """Where a record batch lies in its file."""

    start: int
    header: int  # bytes of it, with the 8 before
    body: int
    rows: int


class _Table:
    """A flatbuffers table. Raises struct.error or ValueError where it leaves its bytes."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at
        self._vtable = at - self._number("<i", at)

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise ValueError("a header points before its beginning")
        number: int = struct.unpack_from(form, self._content, at)[0]
        return number

    def _field(self, index: int) -> int:
        """Where it lies, or 0."""
        place = 4 + 2 * index
        if place >= self._number("<H", self._vtable):
            return 0
        offset = self._number("<H", self._vtable + place)
        return self._at + offset if offset else 0

    def number(self, index: int, form: str) -> int:
        """0 where it is left out."""
        at = self._field(index)
        return self._number(form, at) if at else 0

    def table(self, index: int) -> _Table | None:
        at = self._field(index)
        return _Table(self._content, at + self._number("<I", at)) if at else None

    def pairs(self, index: int) -> np.ndarray:
        """(n, 2) int64 of a vector of structs of two."""
        at = self._field(index)
        if not at:
            return np.empty((0, 2), np.int64)
        at += self._number("<I", at)
        count = self._number("<I", at)
        return np.frombuffer(self._content, "<i8", 2 * count, at + 4).reshape(-1, 2)


def batches_of(path: Path) -> list[Batch]:
    """All of a file's, by the headers of its messages alone. Raises ValueError, struct.error."""
    found = []
    with path.open("rb") as file:
        end = _footer(file)
        at = 8
        while at < end:
            header = _read_header(file, at, end)
            if header is None:
                break
            message = _Table(header, struct.unpack_from("<I", header)[0])
            body = message.number(3, "<q")
            size = 8 + len(header)
            if not 0 <= body <= end - at - size:
                left = end - at - size
                raise ValueError(f"the message at byte {at} has {body} bytes, {left} follow")
            if message.number(1, "<B") == _RECORD_BATCH:
                rows = _record_batch(message).number(0, "<q")
                if rows < 0:
                    raise ValueError(f"the record batch at byte {at} has {rows} rows")
                found.append(Batch(at, size, body, rows))
            at += size + body
    return found


def _footer(file: BinaryIO) -> int:
    """Where it begins."""
    end = file.seek(0, 2)
    file.seek(max(0, end - 10))
    last = file.read(10)
    file.seek(0)
    if end < 20 or not file.read(8).startswith(MAGIC) or last[4:] != MAGIC:
        raise ValueError("it is no Arrow IPC file, or not whole")
    start = end - 10 - int.from_bytes(last[:4], "little")
    if start < 8:
        raise ValueError("its footer is larger than the file")
    return start


def _read_header(file: BinaryIO, at: int, end: int) -> bytes | None:
    """Of the message there; None where they end."""
    file.seek(at)
    mark, size = struct.unpack("<II", file.read(8))
    if mark != 0xFFFFFFFF or size > end - at - 8:
        raise ValueError(f"no message begins at byte {at}")
    return file.read(size) if size else None


def _record_batch(message: _Table) -> _Table:
    batch = message.table(2)
    if batch is None:
        raise ValueError("a record batch has no header")
    return batch


def read_batch(path: Path, batch: Batch, schema: Any, row_bytes: int) -> Any:
    """A pyarrow.RecordBatch whose numbers lie where it says.

    row_bytes : of all columns, which bounds what its buffers may become
    """
    import pyarrow as pa

    with path.open("rb") as file:
        file.seek(batch.start)
        content = file.read(batch.header + batch.body)
    if len(content) < batch.header + batch.body:
        raise ValueError(f"{batch.header + batch.body - len(content)} bytes are missing at its end")
    header = content[8 : batch.header]
    table = _record_batch(_Table(header, struct.unpack_from("<I", header)[0]))
    if table.table(3) is not None:
        # Each compressed buffer begins with how many bytes it becomes, or -1 for as it is.
        places = table.pairs(2)
        stated = sum(
            max(0, struct.unpack_from("<q", content, batch.header + int(start))[0])
            for start, size in places
            if size
        )
        most = batch.rows * (row_bytes + len(places)) + _PADDING * len(places)
        if stated > most:
            raise ValueError(f"{stated} bytes are promised for {batch.rows} rows, at most {most}")
    found = pa.ipc.read_record_batch(pa.py_buffer(content), schema)
    found.validate(full=True)
    return found
