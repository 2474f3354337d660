"""The command `capibara`: `python -m capibara run script.py`."""

from __future__ import annotations

import os
import signal
import sys

from ._capibara import main as command
from ._packed import packed_runtime


def main() -> int:
    """Runs the command line of this process and returns its exit code."""
    # The command has handlers of its own while a script runs; until then Ctrl-C ends it as it ends any program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    pack = packed_runtime()
    if pack is not None:
        # For the command, which is this process from here on.
        os.environ["CAPIBARA_PACK"] = str(pack)
    return command(["capibara", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
