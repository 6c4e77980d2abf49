"""Where Prometheus finds the metrics of a run: an HTTP endpoint, and a file that names it."""

import hashlib
import json
import socket
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from ltx_ray.config import MetricsConfig
from ltx_ray.redact import redacted
from ltx_ray.storage import Store

PORT = 9480  # where a port has to be fixed, as in templates
_EVERYWHERE = ("", "0.0.0.0", "::")
_OUTSIDE = ("192.0.2.1", 9)  # an address for documentation: to find our own, nothing is sent there


def run_name(config: MetricsConfig, out: str) -> str:
    """The label ``run``: what the config says, else the last part of ``out``."""
    return config.run_name or redacted(out).partition("?")[0].rstrip("/").rpartition("/")[2] or "run"


class Endpoint:
    """``/metrics`` over HTTP, in a thread of its own."""

    def __init__(self, registry: CollectorRegistry, bind: str, port: int) -> None:
        """Open ``port`` at ``bind``; 0, or a port that is taken, means any free one. Raises OSError where
        ``bind`` is no address of this machine."""
        self._server: WSGIServer
        try:
            self._server, self._thread = start_http_server(port, bind, registry)
        except OSError:
            if not port:
                raise
            self._server, self._thread = start_http_server(0, bind, registry)
        self.is_moved = bool(port) and self._server.server_port != port
        host = own_address() if bind in _EVERYWHERE else bind
        self.address = (
            f"[{host}]:{self._server.server_port}" if ":" in host else f"{host}:{self._server.server_port}"
        )

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class TargetsFile:
    """Names an endpoint to Prometheus's ``file_sd_configs``. A run that is killed leaves its file behind, and
    so Prometheus notices."""

    def __init__(self, folder: str, run: str, shard: str, out: str) -> None:
        """``folder``: path or URL. Runs of one name on different ``out`` have different files."""
        self._store = Store(folder)
        self._labels = {"job": "ltx-ray", "run": run, "shard": shard}
        plain = "".join(each if each.isalnum() or each in "-_." else "-" for each in run)
        digest = hashlib.sha256(out.encode()).hexdigest()[:8]
        self.name = f"ltx-ray-{plain}-{shard}-{digest}.json"

    def write(self, address: str) -> None:
        """Say that the endpoint is at ``address``. Raises StorageError."""
        data = [{"targets": [address], "labels": self._labels}]
        self._store.write(self.name, (json.dumps(data, indent=2) + "\n").encode())

    def remove(self) -> None:
        """There is nothing to be scraped any more. Raises StorageError."""
        self._store.delete(self.name)


def own_address() -> str:
    """This machine's address as others in its network see it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_OUTSIDE)
            return str(probe.getsockname()[0])
        except OSError:  # there is no way out
            return socket.gethostname()
