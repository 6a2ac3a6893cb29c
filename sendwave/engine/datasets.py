"""Names and places of the lake's files."""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from sendwave.errors import Busy, SendwaveError

if TYPE_CHECKING:
    from sendwave.engine.base import Written

LANDED: Final = (
    "contacts", "consents", "interactions", "scores", "sends", "returns", "events", "plan", "ids",
    "clean", "traces", "history", "experiments",
)  # fmt: skip
"""Datasets that live as Parquet files; suppressions live in the store."""


NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says of a disk, a quota or a file that is full."""


class Listed(Protocol):
    """What the registry knows of a file."""

    @property
    def path(self) -> str: ...


class Remote(Protocol):
    """Where the files of a lake are that is no folder: this machine has copies (`engine.cache`)."""

    def hold(self, paths: Iterable[Path]) -> AbstractContextManager[None]: ...

    def share(self, paths: Sequence[Path]) -> None: ...

    def shared(self, path: Path) -> bool: ...

    def has(self, path: Path) -> bool: ...

    def discard(self, paths: Iterable[Path]) -> None: ...

    def remove(self, path: Path) -> None: ...

    def reading(self, path: Path) -> AbstractContextManager[Path]: ...

    def strays(self, age: float) -> Iterator[str]: ...

    def missing(self, names: Sequence[str]) -> list[str]: ...

    def probe(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Lake:
    """A directory of immutable Parquet files, one folder per dataset.

    With a `remote` the lake is there, and the directory has what this node wrote or fetched. The engine fetches what it
    opens; whoever opens a file of the lake without the engine does so inside `hold`.
    """

    root: Path
    remote: Remote | None = None

    def new(self, dataset: str, stem: str) -> Path:
        """A fresh, unique path for a file of that dataset; its folder exists afterwards."""
        folder = self.root / dataset
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{stem}-{uuid.uuid4().hex[:12]}.parquet"

    def share(self, *written: Written | None) -> None:
        """Make files durable where every node finds them: the last step before they are registered.

        Raises Unreachable or BadInput, and has removed them then.
        """
        if self.remote is not None:
            try:
                self.remote.share([file.path for file in written if file is not None])
            except SendwaveError:
                self.discard(*written)
                raise

    def discard(self, *written: Written | None) -> None:
        """Remove files that nobody registered."""
        paths = [file.path for file in written if file is not None]
        if self.remote is not None:
            self.remote.discard(paths)
        for path in paths:
            path.unlink(missing_ok=True)

    def withdraw(self, fault: BaseException | None, files: Iterable[Written | None]) -> None:
        """Remove files that `fault` kept from being registered.

        A store that went away, perhaps while it committed, may have registered them: then they stay, and what is not
        listed is garbage that the janitor removes.
        """
        if isinstance(fault, SendwaveError) and not isinstance(fault, Busy):
            self.discard(*files)

    def relative(self, path: Path) -> str:
        """The path as the registry keeps it."""
        assert self.remote is None or self.remote.shared(path), f"{path} was not shared: no other node could read it"
        return path.relative_to(self.root).as_posix()

    def columns(self, listed: Iterable[Listed]) -> frozenset[str]:
        """Every column some of the registered files have. Raises Unreachable."""
        paths = [self.path(file) for file in listed]
        with self.hold(paths):
            return frozenset[str]().union(*(column_names(path) for path in paths))

    def path(self, file: Listed) -> Path:
        """Where a registered file is, or will be once it is fetched."""
        return self.root / file.path

    def paths(self, listed: Mapping[str, Iterable[Listed]]) -> dict[str, list[Path]]:
        """Registered files as absolute paths, per dataset."""
        return {dataset: [self.root / file.path for file in files] for dataset, files in listed.items()}

    def hold(self, paths: Iterable[Path]) -> AbstractContextManager[None]:
        """Have these files here while the block runs. Raises NotFound, Unreachable, FullDisk."""
        return nullcontext() if self.remote is None else self.remote.hold(paths)

    def has(self, path: Path) -> bool:
        """Whether the file is in the lake. Raises Unreachable."""
        return path.is_file() if self.remote is None else self.remote.has(path)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of these registered paths that are not in the lake. Raises Unreachable."""
        if self.remote is not None:
            return self.remote.missing(names)
        return [name for name in names if not (self.root / name).is_file()]

    def reading(self, name: str) -> AbstractContextManager[Path]:
        """A file to be read once, by the path the registry keeps. Raises FileNotFoundError, Unreachable, FullDisk."""
        path = self.root / name
        return nullcontext(path) if self.remote is None else self.remote.reading(path)

    def remove(self, name: str) -> None:
        """Remove a file, by the path the registry keeps. Raises Unreachable."""
        if self.remote is not None:
            self.remote.remove(self.root / name)
        (self.root / name).unlink(missing_ok=True)

    def strays(self, age: float) -> Iterator[str]:
        """Files, registered or not, that were written more than `age` seconds ago. Raises Unreachable."""
        return self._old(age) if self.remote is None else self.remote.strays(age)

    def _old(self, age: float) -> Iterator[str]:
        before = self.clock() - age
        for dataset in LANDED:
            for path in (self.root / dataset).rglob("*"):
                if path.is_file() and path.stat().st_mtime < before:
                    yield path.relative_to(self.root).as_posix()

    def clock(self) -> float:
        """Now, in epoch seconds, by the clock its files are dated by: that of a share, or a rehearsal, is not ours."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.root) as probe:
            return os.fstat(probe.fileno()).st_mtime


def column_names(path: Path) -> frozenset[str]:
    """The columns of a Parquet file; its footer is read once, as long as it is the same file."""
    stat = path.stat()
    return _footer_names(path, stat.st_ino, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _footer_names(path: Path, *_same: int) -> frozenset[str]:
    from pyarrow import parquet  # 20 ms, for those who read files

    return frozenset(parquet.read_schema(path).names)


def publish(temporary: Path, final: Path) -> None:
    """Make a written file durable under its final name: sync the file, rename it, sync its folder."""
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.rename(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
