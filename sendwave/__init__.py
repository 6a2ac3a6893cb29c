"""sendwave sends big CRM campaigns in waves, the most engaged first, and stops by itself."""

from __future__ import annotations

__version__ = "0.1.0"
