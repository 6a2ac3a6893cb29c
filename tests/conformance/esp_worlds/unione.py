"""Where the unione adapter is tested: a local server that speaks its requests."""

from __future__ import annotations

from http_esps import conforming

world, away = conforming("unione")
