"""What one machine is like: asked of every node of a cluster, and of this machine, by the same functions.

They are sent to nodes by value, so that one without ltx_ray can say so: whatever is not in the standard
library is imported where it is used, and answers are plain data.
"""

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch", "diffusers", "transformers", "av")
_OURS = ("ltx_ray", "cluster", "actors", "jobs")
_TORCH_SECONDS = 45.0  # to import torch and count its GPUs
_LEAST_FREE = 2**30  # of a disk, bytes: with less a shot's work does not fit
_STORE_PAUSES = (1.0, 3.0, 0.0)  # seconds after each try of a store that answers with an error


def look(
    folder: str | None = None,
    output: tuple[str, str, bytes] | None = None,
    model: str | None = None,
    inputs: Collection[str] = (),
    with_torch: bool = True,
) -> dict[str, Any]:
    """What ``cluster.facts.Machine`` holds.

    ``folder``: where Ray keeps its files here. ``output``: the URL of OUT, the name of a file in it, and
    what that file holds. ``model``: a checkpoint that is to be there, too. ``inputs``: files that are to be
    readable, paths or URLs. Without ``with_torch`` torch is not asked for its GPUs, which takes seconds.
    """
    gpus, driver = _gpus()
    return {
        "hostname": socket.gethostname(),
        "versions": versions(),
        "gpus": gpus,
        "driver": driver,
        "torch_gpus": _torch_gpus() if gpus and with_torch else None,
        "disk": min(map(_disk, {folder or tempfile.gettempdir(), tempfile.gettempdir()}), key=_free),
        "asks_token": _asks_token() if folder else None,
        "has_tls": os.environ.get("RAY_USE_TLS", "0") in ("1", "true", "True"),
        "output": _output_problem(*output) if output else None,
        "model": _model_state(model) if model else ("well", None),
        "inputs": {each: problem for each in inputs if (problem := _input_problem(each))},
    }


def unfit(
    wanted: dict[str, str | None], url: str, name: str, sha256: str, files: Collection[str]
) -> str | None:
    """Why no actor of a run can work on this machine; None: one can. To be asked before it is made.

    ``wanted``: the run's ``versions``. ``name``, of the hash ``sha256``, is a file in its OUT at ``url``.
    ``files``: others that an actor reads as it is made.
    """
    differences = [
        f"{package} {theirs} (the run has {wanted.get(package)})" if theirs else f"no {package}"
        for package, theirs in versions().items()
        if theirs != wanted.get(package)
    ]
    if differences:
        return f"it has {', '.join(differences)}: install there what the command has"
    disk = _disk(tempfile.gettempdir())
    if disk["free"] < _LEAST_FREE:
        left, least = disk["free"] // 2**20, _LEAST_FREE // 2**20
        return f"{disk['path']} has {left} MiB left there, wanted {least}: free some"
    lost = next((f"{each}: {problem}" for each in files if (problem := _input_problem(each))), None)
    return lost or _run_problem(url, name, sha256)


def versions() -> dict[str, str | None]:
    """Of Python, ltx_ray and the packages that decide the bytes, on this machine; None: not installed."""
    return {"python": platform.python_version(), "ltx_ray": _own_version(), **_versions()}


def model_problem(name: str) -> str | None:
    """Why the files of a checkpoint are not, or not all, on this machine or in its cache."""
    from ltx_ray.errors import ModelError
    from ltx_ray.models.checkpoint import resolve

    try:
        resolve(name, fetch=False)
    except ModelError as error:
        return str(error)
    return None


def fetch_model(name: str) -> None:
    """Fetch the files of a checkpoint into this machine's cache. Raises ModelError."""
    from ltx_ray.models.checkpoint import resolve

    resolve(name)


def now() -> float:
    """Seconds since 1970 by this machine's clock."""
    return time.time()


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _own_version() -> str | None:
    """Version of ltx_ray, and a few digits of the hash of its code: two may call themselves 0.1.0."""
    try:
        import ltx_ray
        from ltx_ray.version import __version__
    except ImportError:
        return None
    home = Path(ltx_ray.__file__).parent.parent
    total = hashlib.sha256()
    for path in sorted(path for name in _OURS for path in (home / name).rglob("*.py")):
        total.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__} (code {total.hexdigest()[:8]})"


def _gpus() -> tuple[list[dict[str, Any]], str | None]:
    """GPUs that NVIDIA's driver sees, whatever CUDA_VISIBLE_DEVICES says, and the driver's version."""
    try:
        import ray._private.thirdparty.pynvml as pynvml
    except ImportError:
        return [], None
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # there is no driver
        return [], None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        gpus = [
            {"name": _text(nvml.nvmlDeviceGetName(each)), "memory": _memory(nvml, each)} for each in handles
        ]
        return gpus, _text(nvml.nvmlSystemGetDriverVersion())
    finally:
        nvml.nvmlShutdown()


def _memory(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:  # one that shares the machine's memory has none of its own
        return 0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _torch_gpus() -> int | None:
    """GPUs that torch can use here: apart, because Ray hides them from a task that asked for none."""
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    words = [
        sys.executable,
        "-c",
        "import torch; print(torch.cuda.device_count(), torch.cuda.is_available())",
    ]
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=_TORCH_SECONDS)
        count, available = done.stdout.split()[-2:]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return int(count) if available == "True" else 0


def _disk(path: str) -> dict[str, Any]:
    usage = shutil.disk_usage(path)
    return {"path": path, "free": usage.free, "total": usage.total}


def _free(disk: dict[str, Any]) -> int:
    return int(disk["free"])


def _asks_token() -> bool:
    """Processes of a node have the environment that it was started with."""
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    return is_token_auth_enabled()


def _output_problem(url: str, name: str, data: bytes) -> str | None:
    """Why this machine cannot use OUT: it must find the file there, and write another one beside it."""
    try:
        from ltx_ray.errors import LtxRayError
        from ltx_ray.storage import Store
    except ImportError as error:
        return f"ltx_ray cannot be imported: {error}"
    try:
        store = Store(url)
        if store.read(name) != data:
            return f"{store.path(name)} has another content here"
        store.create(f"{name}-{uuid.uuid4().hex}", data)
    except FileNotFoundError:
        return f"{store.path(name)}, which was just written, is not there"
    except LtxRayError as error:
        return str(error)
    return None


def _run_problem(url: str, name: str, sha256: str) -> str | None:
    """Why the file of a run is not found here. A store that answers with an error is asked again."""
    from ltx_ray.errors import LtxRayError
    from ltx_ray.storage import Store

    problem = None
    for pause in _STORE_PAUSES:
        try:
            data = Store(url).read(name)
        except FileNotFoundError:
            return f"{url} has no {name} there: it must be a folder that all nodes share, or a URL"
        except LtxRayError as error:
            problem = str(error)
            time.sleep(pause)
            continue
        is_same = hashlib.sha256(data).hexdigest() == sha256
        return None if is_same else f"{url} is another folder there: its {name} is of another run"
    return problem


def _input_problem(url: str) -> str | None:
    """Why a file cannot be read here."""
    try:
        import fsspec

        with fsspec.open(url, "rb") as file:
            file.read(1)
    except Exception as error:  # the libraries of object stores raise errors that are no OSError
        return f"{type(error).__name__}: {error}"
    return None


def _model_state(name: str) -> tuple[str, str | None]:
    """Whether a checkpoint is here, or could be fetched; its weights are not read."""
    try:
        from ltx_ray.errors import ModelAbsentError, ModelError
        from ltx_ray.models import hub
        from ltx_ray.models.checkpoint import resolve
    except ImportError as error:
        return "bad", f"ltx_ray cannot be imported: {error}"
    try:
        resolve(name, fetch=False)
    except ModelAbsentError as absent:
        repository, _, revision = name.partition("@")
        try:
            hub.check(repository, revision or None)
        except ModelError as error:
            return "bad", str(error)
        return "absent", str(absent)
    except ModelError as error:
        return "bad", str(error)
    return "well", None
