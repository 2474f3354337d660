#!/usr/bin/env python3
"""A real llama.cpp server that gives the answers it is told to give, one after the other.

`python3 oracle/llama.py serve FILE [FILE ...]` prints the base address of a server and goes on until its standard input ends. The first
request for an answer (chat completions, responses, messages; plain or streamed) gets the text of the first file, the second that of
the second, and the last text is repeated. Requests need the key `key-of-nobody`.

`python3 oracle/llama.py check` asks such servers in all ways and compares. The exit code is 0 if all is as it should be, and 77 if the
server could not be fetched.

The server comes from Debian's unstable distribution and lies in the cache folder with all it needs; nothing is installed. Its
model has random weights; a grammar lets it say nothing but the text. Each text has its own process, and a relay gives each
request to the process whose turn it is: a server's grammar holds for all its requests, and messages take none of their own.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import environment
import network

PACKAGE = "llama.cpp-tools"
COULD_NOT_FETCH = 77
KEY = "key-of-nobody"
MODEL = "tiny-random"
# A token is a byte: questions of Capibara have some thousands.
WINDOW = 32768
MOST_HEAD = 65536
SECONDS = 120.0


def fetch() -> Path:
    """The folder with the server and everything it loads, fetched if it is not there."""
    store = environment.cache() / "llama.cpp"
    there = sorted(path.parent for path in store.glob("*/complete"))
    if there:
        return there[-1]
    store.mkdir(parents=True, exist_ok=True)
    environment.say(f"fetching {PACKAGE} into {store}")
    with tempfile.TemporaryDirectory(dir=store) as name:
        work = Path(name)
        options = private_apt(work)
        for words in (["update"], ["install", "--yes", "--download-only", PACKAGE]):
            subprocess.run(["apt-get", *options, "-qq", *words], check=True, stdout=sys.stderr)
        root = work / "root"
        archives = sorted((work / "cache" / "archives").glob("*.deb"))
        for archive in archives:
            subprocess.run(["dpkg-deb", "--extract", archive, root], check=True)
        (root / "complete").write_text("".join(f"{archive.name}\n" for archive in archives))
        version = next(it.name.split("_")[1] for it in archives if it.name.startswith(f"{PACKAGE}_"))
        folder = store / re.sub(r"[^0-9A-Za-z.+~-]", "-", version.replace("%3a", "-"))
        root.rename(folder)
    return folder


def private_apt(work: Path) -> list[str]:
    """Options that let apt look at the unstable distribution of the mirror this machine uses, and touch nothing else."""
    sources = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")
    text = "\n".join(path.read_text() for path in sources if path.exists())
    mirror = re.search(r"^(?:URIs:|deb (?:\[.*\] )?)\s*(\S+)", text, re.MULTILINE)
    if not mirror:
        raise FileNotFoundError("no mirror of Debian is set up for apt")
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (work / "sources").write_text(f"deb [signed-by={keyring}] {mirror[1]} sid main\n")
    (work / "status").touch()
    for folder in ("state/lists/partial", "cache/archives/partial", "none"):
        (work / folder).mkdir(parents=True)
    settings = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources",
        "Dir::Etc::sourceparts": work / "none",
        "Dir::Etc::preferencesparts": work / "none",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def model() -> Path:
    """The model file, made if it is not there."""
    maker = Path(__file__).with_name("tiny_model.py")
    digest = hashlib.sha256(maker.read_bytes()).hexdigest()[:16]
    path = environment.cache() / f"tiny-{WINDOW}-{digest}.gguf"
    if not path.exists():
        draft = path.with_suffix(".draft")
        subprocess.run([environment.python(), maker, draft, str(WINDOW)], check=True)
        draft.rename(path)
    return path


def grammar(text: str) -> str:
    """A grammar (GBNF) that allows this text alone."""
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return 'root ::= "' + "".join(named.get(letter, letter) for letter in text) + '"\n'


@contextlib.contextmanager
def answering(text: str) -> Iterator[int]:
    """A server that always says this; gives its port."""
    root, port = fetch(), network.free_port()
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    loader = next(libraries.glob("ld-linux*.so*"))
    processor = next(libraries.glob("ggml/backends0/libggml-cpu-x64.so"))
    with tempfile.TemporaryDirectory() as work:
        rules = Path(work) / "answer.gbnf"
        rules.write_text(grammar(text))
        search = ":".join(str(libraries / name) for name in ("", "llama", "ggml"))
        options = {
            "--model": model(),
            "--alias": MODEL,
            "--host": "127.0.0.1",
            "--port": port,
            "--api-key": KEY,
            "--grammar-file": rules,
            "--ctx-size": WINDOW,
            "--parallel": 1,
            "--threads": 1,
            "--predict": 8192,
            "--temp": 0,
        }
        words = [str(word) for pair in options.items() for word in pair]
        command = [str(loader), "--library-path", search, str(root / "usr" / "bin" / "llama-server"), *words]
        log = Path(work) / "log"
        variables = {**os.environ, "GGML_BACKEND_PATH": str(processor), "HOME": work}
        with log.open("wb") as output:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=variables)
        try:
            network.until_ready(f"http://127.0.0.1:{port}/health", server)
            yield port
        except RuntimeError:
            environment.say(log.read_text(errors="replace")[-2000:])
            raise
        finally:
            server.kill()
            server.wait()


class Relay:
    """Gives the first request for an answer to the first server, and so on; the last one gets all that follow."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.posts = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Takes connections until the listener is closed."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client: socket.socket) -> None:
        """One request, and its answer as the bytes come; then the connection ends, as the server itself says."""
        with client, contextlib.suppress(OSError):
            client.settimeout(SECONDS)
            received = b""
            while b"\r\n\r\n" not in received and len(received) < MOST_HEAD:
                piece = client.recv(MOST_HEAD)
                if not piece:
                    return
                received += piece
            head, _, body = received.partition(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            lengths = [line.split(b":")[1] for line in lines if line.lower().startswith(b"content-length:")]
            with socket.create_connection(("127.0.0.1", self.turn(head)), SECONDS) as server:
                server.sendall(b"\r\n".join([*lines, b"connection: close", b"", b""]) + body)
                missing = int(lengths[0]) - len(body) if lengths else 0
                while missing > 0 and (piece := client.recv(MOST_HEAD)):
                    server.sendall(piece)
                    missing -= len(piece)
                while piece := server.recv(MOST_HEAD):
                    client.sendall(piece)

    def turn(self, head: bytes) -> int:
        """The port for this request."""
        with self.lock:
            port = self.ports[min(self.posts, len(self.ports) - 1)]
            self.posts += head.startswith(b"POST ")
            return port


@contextlib.contextmanager
def saying(*texts: str) -> Iterator[str]:
    """A server that gives these answers in turn; gives its address."""
    with contextlib.ExitStack() as servers:
        relay = Relay([servers.enter_context(answering(text)) for text in texts])
        servers.callback(relay.listener.close)
        yield relay.url


def said(answer: Any) -> str:
    """The text in a plain answer of one of the three APIs."""
    if "choices" in answer:
        return str(answer["choices"][0]["message"]["content"])
    if "output" in answer:
        return "".join(part["text"] for item in answer["output"] for part in item["content"] if "text" in part)
    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")


def streamed(events: bytes) -> str:
    """The text in a streamed answer of one of the three APIs."""
    text = ""
    for line in events.decode().splitlines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        if event.get("choices"):
            text += event["choices"][0]["delta"].get("content") or ""
        elif event.get("type") == "response.output_text.delta":
            text += event["delta"]
        elif event.get("type") == "content_block_delta":
            text += event["delta"].get("text", "")
    return text


class Checks:
    """Counts what is as it should be."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def same(self, name: str, seen: Any, expected: Any) -> None:
        """One comparison, as a line of the table."""
        good = seen == expected
        self.passed += good
        self.failed += not good
        print(f"{name:44} {'ok' if good else f'FAILED: {seen!r}, not {expected!r}'}", flush=True)


def check() -> int:
    """Asks in all ways."""
    flawed = "Here is the script:\n\n```python\nprint(undefined_name)\n```\n"
    fixed = 'Here is the script again:\n\n```python\ntext = "6 \u00d7 7 =\\t"\nprint(text, 6 * 7)\n```\n'
    key = {"authorization": f"Bearer {KEY}"}
    messages = [{"role": "user", "content": "Print six times seven."}]
    asks: dict[str, dict[str, Any]] = {
        "chat/completions": {"model": MODEL, "messages": messages},
        "responses": {"model": MODEL, "input": "Print six times seven."},
        "messages": {"model": MODEL, "max_tokens": 1024, "messages": messages},
    }
    checks = Checks()

    def post(url: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> tuple[int, bytes]:
        return network.ask(f"{url}/v1/{path}", {**asks[path], **more}, key if headers is None else headers, SECONDS)

    for path in asks:
        with saying(flawed, fixed) as url:
            for turn, expected in enumerate((flawed, fixed, fixed)):
                status, body = post(url, path)
                checks.same(
                    f"{path}: answer {turn}", (status, status == 200 and said(json.loads(body))), (200, expected)
                )
        with saying(flawed, fixed) as url:
            for turn, expected in enumerate((flawed, fixed)):
                status, body = post(url, path, stream=True)
                checks.same(f"{path}: streamed answer {turn}", (status, streamed(body)), (200, expected))
    with saying(fixed) as url:
        chat = "chat/completions"
        checks.same("wrong key", post(url, chat, {"authorization": "Bearer other"})[0], 401)
        status, body = post(url, chat, max_tokens=5)
        checks.same("chat/completions: cut", json.loads(body)["choices"][0]["finish_reason"], "length")
        status, body = post(url, "messages", max_tokens=5)
        checks.same("messages: cut", json.loads(body)["stop_reason"], "max_tokens")
        status, body = post(url, chat, messages=[{"role": "user", "content": "x" * (WINDOW + 1)}])
        error = json.loads(body)["error"]
        checks.same("too long", (status, error["type"]), (400, "exceed_context_size_error"))
        status, body = post(url, chat, messages=[{"role": "user", "content": "x" * 12000}])
        checks.same("a question of 12 KB", said(json.loads(body)), fixed)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


def main() -> int:
    """Serves, or checks."""
    match sys.argv[1:]:
        case ["check"]:
            run = check
        case ["serve", first, *others]:
            texts = [Path(name).read_text() for name in (first, *others)]

            def run() -> int:
                with saying(*texts) as url:
                    print(url, flush=True)
                    sys.stdin.read()
                return 0
        case _:
            environment.say(__doc__)
            return 2
    # Servers are children of this process and must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        fetch()
    except (OSError, subprocess.CalledProcessError) as error:
        environment.say(f"skipped: a real llama.cpp server could not be fetched: {error}")
        return COULD_NOT_FETCH
    return run()


if __name__ == "__main__":
    sys.exit(main())
