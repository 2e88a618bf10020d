"""The place of a benchmark's last result in the documentation: between two comments that nobody sees."""

from __future__ import annotations

from .process import BenchmarkError


def put(path: str, name: str, text: str) -> None:
    """Replace what stands between a benchmark's markers.

    Raises:
        BenchmarkError: the file cannot be read or written, or has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    try:
        with open(path, encoding="utf-8") as file:
            before, found, rest = file.read().partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise BenchmarkError(f"{path} has no place for the result: add the lines {begin} and {end}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{before}{begin}\n{text}\n{end}{after}")
    except OSError as error:
        raise BenchmarkError(f"cannot rewrite {path}: {error.strerror}") from None
