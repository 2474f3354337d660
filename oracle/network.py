"""Requests to servers on this machine, past any proxy."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """A port of the loopback address that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(url: str, body: Any = None, headers: dict[str, str] | None = None, seconds: float = 60.0) -> tuple[int, bytes]:
    """Status and body of the answer to a GET, or to a POST of this JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})})
    try:
        with DIRECT.open(request, timeout=seconds) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def until_ready(url: str, server: subprocess.Popen[Any], seconds: float = 30.0) -> None:
    """Waits until a server that was started answers there with status 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            if ask(url, seconds=1.0)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"nobody answers at {url}; the server's exit code is {server.poll()}")
