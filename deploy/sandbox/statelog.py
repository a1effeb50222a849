"""The file behind `--state`: one JSON line per thing that must survive a kill -9, written before it is answered."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .jsontext import from_json, to_json


class StateFileError(Exception):
    """The state file cannot be used."""


class StateLog:
    """Append-only. Without a path it keeps nothing, and everything else stays the same."""

    def __init__(self, path: Path | None) -> None:
        """Raises StateFileError when the file cannot be opened or another sandbox has it."""
        self._file = None if path is None else _open_alone(path)
        self._path = path

    def replay(self, header: dict[str, Any]) -> Iterator[Any]:
        """What was written under the same header, oldest first; anything else in the file is dropped.

        Raises StateFileError when a line other than the last is damaged.
        """
        if self._file is None:
            return
        with os.fdopen(os.dup(self._file), "rb", closefd=True) as reader:
            reader.seek(0)
            if reader.readline() != to_json(header) + b"\n":
                self.start_over(header)
                return
            for number, line in enumerate(reader, start=2):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, os.fstat(self._file).st_size - len(line))
                    return
                yield self._parsed(line, number)

    def start_over(self, header: dict[str, Any]) -> None:
        """Empties the file."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            self.append(to_json(header))

    def append(self, line: bytes) -> None:
        """Hands the line to the operating system: it then survives the death of this process."""
        if self._file is not None:
            os.write(self._file, line + b"\n")

    @property
    def is_kept(self) -> bool:
        """Whether writing a line has any use."""
        return self._file is not None

    def close(self) -> None:
        """Lets the next sandbox have the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _parsed(self, line: bytes, number: int) -> Any:
        try:
            return from_json(line)
        except ValueError as error:
            raise StateFileError(f"line {number} of the state file {self._path} is damaged; remove the file") from error


def _open_alone(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateFileError(f"the state file {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise StateFileError(f"the state file {path} is in use by another sandbox") from error
    return file
