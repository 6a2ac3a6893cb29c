"""Read the policy files: shipped defaults, the user's files over them, every mistake of all files at once.

tiers.yaml, score.yaml, alerts.yaml and report.yaml replace the shipped one whole, types/*.yaml type by type,
audiences/*.yaml audience by audience, gates.yaml set by set; lanes.yaml is laid over provider by provider and key by
key. A shipped campaign type that speaks of tiers the user's tiers.yaml does not have is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from sendwave import documents
from sendwave.documents import Document
from sendwave.errors import BadInput, NotFound, did_you_mean
from sendwave.rules import grid as grids
from sendwave.rules import policy as rules
from sendwave.rules.alerts import Alert, AlertsFile
from sendwave.rules.audience import NamedAudience, Who, mistakes_in
from sendwave.rules.budgets import Budgets, foreign
from sendwave.rules.campaign import CampaignFile
from sendwave.rules.gates import GateSet
from sendwave.rules.grid import Grid
from sendwave.rules.policy import CampaignType, Contradiction, GatesFile, PolicySet
from sendwave.rules.report_policy import Worth
from sendwave.rules.throttle import Lanes
from sendwave.rules.tiers import Tiers

KINDS: Final[Mapping[str, type[BaseModel]]] = {
    "type": CampaignType,
    "audience": NamedAudience,
    "tiers": Tiers,
    "gates": GatesFile,
    "lanes": Lanes,
    "score": Grid,
    "alerts": AlertsFile,
    "report": Worth,
    "budgets": Budgets,
    "campaign": CampaignFile,
}
"""What each kind of file is checked against: the policy files, and the file a campaign is created from."""

EXAMPLES: Final = ("retail", "finance")
_FILES: Final = ("tiers.yaml", "gates.yaml", "lanes.yaml", "score.yaml", "alerts.yaml", "report.yaml", "budgets.yaml")
SAMPLE_DAY: Final = "2026-03-02T04:00+01:00"
"""The instant the examples' data sets were made for."""
_FOLDERS: Final = ("types", "audiences", "schema", "examples")
_PACKAGE: Final = Path(__file__).parent.parent
Read = TypeVar("Read", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a folder says, and what is worth a second look without being wrong."""

    policy: PolicySet
    warnings: tuple[str, ...]


def load_policies(folder: Path | None) -> PolicySet:
    """The shipped policy with the files of `folder` over it. Raises BadInput with the mistakes of all files."""
    return read(folder).policy


def read(folder: Path | None) -> Reading:
    """Like `load_policies`, with the warnings `sendwave check` shows. Raises BadInput."""
    base, own = _shipped(), _Layer()
    if folder is not None:
        own.read(folder)
    warnings = [*_check_types(base, own), *_check_shared(base, own), *_check_audiences(base, own)]
    if own.mistakes:
        count = "a mistake" if len(own.mistakes) == 1 else f"{len(own.mistakes)} mistakes"
        raise BadInput(f"{count} in the policies of {folder}", tuple(own.mistakes))
    return Reading(_merged(base, own), tuple(warnings))


def shipped(example: str = "retail") -> Path:
    """The folder of an example's policy files; `retail` are the defaults. Raises NotFound for another name."""
    if example not in EXAMPLES:
        raise NotFound(f"there is no example {example!r}.{did_you_mean(example, EXAMPLES)}")
    packaged = _PACKAGE / "policies_default"  # in a wheel; a checkout has them at its top
    top = packaged if packaged.is_dir() else _PACKAGE.parent / "policies"
    return top if example == "retail" else top / "examples" / example


def starter(example: str) -> dict[str, str]:
    """The files a new workspace's policies/ begins with: relative path > text. Lanes stay with the shipped ones.

    Raises NotFound for an unknown example.
    """
    source, schemas = shipped(example), shipped() / "schema"
    files = {"schema/" + path.name: path.read_text(encoding="utf-8") for path in sorted(schemas.glob("*.json"))}
    for path in [*source.glob("*.yaml"), *source.glob("types/*.yaml"), *source.glob("audiences/*.yaml")]:
        name = path.relative_to(source).as_posix()
        if name != "lanes.yaml":
            text = path.read_text(encoding="utf-8")
            files[name] = text.replace("$schema=../../", "$schema=", 1) if example != "retail" else text
    return files


def sample(example: str) -> dict[str, str]:
    """A small data set made for that example, to score as of `SAMPLE_DAY`: file name > text. Raises NotFound."""
    shipped(example)
    folder = shipped() / "examples" / example / "data"
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.csv"))}


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema of one kind of file, for editors. Raises NotFound for a kind that is none of `KINDS`."""
    if kind not in KINDS:
        raise NotFound(f"there is no kind of policy file called {kind!r}.{did_you_mean(kind, KINDS)}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **KINDS[kind].model_json_schema()}


@dataclass(slots=True)
class _Layer:
    """The files of one folder that could be read, their positions, and what is wrong with the others."""

    tiers: Tiers | None = None
    score: Grid | None = None
    report: Worth | None = None
    budgets: Budgets | None = None
    alerts: dict[str, Alert] | None = None
    gates: dict[str, GateSet] = field(default_factory=dict)
    lanes: Lanes = field(default_factory=Lanes)
    types: dict[str, CampaignType] = field(default_factory=dict)
    audiences: dict[str, NamedAudience] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)  # by file name, types/NAME.yaml for a type's own
    mistakes: list[str] = field(default_factory=list)
    found: set[str] = field(default_factory=set)  # files that are there, readable or not
    folder: str = ""

    def read(self, folder: Path) -> None:
        """Read every policy file of `folder`."""
        self.folder = str(folder)
        if not folder.is_dir():
            self.mistakes.append(f"{folder}:1:1: there is no such folder; make it, it may stay empty")
            return
        self._refuse_strangers(folder)
        self.tiers = self._one(folder, "tiers.yaml", Tiers)
        self.score = self._one(folder, "score.yaml", Grid)
        self.report = self._one(folder, "report.yaml", Worth)
        self.budgets = self._one(folder, "budgets.yaml", Budgets)
        if alerts := self._one(folder, "alerts.yaml", AlertsFile):
            self.alerts = alerts.alerts
        if gates := self._one(folder, "gates.yaml", GatesFile):
            self.gates = gates.root
        self.lanes = self._one(folder, "lanes.yaml", Lanes) or Lanes()
        for path in sorted((folder / "types").glob("*.yaml")):
            if found := self._named(folder, path, CampaignType, "type"):
                self.types[found.type] = found
        for path in sorted((folder / "audiences").glob("*.yaml")):
            if told := self._named(folder, path, NamedAudience, "audience"):
                self.audiences[told.audience] = told

    def at(self, file: str, contradictions: Iterable[Contradiction]) -> Iterator[str]:
        """Contradictions in one of the layer's files, with their place."""
        for loc, problem, at_key in contradictions:
            yield self.documents[file].mistake(loc, problem, at_key=at_key).text

    def part(self, file: str, *loc: str) -> list[str]:
        """The keys of a mapping as it stands in a file, right or wrong; none where there is no mapping."""
        value = self.documents[file].data if file in self.documents else None
        for key in loc:
            value = value.get(key) if isinstance(value, dict) else None
        return list(value) if isinstance(value, dict) else []

    def _one(self, folder: Path, name: str, model: type[Read]) -> Read | None:
        path = folder / name
        if not path.exists():
            return None
        self.found.add(name)
        try:
            self.documents[name] = documents.load(path)
            return documents.validate(self.documents[name], model)
        except BadInput as wrong:
            self.mistakes += wrong.findings
            return None

    def _named(self, folder: Path, path: Path, model: type[Read], naming: str) -> Read | None:
        """One file of several of a kind; a second one of the same name is a mistake in both eyes."""
        name = path.relative_to(folder).as_posix()
        found = self._one(folder, name, model)
        document = self.documents.get(name)
        key = document.data.get(naming) if document is not None and isinstance(document.data, dict) else None
        if document is None or not isinstance(key, str):
            return None
        if (first := self.documents.get(f"{naming} {key}")) is not None:
            what = "campaign type" if naming == "type" else naming
            problem = f"the {what} {key!r} is defined in {first.name} already: keep one of the two"
            self.mistakes.append(document.mistake((naming,), problem).text)
            return None
        self.documents[f"{naming} {key}"] = document
        return found

    def _refuse_strangers(self, folder: Path) -> None:
        """YAML files nobody would read, probably misspelt."""
        for path in sorted(folder.glob("*.y*ml")):
            if path.name not in _FILES:
                hint = did_you_mean(path.name, _FILES)
                self.mistakes.append(f"{path}:1:1: no policy file has this name, it would not be read.{hint}")
        for path in sorted(folder.glob("*/*.y*ml")):
            if path.parent.name in ("types", "audiences") and path.suffix != ".yaml":
                self.mistakes.append(f"{path}:1:1: it would not be read: name it {path.stem}.yaml")
            elif path.parent.name not in _FOLDERS:
                hint = did_you_mean(path.parent.name, ("types", "audiences"))
                self.mistakes.append(f"{path}:1:1: no policy folder is called {path.parent.name!r}.{hint}")


def _check_types(base: _Layer, own: _Layer) -> Iterator[str]:
    """Add what is wrong in the user's campaign types to `own.mistakes`; yield what is worth a look."""
    tiers = own.tiers or (None if "tiers.yaml" in own.found else base.tiers)
    for file in [name for name in own.documents if name.startswith("types/")]:
        named = own.part(file, "tiers")  # also of a file with other mistakes
        own.mistakes += own.at(file, rules.unknown_tiers(named, tiers) if tiers else ())
    for key, kind in own.types.items():
        file = f"type {key}"
        sets = {*base.gates, *own.part("gates.yaml")}
        own.mistakes += own.at(file, [*rules.pointless(kind), *rules.unknown_gates(kind, sets)])
        if Path(own.documents[file].name).stem != key:
            yield own.documents[file].mistake(("type",), f"a file is best named after its type: {key}.yaml").text
    if left := sorted(set(base.types) - set(_fitting(base, own)) - set(own.types)):
        yield (
            f"{own.folder}/tiers.yaml:1:1: has other tiers than the shipped campaign types "
            f"{', '.join(left)}: they are left out, write types/{left[0]}.yaml to have one"
        )


def _check_audiences(base: _Layer, own: _Layer) -> Iterator[str]:
    """The same for audiences, named and of campaign types: names that lead nowhere, or in a circle."""
    known = base.audiences | own.audiences
    asked: list[tuple[str, str, Who]] = [(f"type {key}", "audience", kind.audience) for key, kind in own.types.items()]
    asked += [(f"audience {key}", "who", told.who) for key, told in own.audiences.items()]
    for file, at, who in asked:
        document = own.documents[file]
        for loc, slip in mistakes_in(known, who):
            own.mistakes.append(document.mistake((at, *loc), str(slip), offset=slip.offset).text)
    for key in own.audiences:
        if Path(own.documents[f"audience {key}"].name).stem != key:
            problem = f"a file is best named after its audience: {key}.yaml"
            yield own.documents[f"audience {key}"].mistake(("audience",), problem).text


def _check_shared(base: _Layer, own: _Layer) -> Iterator[str]:
    """The same for tiers, gates, lanes and the scoring grid."""
    if own.score is not None:
        own.mistakes += own.at("score.yaml", (Contradiction(*one) for one in grids.mistakes(own.score)))
        yield from own.at("score.yaml", (Contradiction(*one) for one in grids.doubts(own.score)))
    if own.gates:
        own.mistakes += own.at("gates.yaml", rules.unknown_signals(own.gates))
        yield from own.at("gates.yaml", rules.dropped_gates(own.gates, base.gates))
    if "lanes.yaml" in own.documents:
        own.mistakes += own.at("lanes.yaml", rules.claimed_twice(rules.laid_over(base.lanes, own.lanes)))
    if own.budgets is not None:
        worth = own.report or base.report or Worth()
        wrong = (Contradiction(("channels", name), told) for name, told in foreign(own.budgets, worth))
        yield from own.at("budgets.yaml", wrong)
    if own.tiers is not None:
        yield from own.at("tiers.yaml", rules.unreached(own.tiers, _fitting(base, own) | own.types))


def _fitting(base: _Layer, own: _Layer) -> dict[str, CampaignType]:
    """The shipped campaign types whose tiers exist."""
    tiers = own.tiers or base.tiers
    return {
        k: kind for k, kind in base.types.items() if tiers is None or not any(rules.unknown_tiers(kind.tiers, tiers))
    }


def _merged(base: _Layer, own: _Layer) -> PolicySet:
    tiers = own.tiers or base.tiers
    assert tiers is not None, "the shipped tiers are missing"
    return PolicySet(
        tiers=tiers,
        types=_fitting(base, own) | own.types,
        gates=base.gates | own.gates,
        lanes=rules.laid_over(base.lanes, own.lanes),
        audiences=base.audiences | own.audiences,
        score=own.score or base.score,
        report=own.report or base.report or Worth(),
        budgets=own.budgets or base.budgets or Budgets(),
        alerts=(base.alerts or {}) if own.alerts is None else own.alerts,
    )


@cache
def _shipped() -> _Layer:
    """The defaults of the package. Raises BadInput when the installation lacks them."""
    layer = _Layer()
    layer.read(shipped())
    if layer.mistakes:
        raise BadInput("the shipped policies cannot be read; install sendwave again", tuple(layer.mistakes))
    return layer
