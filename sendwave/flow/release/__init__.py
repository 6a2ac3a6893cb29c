"""Release: open the next wave, ask everything again about its people, freeze them into batches; give slots back."""

from __future__ import annotations

from sendwave.flow.release.giving_back import give_back
from sendwave.flow.release.measuring import Texts
from sendwave.flow.release.opening import Released, release

__all__ = ["Released", "Texts", "give_back", "release"]
