"""The content of files while they are read: their hashes, and whether they change.

    with FileContents(paths) as contents:    a thread hashes the files
        ...                                  meanwhile, their rows are read
        contents.final_hashes()              of the content that was read; an error if it changed

A change is detected by the inode, the size and the modification time of a file. They do not show
a second change within the resolution of these times. Therefore files that were modified just
before are hashed again at the end, and before that, ``hashes`` must be complete when reading starts
(``are_settled``).
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from bertft.errors import DataError
from bertft.utils.safe_files import open_regular_file, unreadable

__all__ = ["FileContents"]

_BLOCK_BYTES = 1 << 20
_SETTLED_SECONDS = 2.5  # FAT stores times in units of two seconds, other file systems in less


class _Version(NamedTuple):
    """What changes with the content of a file, in nearly all cases."""

    device: int
    inode: int
    size: int
    modified_ns: int


class FileContents:
    """The content of ``paths`` from now on; ``source`` is their name in messages.

    Attributes:
        are_settled: no file was modified just before, so that any change from now on is noticed.
    """

    def __init__(self, paths: Sequence[Path], source: str) -> None:
        self._paths, self._source = paths, source
        self._is_cancelled = threading.Event()
        self._versions = self._read_versions()
        newest = max(version.modified_ns for version in self._versions)
        self.are_settled = newest < time.time_ns() - _SETTLED_SECONDS * 1e9
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="bertft-hash")
        self._hashes: Future[list[str]] = self._executor.submit(self._hash_files)

    def __enter__(self) -> FileContents:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_cancelled.set()
        self._executor.shutdown()

    def hashes(self) -> list[str]:
        """sha256 of each file. Raises DataError for a file that cannot be read."""
        return self._hashes.result()

    def final_hashes(self) -> list[str]:
        """``hashes`` of files that were read since. Raises DataError if their content changed."""
        hashes = self.hashes()
        if self._read_versions() != self._versions or (
            not self.are_settled and self._hash_files() != hashes
        ):
            raise DataError(
                "the file changed while it was read",
                where=self._source,
                hint="Run again when the file is complete",
            )
        return hashes

    def _read_versions(self) -> list[_Version]:
        versions = []
        for path in self._paths:
            try:
                status = os.stat(path)
            except OSError as error:
                raise unreadable(error, path) from error
            versions.append(
                _Version(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            )
        return versions

    def _hash_files(self) -> list[str]:
        hashes = []
        block = memoryview(bytearray(_BLOCK_BYTES))
        for path in self._paths:
            digest = hashlib.sha256()
            try:
                with open_regular_file(path) as file:
                    while not self._is_cancelled.is_set() and (size := file.readinto(block)):
                        digest.update(block[:size])
            except OSError as error:
                raise unreadable(error, path) from error
            hashes.append(digest.hexdigest())
        return hashes
