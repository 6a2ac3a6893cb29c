"""Measure text messages before they are paid for: everybody's text as it will leave, and the parts it takes.

Merge fields make the length vary: one accented name can turn a text of one part into one of three. A token stands in
for the person's own, which is as long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sendwave.esp.content import Content, one_line
from sendwave.rules.messages import measure, simplify
from sendwave.rules.policy import Channel
from sendwave.rules.token import LENGTH
from sendwave.store import payloads
from sendwave.store.campaigns import Campaign

_TOKEN: Final = "0" * LENGTH


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of campaigns. `simplifying` are the routes that send plain quotes for curly ones."""

    home: Path  # what `content` is relative to
    simplifying: Collection[str] = ()
    unsubscribe: str | None = None  # our own one-click URL with {token}, for campaigns that name none

    def measured(self, campaign: Campaign) -> bool:
        """Whether it is a text message whose text is ours."""
        told = campaign.settings
        return campaign.channel == Channel.SMS and told.content is not None and told.provider_template is None

    def parts(self, campaign: Campaign, people: pa.Table) -> NDArray[np.int64]:
        """Parts of each person's text, at least 1: `people` have address, language and the merge fields `attr_*`.

        Raises BadInput for content that cannot be sent.
        """
        sizes: dict[str, int] = {}
        found = np.ones(people.num_rows, np.int64)
        for place, text in enumerate(self.written(campaign, people)):
            if text not in sizes:
                sizes[text] = max(1, measure(text).parts)
            found[place] = sizes[text]
        return found

    def written(self, campaign: Campaign, people: pa.Table) -> Iterator[str]:
        """Everybody's text as it leaves. Raises BadInput as `parts` does."""
        told, count = campaign.settings, people.num_rows
        content = Content(self.home / (told.content or ""), told.subject)
        link = one_line(told.unsubscribe or self.unsubscribe or "").replace("{token}", _TOKEN)
        same = {"token": _TOKEN, "unsubscribe_url": link, "campaign": campaign.name}
        columns = {
            **payloads.fields(people),
            "email": people["address"].to_pylist(),
            **{name: [word] * count for name, word in same.items()},
        }
        plain = campaign.settings.route in self.simplifying
        for text in content.merge(columns, count).texts("text"):
            yield simplify(text.strip()) if plain else text.strip()
