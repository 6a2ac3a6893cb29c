"""sendwave.yaml: defaults, places, the environment over it, and its mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from sendwave import settings
from sendwave.errors import BadInput, NotFound
from sendwave.settings import BucketPlace, Settings


class Relay(BaseModel):
    model_config = ConfigDict(extra="forbid")
    esp: str
    port: int = 25
    password: str = ""


def loaded(home: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    (home / settings.FILE).write_text(text, encoding="utf-8")
    return settings.load(home, environ or {})


def findings(home: Path, text: str) -> list[str]:
    with pytest.raises(BadInput) as wrong:
        loaded(home, text)
    return [finding.splitlines()[0].removeprefix(f"{home}/") for finding in wrong.value.findings]


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_a_workspace_lives_on_defaults(tmp_path: Path, text: str) -> None:
    found = loaded(tmp_path, text)
    assert found.store == f"sqlite:///{tmp_path}/state/sendwave.db"
    assert (found.lake, found.policies) == (tmp_path / "lake", tmp_path / "policies")
    assert (found.time_zone, found.engine.threads, found.engine.memory_limit) == ("UTC", 2, "2GB")
    assert found.routes == {}


def test_paths_are_relative_to_the_workspace_unless_absolute(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = loaded(tmp_path, f"store: sqlite:////var/lib/s.db\nlake: data/lake\npolicies: {elsewhere}\n")
    assert found.store == "sqlite:////var/lib/s.db"
    assert (found.lake, found.policies) == (tmp_path / "data/lake", elsewhere)
    with pytest.raises(BadInput) as missing:
        loaded(tmp_path, "policies: polices\n")
    assert "sendwave.yaml:1:11: policies: there is no folder polices" in str(missing.value.findings)


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    environ = {
        "SENDWAVE_STORE": "postgresql+psycopg://u:p@h/d",
        "SENDWAVE_LAKE": "/mnt/lake",
        "SENDWAVE_POLICIES": "other",
    }
    (tmp_path / "other").mkdir()
    found = loaded(tmp_path, "store: sqlite:///a.db\n", environ)
    assert found.store == environ["SENDWAVE_STORE"]
    assert (found.lake, found.policies) == (Path("/mnt/lake"), tmp_path / "other")
    with pytest.raises(BadInput, match="SENDWAVE_STORE must begin with"):
        loaded(tmp_path, "", {"SENDWAVE_STORE": "mysql://h/d"})


def test_secrets_come_from_the_environment_and_stay_out_of_the_repr(tmp_path: Path) -> None:
    text = 'routes:\n  relay: {esp: smtp, password: "${RELAY_PASSWORD}", user: "me-${STAGE}"}\n'
    found = loaded(tmp_path, text, {"RELAY_PASSWORD": "geheim", "STAGE": "test"})
    assert found.routes["relay"] == {"esp": "smtp", "password": "geheim", "user": "me-test"}
    assert "geheim" not in repr(found)
    assert findings(tmp_path, text) == [
        "sendwave.yaml:2:32: routes.relay.password: the environment variable RELAY_PASSWORD is not set",
        "sendwave.yaml:2:59: routes.relay.user: the environment variable STAGE is not set",
    ]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = """\
store: mysql://h/d
time_zone: Europe/Pari
engin: {}
engine: {memory_limit: 2, threads: 0}
routes:
  relay: {host: h}
  other: smtp
"""
    assert findings(tmp_path, text) == [
        "sendwave.yaml:1:8: store: the store is a URL that begins with sqlite:/// or postgresql+psycopg://",
        "sendwave.yaml:2:12: time_zone: unknown time zone 'Europe/Pari'. Did you mean 'Europe/Paris'?",
        "sendwave.yaml:3:1: engin: unknown key 'engin'. Did you mean 'engine'?",
        "sendwave.yaml:4:24: engine.memory_limit: '2' is no amount of memory: write for instance 2GB or 512MB",
        "sendwave.yaml:4:36: engine.threads: must be 1 or more, not 0",
        "sendwave.yaml:6:3: routes.relay: missing key 'esp': simulated, smtp …",
        "sendwave.yaml:7:10: routes.other: must be a mapping: keys with values",
    ]


def test_a_workspace_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as wrong:
        settings.load(tmp_path, {})
    assert wrong.value.findings == (f"{tmp_path}/sendwave.yaml:1:1: there is no such file",)


def test_a_list_is_no_settings_file(tmp_path: Path) -> None:
    assert findings(tmp_path, "- store\n") == ["sendwave.yaml:1:1: must be a mapping: keys with values"]


def test_a_route_is_checked_against_its_adapter_in_place(tmp_path: Path) -> None:
    found = loaded(tmp_path, "routes:\n  relay:\n    esp: smtp\n    prot: 25\n", {})
    with pytest.raises(BadInput) as wrong:
        found.route("relay", Relay)
    assert wrong.value.findings[0].splitlines()[0] == (
        f"{tmp_path}/sendwave.yaml:4:5: routes.relay.prot: unknown key 'prot'. Did you mean 'port'?"
    )
    with pytest.raises(NotFound, match=r"has no route 'rely'\. Did you mean 'relay'\?"):
        found.route("rely", Relay)


def test_settings_made_in_code_check_routes_too() -> None:
    made = Settings(routes={"relay": {"esp": "smtp", "port": 2525}})
    assert made.route("relay", Relay).port == 2525
    with pytest.raises(BadInput):
        Settings(routes={"relay": {"esp": "smtp", "prot": 1}}).route("relay", Relay)


def test_a_lake_in_a_bucket(tmp_path: Path) -> None:
    text = "lake: s3://our-lake/shop/one/\nbucket: {endpoint: 'https://s3.example:9000/', region: gra, cache: 2GB}\n"
    found = loaded(tmp_path, text)
    assert found.lake == BucketPlace("our-lake", "shop/one")
    assert str(found.lake) == "s3://our-lake/shop/one"
    assert (found.bucket.endpoint, found.bucket.region, found.bucket.cache_bytes) == (
        "https://s3.example:9000",
        "gra",
        2_000_000_000,
    )
    assert loaded(tmp_path, "", {"SENDWAVE_LAKE": "s3://other"}).lake == BucketPlace("other", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lake: s3://Our_Lake", "is no lake: write a folder, or s3://BUCKET/PREFIX"),
        ("lake: gs://our-lake", "is no lake"),
        ("lake: s3://our-lake/a b", "is no lake"),
        ("lake: s3://our-lake/../other", "is no lake"),
        ("bucket: {endpoint: s3.example}", "an endpoint is https://HOST"),
        ("bucket: {endpoint: 'https://key:secret@s3.example'}", "credentials are the environment's"),
        ("bucket: {secret: x}", "secret"),
        ("bucket: {cache: much}", "no amount of memory"),
    ],
)
def test_a_bucket_that_is_none(tmp_path: Path, text: str, told: str) -> None:
    (found,) = findings(tmp_path, text)
    assert told in found
