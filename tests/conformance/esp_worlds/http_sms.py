"""Where the http_sms adapter is tested: the rehearsal gateway, for notifications, which knows people by any id."""

from __future__ import annotations

from http_esps import conforming

world, away = conforming("http_sms", channel="push")
