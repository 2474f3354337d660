"""The runtime that a wheel brings along."""

from __future__ import annotations

import os
from pathlib import Path


def packed_runtime() -> Path | None:
    """The pack of the Python runtime beside this file; `None` in a wheel without one, and where `CAPIBARA_PACK` names another."""
    path = Path(__file__).with_name("python.tar.xz")
    return path if path.is_file() and not os.environ.get("CAPIBARA_PACK") else None
