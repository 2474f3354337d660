"""Where the oracles keep what they fetch, and the Python they run in."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def cache() -> Path:
    """The oracles' part of the cache folder of Capibara."""
    if named := os.environ.get("CAPIBARA_CACHE_DIR"):
        folder = Path(named).absolute()
    elif (named := os.environ.get("XDG_CACHE_HOME", "")).startswith("/"):
        folder = Path(named) / "capibara"
    else:
        folder = Path.home() / ".cache" / "capibara"
    return folder / "oracle"


def say(text: str) -> None:
    """Tells the user; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def python() -> Path:
    """The Python that has the required packages, which are installed if they are not yet there."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = cache() / f"python-{version}-{digest}"
    interpreter = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        say(f"installing the oracles' packages into {folder}")
        venv.create(folder, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([interpreter, *install, "--requirement", REQUIREMENTS], check=True, stdout=sys.stderr)
        complete.touch()
    return interpreter


def enter() -> None:
    """Goes on in the Python that has the required packages, if this is another one."""
    interpreter = python()
    if Path(sys.prefix) != interpreter.parent.parent:
        os.execv(interpreter, [str(interpreter), *sys.argv])
