"""A lake in a bucket: what the network and the storage do to it, and which copies stay on a machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from bucket_storage import BUCKET, Fault, Storage, lake_in

from sendwave.clock import wall
from sendwave.engine import bucket as objects
from sendwave.engine.base import Written
from sendwave.engine.bucket import Bucket
from sendwave.engine.cache import Cache
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, NotFound, Unreachable
from sendwave.flow import doctor
from sendwave.rules.health import State

SIZE = 300_000


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amazon's client waits up to seconds before it repeats a call; here it does not."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def here(storage: Storage, tmp_path: Path) -> Lake:
    """The lake as the node sees it that writes."""
    return lake_in(storage, tmp_path / "here", "some/where")


@pytest.fixture
def there(storage: Storage, tmp_path: Path) -> Lake:
    """The lake as another one sees it."""
    return lake_in(storage, tmp_path / "there", "some/where")


def made(lake: Lake, size: int = SIZE) -> Written:
    """A file that was written here and is nowhere else."""
    path = lake.new("events", "some")
    path.write_bytes(os.urandom(size))
    return Written(path, 1, size)


def shared(lake: Lake, size: int = SIZE) -> str:
    lake.share(written := made(lake, size))
    return lake.relative(written.path)


def fetched(lake: Lake, name: str) -> bytes:
    with lake.hold([lake.root / name]):
        return (lake.root / name).read_bytes()


def leftovers(lake: Lake) -> list[str]:
    """Whatever is in the folder of copies that is no copy."""
    found = [path for path in lake.root.rglob("*") if path.is_file() and path.name != ".lock"]
    return [path.name for path in found if path.suffix == ".part" or path.stat().st_mode & 0o222]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", "cut", "events"),
        Fault("GET", "lost", "events", times=2),
        Fault("GET", "SlowDown", "events", times=2),
        Fault("GET", "InternalError", "events", status=500),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_fetch_that_fails_is_repeated(storage: Storage, here: Lake, there: Lake, fault: Fault) -> None:
    name = shared(here)
    storage.faults.append(fault)
    assert fetched(there, name) == (here.root / name).read_bytes()
    assert (storage.faults, leftovers(there)) == ([], [])


@pytest.mark.parametrize(
    "fault",
    [Fault("PUT", "cut"), Fault("PUT", "lost"), Fault("PUT", "SlowDown", times=3)],
    ids=lambda fault: fault.kind,
)
def test_an_upload_that_fails_is_repeated(storage: Storage, here: Lake, there: Lake, fault: Fault) -> None:
    storage.faults.append(fault)
    name = shared(here)
    assert fetched(there, name) == (here.root / name).read_bytes()
    assert storage.faults == []


@pytest.mark.parametrize("kind", ["cut", "lost", "SlowDown"])
def test_a_file_that_never_comes_whole_is_never_read(storage: Storage, here: Lake, there: Lake, kind: str) -> None:
    name = shared(here)
    storage.faults.append(Fault("GET", kind, "events", times=99))
    with pytest.raises(Unreachable, match=r"some.*s3://sendwave-lake/some/where at http://127"):
        fetched(there, name)
    assert (list((there.root / "events").iterdir()), leftovers(there)) == ([], [])
    storage.faults.clear()
    assert len(fetched(there, name)) == SIZE


@pytest.mark.parametrize("kind", ["cut", "lost", "SlowDown"])
def test_what_cannot_be_uploaded_is_not_registered(storage: Storage, here: Lake, kind: str) -> None:
    storage.faults.append(Fault("PUT", kind, times=99))
    written = made(here)
    with pytest.raises(Unreachable, match="cannot write events/some"):
        here.share(written)
    assert not written.path.exists()
    with pytest.raises(AssertionError, match="was not shared"):
        here.relative(written.path)


def test_a_storage_that_is_down_is_told_and_comes_back(storage: Storage, here: Lake, there: Lake) -> None:
    name = shared(here)
    storage.down = True
    with pytest.raises(Unreachable):
        fetched(there, name)
    with pytest.raises(Unreachable):
        shared(here)
    with pytest.raises(Unreachable):
        there.has(there.root / name)
    assert len(fetched(here, name)) == SIZE, "who has a copy needs nobody"
    storage.down = False
    assert len(fetched(there, name)) == SIZE


def test_a_damaged_object_is_never_read(storage: Storage, here: Lake, there: Lake) -> None:
    name = shared(here)
    storage.spoil(f"some/where/{name}")
    with pytest.raises(BadInput, match=rf"{name} in .* is damaged: .*sha256.*backup"):
        fetched(there, name)
    assert leftovers(there) == []


def test_an_object_that_is_gone_is_named(storage: Storage, here: Lake, there: Lake) -> None:
    name = shared(here)
    storage.lose(f"some/where/{name}")
    with pytest.raises(NotFound, match=rf"{name} is listed in the store and is gone from s3://sendwave-lake.*doctor"):
        fetched(there, name)


def test_a_large_file_goes_in_parts(storage: Storage, here: Lake, there: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "WHOLE", 5 << 20)  # no storage takes smaller parts
    storage.faults += [Fault("PUT", "cut", "partNumber=2"), Fault("PUT", "SlowDown", "partNumber=1")]
    name = shared(here, 11 << 20)
    assert (storage.faults, storage.calls["POST"], storage.unfinished()) == ([], 2, 0)
    assert fetched(there, name) == (here.root / name).read_bytes()


def test_a_large_upload_that_fails_leaves_no_parts(
    storage: Storage, here: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "WHOLE", 5 << 20)
    storage.faults.append(Fault("PUT", "SlowDown", "partNumber=2", times=99))
    with pytest.raises(Unreachable):
        shared(here, 11 << 20)
    assert (storage.names(), storage.unfinished()) == ([], 0)


def test_parts_a_dead_node_left_are_removed(storage: Storage, here: Lake) -> None:
    client = here.remote.bucket._client  # type: ignore[union-attr]  # a cache
    client.create_multipart_upload(Bucket=BUCKET, Key="some/where/events/never.parquet")
    client.create_multipart_upload(Bucket=BUCKET, Key="other/events/somebody-elses.parquet")
    assert list(here.strays(86_400)) == []
    assert storage.unfinished() == 1


def test_a_bucket_is_listed_by_pages(storage: Storage, here: Lake) -> None:
    names = [f"events/{n:04d}.parquet" for n in range(1_200)]
    for name in names:
        storage.put(f"some/where/{name}")
    storage.put("some/where/events-of-others/x.parquet")
    storage.put("some/where-else/events/x.parquet")
    assert list(here.strays(-60)) == names
    assert here.missing([*names, "events/none.parquet"]) == ["events/none.parquet"]


# ── what is wrong, in words ───────────────────────────────────────────────────────────────────────────────────────────
def probed(bucket: Bucket, tmp_path: Path) -> str:
    return Cache(tmp_path / "copies", bucket, 1 << 30).probe()


def test_a_probe_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    assert probed(Bucket(BUCKET, "p", storage.url), tmp_path) == f"s3://{BUCKET}/p at {storage.url}"
    assert storage.names() == []
    assert [path.name for path in (tmp_path / "copies").iterdir()] == []


def test_a_bucket_that_does_not_exist(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no bucket 'nobodys' there; make it, or correct `lake`"):
        probed(Bucket("nobodys", "", storage.url), tmp_path)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault("PUT", "AccessDenied", status=403), r"cannot write .*: access denied .*list, read, write and delete"),
        (Fault("GET", "AccessDenied", "prefix", status=403), "cannot list .*: access denied"),
        (Fault("DELETE", "AccessDenied", status=403), "cannot remove .*: access denied"),
        (Fault("PUT", "SignatureDoesNotMatch", status=403), "does not know these credentials"),
        (Fault("PUT", "AuthorizationHeaderMalformed", status=400), r"in another region .*bucket\.region"),
        (Fault("PUT", "RequestTimeTooSkewed", status=403), "RequestTimeTooSkewed"),
        (Fault("PUT", "EntityTooLarge", status=400), "EntityTooLarge"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_what_the_storage_refuses(storage: Storage, tmp_path: Path, fault: Fault, told: str) -> None:
    storage.faults.append(fault)
    with pytest.raises(BadInput, match=told):
        probed(Bucket(BUCKET, "", storage.url), tmp_path)


def test_an_endpoint_nobody_answers_at(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"cannot write .* at http://127.0.0.1:1"):
        probed(Bucket(BUCKET, "", "http://127.0.0.1:1"), tmp_path)


@pytest.mark.parametrize("answer", [(404, b"<html>not here</html>"), (200, b"<html>hello</html>"), (404, b"")])
def test_an_endpoint_that_is_some_web_server(
    storage: Storage, tmp_path: Path, answer: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, body = answer

    def web(environ: dict[str, object], start: object) -> list[bytes]:
        start(f"{status} said", [("Content-Type", "text/html")])  # type: ignore[operator]
        return [body]

    monkeypatch.setattr(storage, "_app", web)
    with pytest.raises(BadInput, match="does not speak S3"):
        Bucket(BUCKET, "", storage.url).has("x")


def test_no_credentials(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadInput, match=r"no credentials\. Set AWS_ACCESS_KEY_ID"):
        probed(Bucket(BUCKET, "", storage.url), tmp_path)


def test_a_machine_without_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(BadInput, match=r"pip install 'sendwave\[s3\]'"):
        probed(Bucket(BUCKET, "", "http://127.0.0.1:1"), tmp_path)


def test_doctor_looks_at_it(storage: Storage, here: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {one.check: one for one in doctor._lake(here)}
    assert found["lake"].state is State.OK
    assert found["lake"].detail.startswith(f"s3://{BUCKET}/some/where at {storage.url}: objects can be written")
    assert "disk of the lake's copies" in found


# ── copies ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def copies(lake: Lake) -> set[str]:
    return {lake.relative(path) for path in lake.root.rglob("*.parquet")}


def used(lake: Lake, name: str, ago: float) -> None:
    """The copy was used that many seconds ago for the last time."""
    known = (lake.root / name).stat()
    os.utime(lake.root / name, ns=(int((wall().timestamp() - ago) * 1e9), known.st_mtime_ns))


@pytest.fixture
def small(storage: Storage, tmp_path: Path) -> Lake:
    """A node that keeps copies of three files."""
    return lake_in(storage, tmp_path / "small", "some/where", limit=3 * SIZE)


def test_the_copies_used_longest_ago_go(here: Lake, small: Lake) -> None:
    names = [shared(here) for _ in range(5)]
    for ago, name in enumerate(names[:3]):
        fetched(small, name)
        used(small, name, 1_000 - ago)
    fetched(small, names[0])  # used now: the second is the one used longest ago
    fetched(small, names[3])
    assert copies(small) == {names[0], names[2], names[3]}
    fetched(small, names[4])
    assert copies(small) == {names[0], names[3], names[4]}
    assert len(fetched(small, names[1])) == SIZE, "and may come back"


def test_a_copy_that_is_read_stays(here: Lake, small: Lake) -> None:
    names = [shared(here) for _ in range(5)]
    with small.hold([small.root / name for name in names[:4]]):
        fetched(small, names[4])
        assert copies(small) == set(names), "more than the limit, for all of them are being read"
    assert len(copies(small)) == 3


def test_a_copy_another_process_reads_stays(here: Lake, small: Lake) -> None:
    names = [shared(here) for _ in range(4)]
    for name in names[:3]:
        fetched(small, name)
        used(small, name, 1_000)
    reader = (
        f"import fcntl, sys; lock = open({str(small.root / '.lock')!r}); fcntl.flock(lock, fcntl.LOCK_SH); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", reader], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        fetched(small, names[3])
        assert copies(small) == set(names)
        other.communicate(b"")
    fetched(small, names[3])
    assert len(copies(small)) == 3, "once nobody reads, at the end of the next reading"


def test_what_is_not_in_the_bucket_yet_stays(here: Lake, small: Lake) -> None:
    mine = made(small, 4 * SIZE)
    fetched(small, shared(here))
    assert mine.path.exists()
    small.share(mine)
    assert len(fetched(small, small.relative(mine.path))) == 4 * SIZE


def test_what_a_dead_process_left_goes(here: Lake, small: Lake) -> None:
    dead, young = small.new("events", "never-shared"), small.new("events", "young")
    half = dead.with_name(".half.part")
    for path in (dead, young, half):
        path.write_bytes(b"x")
    for path in (dead, half):
        os.utime(path, (0, wall().timestamp() - 90_000))
    fetched(small, shared(here))
    assert [path.exists() for path in (dead, half, young)] == [False, False, True]


def test_threads_that_need_the_same_file_fetch_it_once(storage: Storage, here: Lake, there: Lake) -> None:
    name, together = shared(here), threading.Barrier(6)

    def read(_: int) -> int:
        together.wait()
        return len(fetched(there, name))

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(read, range(6))) == [SIZE] * 6
    assert storage.calls["GET"] == 1
    assert leftovers(there) == []


def test_two_nodes_on_one_folder_of_copies(storage: Storage, here: Lake, there: Lake) -> None:
    names = [shared(here) for _ in range(8)]
    twin, together = lake_in(storage, there.root, "some/where"), threading.Barrier(2)

    def read(lake: Lake) -> Iterator[int]:
        together.wait()
        return iter([len(fetched(lake, name)) for name in names])

    with ThreadPoolExecutor(2) as threads:
        assert [list(found) for found in threads.map(read, (there, twin))] == [[SIZE] * 8] * 2
    assert (copies(there), leftovers(there)) == (set(names), [])


def test_a_backup_pushes_no_copy_out(here: Lake, small: Lake) -> None:
    names = [shared(here) for _ in range(6)]
    for name in names[:3]:
        fetched(small, name)
    for name in names:
        with small.reading(name) as path:
            assert path.stat().st_size == SIZE
    assert (copies(small), leftovers(small)) == (set(names[:3]), [])
