"""An S3 server that is having a bad day: a proxy in front of a real one, which spoils some requests."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# What can become of a request.
KINDS = ("500", "503", "slow", "twice", "lost")
_SLOW_SECONDS = 0.5
_ERROR = "<Error><Code>{code}</Code><Message>not now</Message></Error>"
_HOP = {"transfer-encoding", "connection", "keep-alive"}  # headers of one connection only


class FaultyS3:
    """``odds``: of each kind, how often. ``forced``: the kinds of the next requests, before all chance."""

    def __init__(self, server: str, seed: int = 0) -> None:
        self.odds: dict[str, float] = {}
        self.forced: list[str] = []
        self.met: Counter[str] = Counter()
        self.requests = 0
        self.host = urlsplit(server).netloc
        self._luck = random.Random(seed)
        self._lock = threading.Lock()

    def fate(self) -> str:
        """What becomes of the next request; "" where nothing does."""
        with self._lock:
            self.requests += 1
            if self.forced:
                found = self.forced.pop(0)
            else:
                drawn = self._luck.random()
                found = ""
                for kind, odds in self.odds.items():
                    if 0 <= drawn < odds:
                        found = kind
                    drawn -= odds
            self.met[found] += 1
            return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultyS3

    def _handle(self) -> None:
        body = self._body()
        fate = self.faulty.fate()
        if fate in ("500", "503"):
            code = "InternalError" if fate == "500" else "SlowDown"
            self._answer(int(fate), {}, _ERROR.format(code=code).encode())
            return
        if fate == "slow":
            time.sleep(_SLOW_SECONDS)
        status, headers, answer = self._forward(body)
        if fate == "twice":
            status, headers, answer = self._forward(body)
        if fate == "lost":
            self.close_connection = True
            self.connection.close()
            return
        self._answer(status, headers, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        server = http.client.HTTPConnection(self.faulty.host, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP | {"expect"}}
            headers["Content-Length"] = str(len(body))
            server.request(self.command, self.path, body=body, headers=headers)
            answer = server.getresponse()
            content = answer.read()
            return answer.status, dict(answer.getheaders()), content
        finally:
            server.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP | {"content-length"}:
                self.send_header(name, value)
        length = headers.get("Content-Length") or headers.get("content-length") or "0"
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@contextmanager
def faulty_s3(server: str) -> Iterator[tuple[str, FaultyS3]]:
    """The proxy's URL, and what steers it."""
    faulty = FaultyS3(server)
    handler = type("Handler", (_Handler,), {"faulty": faulty})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}", faulty
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
