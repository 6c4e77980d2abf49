"""A head of a Ray of one's own, with a job server on loopback that wants a token."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil
from runs import wait_until

_MARK = "LTX_RAY_TEST_HEAD"  # of the environment of all its processes
_LEAVES = 30.0  # seconds, for a head that was told to end


@dataclass(frozen=True, slots=True)
class Head:
    """A Ray that runs."""

    address: str  # URL of the job server
    gcs: str  # where drivers and nodes reach it
    token: Path
    folder: Path  # in which it was started, of no run
    process: "subprocess.Popen[str]"

    def environment(self) -> dict[str, str]:
        """Of who may use it."""
        return _access(self.token)

    def processes(self) -> list[psutil.Process]:
        """All of it, and of its jobs."""
        return [each for each in psutil.process_iter() if _is_marked(each, str(self.folder))]


@contextmanager
def ray_head(
    repository: Path,
    *,
    cpus: int = 2,
    autoscaling: Callable[[str], str] | None = None,  # the autoscaler's config, by the address for nodes
    variables: Mapping[str, str] = MappingProxyType({}),  # of all its processes
) -> Iterator[Head]:
    """A head on whose node ``repository`` is installed."""
    with tempfile.TemporaryDirectory(prefix="ltx-", dir="/tmp") as name:
        folder = Path(name)
        token, (gcs, dashboard, agent, client) = folder / "token", _free_ports(4)
        token.write_text(secrets.token_hex(32))
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        _install(repository, folder / "bin")
        places = [str(folder / "bin"), str(Path(sys.executable).parent), inherited["PATH"]]
        inherited["PATH"] = os.pathsep.join(places)
        # Drivers would look for 127.0.0.1 at the machine's own address, where nothing is open.
        mine = {_MARK: name, "PYTHONPATH": str(repository), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        words += [f"--num-cpus={cpus}", "--num-gpus=0", "--disable-usage-stats", f"--temp-dir={folder}/ray"]
        words += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--port={gcs}"]
        words += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        words += [f"--ray-client-server-port={client}", "--object-store-memory=400000000"]
        address = f"127.0.0.1:{gcs}"
        if autoscaling is not None:
            (folder / "autoscaling.yaml").write_text(autoscaling(address))
            words.append(f"--autoscaling-config={folder}/autoscaling.yaml")
        with (folder / "log").open("wb") as log:
            environ = {**inherited, **mine, **_access(token), **variables}
            process = subprocess.Popen(words, env=environ, cwd=folder, stdout=log, stderr=log, text=True)
        head = Head(f"http://127.0.0.1:{dashboard}", address, token, folder, process)
        try:
            wait_until(lambda: _answers(head), process)
            yield head
        finally:
            _end(head)


def _access(token: Path) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def _install(repository: Path, folder: Path) -> None:
    """The console script, as pip makes it of pyproject.toml."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["ltx-ray"].partition(":")
    script = folder / "ltx-ray"
    folder.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    )
    script.chmod(0o755)


def _end(head: Head) -> None:
    head.process.terminate()
    try:
        head.process.wait(_LEAVES)
    except subprocess.TimeoutExpired:
        head.process.kill()
        head.process.wait()
    left = head.processes()
    for each in psutil.wait_procs(left, timeout=5)[1]:
        each.kill()
    psutil.wait_procs(left, timeout=5)


def _answers(head: Head) -> bool:
    """Whether the job server answers, which it does to strangers by refusing them."""
    try:
        urllib.request.urlopen(f"{head.address}/api/version", timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return False


def _free_ports(count: int) -> list[int]:
    found = [socket.socket() for _ in range(count)]
    try:
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]
    finally:
        for each in found:
            each.close()


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_MARK) == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
