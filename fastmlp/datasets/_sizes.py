"""Sizes that a compressed file states, judged before memory is taken for them."""

DEFLATE = 1032
"""The most bytes that one of deflate becomes: two bits can stand for 258 bytes.

Reference: zlib.net, "zlib technical details", maximum compression factor."""

BELIEVED = 1 << 30
"""Bytes up to which a file may state any size that its compression can reach."""

MOST_TIMES = 500
"""Beyond that, as many times the bytes in the file: int64 of which 0.3 % are not 0 come to 490."""


def check_stated(stated: int, held: int, most_times: int | None = None) -> None:
    """Refuse a size that the bytes in the file cannot become, or that only a bomb states.

    stated : bytes that would be taken    held : bytes in the file
    most_times : how many of the former the compression can make of one of the latter, if known
    """
    if most_times is not None and stated > most_times * held:
        raise ValueError(f"{stated} bytes are promised, more than {held} can become")
    if stated > max(BELIEVED, MOST_TIMES * held):
        raise ValueError(
            f"{stated} bytes are promised by {held}: a decompression bomb, "
            f"if more than {BELIEVED} and {MOST_TIMES} times as many"
        )
