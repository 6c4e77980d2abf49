"""A Hugging Face hub of one's own, on loopback, that has one model."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """What the Hugging Face hub answers for one model: its list of files, and the files."""

    files: dict[str, Path]
    asked: list[str]
    moved: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        marker = f"/me/model/resolve/{COMMIT}/"
        if self.path.startswith(
            ("/api/models/me/model/revision/v1", f"/api/models/me/model/revision/{COMMIT}")
        ):
            siblings = [{"rfilename": name} for name in self.files]
            info = {"id": "me/model", "sha": COMMIT, "siblings": siblings}
            self.send(json.dumps(info).encode(), "application/json", body)
        elif self.path.startswith("/api/models/me/model/revision/main"):
            # Its first reader sees the commit; then another one is pushed, of which there are no files.
            info = {"id": "me/model", "sha": COMMIT if not self.moved else "f" * 40}
            siblings = [{"rfilename": name} for name in self.files]
            self.send(json.dumps({**info, "siblings": siblings}).encode(), "application/json", body)
            if body:
                self.moved.append(self.path)
        elif self.path.startswith("/api/models/me/model/tree/"):
            tree = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
                for name, path in self.files.items()
            ]
            self.send(json.dumps(tree).encode(), "application/json", body)
        elif self.path.startswith(marker):
            name = self.path.removeprefix(marker).partition("?")[0]
            self.asked.append(f"GET {name}" if body else name)
            self.send(self.files[name].read_bytes(), "application/octet-stream", body)
        else:
            self.send_error(404)

    def send(self, content: bytes, kind: str, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Tests stay quiet."""


@contextmanager
def hub_of(files: dict[str, Path], asked: list[str]) -> Iterator[str]:
    """The hub's URL, as long as it runs. ``files``: by their names; ``asked``: what it was asked for."""
    handler = type("OneModel", (Hub,), {"files": files, "asked": asked, "moved": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
