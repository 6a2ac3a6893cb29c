"""Copies of a bucket's files in a folder of this machine, where the engine reads them.

Files of the lake never change and no name is used twice, so whoever has a file of that name has the file. Several
processes may share the folder:

- a copy is read-only, and whatever one may write to is not in the bucket yet. A copy is fetched under a name of its
  own, made durable, then renamed;
- whoever reads shares a lock of the folder with all other readers; who forgets copies needs that lock alone, and waits
  for nobody: what could not be forgotten now is at the end of a later reading.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sendwave.clock import wall
from sendwave.engine.bucket import AT_ONCE, Bucket
from sendwave.engine.datasets import LANDED, publish
from sendwave.errors import BadInput, NotFound, SendwaveError

USED: Final = 60.0
"""Seconds within which a copy counts as used a moment ago: its time of use is not written again."""

LEFT: Final = 86_400.0
"""Age in seconds from which on a file that was never stored, or a half of one, is somebody's who died."""

_PROBE: Final = "may be removed"
_COPY: Final = 0o444
_WRITABLE: Final = 0o222


class Cache:
    """The folder `root` with copies of the bucket's files: `limit` bytes of them, and whatever is being read."""

    def __init__(self, root: Path, bucket: Bucket, limit: int) -> None:
        self.root, self.bucket, self.limit = root, bucket, limit
        self._guard = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._grown = True  # since it was last looked at

    @contextmanager
    def hold(self, paths: Iterable[Path]) -> Iterator[None]:
        """Have copies of these files, and keep them while the block runs. Paths elsewhere are nobody's business here.

        Raises NotFound for a file the bucket does not have, Unreachable, FullDisk, BadInput.
        """
        ours = [path for path in paths if path.is_relative_to(self.root)]
        with self._reading():
            self._fetch_all([path for path in ours if not _used(path)])
            yield
        self.forget()

    def _fetch_all(self, missing: Sequence[Path]) -> None:
        if len(missing) == 1:
            self._fetch(missing[0])
        elif missing:
            with ThreadPoolExecutor(min(AT_ONCE, len(missing)), "lake") as threads:
                list(threads.map(self._fetch, missing))

    def _fetch(self, path: Path) -> None:
        name = self.name(path)
        with self._guard:
            alone = self._fetching.setdefault(name, threading.Lock())
        with alone:  # another thread may be at it
            if path.exists():
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
            try:
                self.bucket.fetch(name, half)
            except FileNotFoundError as gone:
                told = f"{name} is listed in the store and is gone from {self.bucket.place}"
                raise NotFound(f"{told}: `sendwave doctor` says what to do") from gone
            half.chmod(_COPY)
            publish(half, path)
            self._grown = True
        with self._guard:
            self._fetching.pop(name, None)

    def name(self, path: Path) -> str:
        """The object's name."""
        return path.relative_to(self.root).as_posix()

    def share(self, paths: Sequence[Path]) -> None:
        """Store files that were written here; they are copies from then on. Raises Unreachable, BadInput."""
        for path in paths:
            self.bucket.upload(path, self.name(path))
            path.chmod(_COPY)
            self._grown = True

    def shared(self, path: Path) -> bool:
        """Whether the file here is a copy of one in the bucket."""
        return path.is_file() and not path.stat().st_mode & _WRITABLE

    def has(self, path: Path) -> bool:
        """Whether there is such a file, here or there."""
        return self.shared(path) or self.bucket.has(self.name(path))

    def discard(self, paths: Iterable[Path]) -> None:
        """Remove files nobody registered. One the storage keeps for now is garbage, which the janitor removes."""
        for path in paths:
            stored = self.shared(path)
            path.unlink(missing_ok=True)
            if stored:
                with suppress(SendwaveError):
                    self.bucket.remove(self.name(path))

    def remove(self, path: Path) -> None:
        """Remove a file for everybody; copies elsewhere are forgotten in time. Raises Unreachable, BadInput."""
        self.bucket.remove(self.name(path))
        path.unlink(missing_ok=True)

    @contextmanager
    def reading(self, path: Path) -> Iterator[Path]:
        """A file to read once: the copy where there is one, else a passing one that pushes no other out.

        Raises FileNotFoundError, Unreachable, FullDisk, BadInput.
        """
        with self._reading():
            if self.shared(path):
                yield path
                return
        passing = self.root / f".{uuid.uuid4().hex}.part"
        try:
            self.bucket.fetch(self.name(path), passing)
            yield passing
        finally:
            passing.unlink(missing_ok=True)

    def strays(self, age: float) -> Iterator[str]:
        """Names of files that were stored more than so many seconds ago; ends what was never finished since, too."""
        before = self.bucket.clock() - age
        self.bucket.abort_older(before)
        for dataset in LANDED:
            for one in self.bucket.listing(f"{dataset}/"):
                if one.at < before:
                    yield one.name

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of these files the bucket does not have."""
        there = {one.name for one in self.bucket.listing()} if names else set()
        return [name for name in names if name not in there]

    def clock(self) -> float:
        """Now, by the storage's clock."""
        return self.bucket.clock()

    def probe(self) -> str:
        """Write, read, list and remove an object; where that was. Raises what is wrong."""
        self.root.mkdir(parents=True, exist_ok=True)
        name = f"probe-{uuid.uuid4().hex}"
        with self._probe(self.root / f".{name}.part") as path:
            self.bucket.upload(path, name)
            path.unlink()
            self.bucket.fetch(name, path)
            if path.read_text() != _PROBE or not self.bucket.has(name):
                raise BadInput(f"{self.bucket.place} does not have, or does not list, what was just written there")
            self.bucket.remove(name)
        return self.bucket.place

    @contextmanager
    def _probe(self, path: Path) -> Iterator[Path]:
        try:
            path.write_text(_PROBE)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Nobody forgets a copy meanwhile."""
        with self._lock(fcntl.LOCK_SH):
            yield

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, kind)
            yield
        finally:
            os.close(lock)

    def forget(self) -> None:
        """Remove the copies used longest ago until the rest is within the limit; not while anybody reads."""
        if not self._grown:
            return
        with suppress(BlockingIOError), self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            self._grown = False
            copies = list(self._copies())
            total = sum(size for _, size, _ in copies)
            for _, size, path in sorted(copies):
                if total <= self.limit:
                    return
                path.unlink(missing_ok=True)
                total -= size

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """(last use, bytes, path) of each; what a process left that died goes on the way."""
        old = wall().timestamp() - LEFT
        for dataset in LANDED:
            folder = self.root / dataset
            for entry in os.scandir(folder) if folder.is_dir() else ():
                known = entry.stat()
                if not known.st_mode & _WRITABLE and not entry.name.startswith("."):
                    yield known.st_atime, known.st_size, Path(entry.path)
                elif known.st_mtime < old:
                    Path(entry.path).unlink(missing_ok=True)


def _used(path: Path) -> bool:
    """Whether the file is here; then it is one that was used just now."""
    try:
        known = path.stat()
    except FileNotFoundError:
        return False
    now = wall().timestamp()
    if now - known.st_atime > USED and stat.S_ISREG(known.st_mode):
        with suppress(OSError):  # forgetting it earlier is no harm
            os.utime(path, ns=(int(now * 1e9), known.st_mtime_ns))
    return True
