"""Names and places of the lake's files."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

LANDED: Final = (
    "contacts", "consents", "interactions", "scores", "sends", "returns", "events", "plan", "ids",
    "clean", "traces", "history", "experiments",
)  # fmt: skip
"""Datasets that live as Parquet files; suppressions live in the store."""


class Listed(Protocol):
    """What the registry knows of a file."""

    @property
    def path(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Lake:
    """A directory of immutable Parquet files, one folder per dataset."""

    root: Path

    def new(self, dataset: str, stem: str) -> Path:
        """A fresh, unique path for a file of that dataset; its folder exists afterwards."""
        folder = self.root / dataset
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{stem}-{uuid.uuid4().hex[:12]}.parquet"

    def clock(self) -> float:
        """Now, in epoch seconds, by the clock its files are dated by: that of a share, or a rehearsal, is not ours."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.root) as probe:
            return os.fstat(probe.fileno()).st_mtime

    def relative(self, path: Path) -> str:
        """The path as the registry keeps it."""
        return path.relative_to(self.root).as_posix()

    def columns(self, listed: Iterable[Listed]) -> frozenset[str]:
        """Every column some of the registered files have."""
        return frozenset[str]().union(*(column_names(self.root / file.path) for file in listed))

    def paths(self, listed: Mapping[str, Iterable[Listed]]) -> dict[str, list[Path]]:
        """Registered files as absolute paths, per dataset."""
        return {dataset: [self.root / file.path for file in files] for dataset, files in listed.items()}


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
