"""Ends, or holds, a process of a run at a named moment, from outside: the product knows nothing of it.

Python imports a module of this name at its start. With this folder on PYTHONPATH every process of a run,
actors of Ray included, reads the file that LTX_RAY_FAULT names: JSON with

``who``    "Conditioner", "Denoiser", "TileDecoder", "Assembler": an actor; or "Coordinator"
``when``   "before" its work, "in" it, "after" it and before the commit; "reported": it was committed
``how``    "kill": SIGKILL to the process; "hold": it waits until TOKEN.go is there
``count``  at which such moment of a process
``token``  a file that is made once: one process of all is hit; JSON with its pid, and node under Ray

For an actor "reported" is a moment of the coordinator's process; what is killed is the actor.
"""

import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

FAULT = os.environ.get("LTX_RAY_FAULT", "")
# What an actor calls in the midst of its work.
_IN_WORK = {
    "Conditioner": ("actors.conditioner", "encode_prompts"),
    "Denoiser": ("actors.denoiser", "denoise_chunk"),
    "TileDecoder": ("actors.tile_decoder", "decode_in_parts"),
    "Assembler": ("actors.assembler", "sha256_file"),
}
_STAGES = {
    "Conditioner": "condition",
    "Denoiser": "denoise",
    "TileDecoder": "decode",
    "Assembler": "assemble",
}


class Fault:
    """The one thing that goes wrong."""

    def __init__(self, who, when, how, count, token):
        self.who, self.when, self.how, self.count, self.token = who, when, how, count, token
        self.seen = 0

    def strike(self, pid=None, node=None):
        """It is such a moment."""
        self.seen += 1
        if self.seen < self.count or Path(self.token).exists():
            return
        mine = Path(f"{self.token}.{os.getpid()}")
        mine.write_text(json.dumps({"pid": pid or os.getpid(), "node": node or _node()}))
        try:
            os.link(mine, self.token)  # by one process of all
        except FileExistsError:
            return
        finally:
            mine.unlink()
        if self.how == "kill":
            os.kill(pid or os.getpid(), signal.SIGKILL)
        while self.how == "hold" and not Path(f"{self.token}.go").exists():
            time.sleep(0.02)


def _node():
    if "ray" not in sys.modules:
        return ""
    import ray

    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


def _around(function, before=None, after=None):
    def wrapped(*args, **kwargs):
        if before:
            before(*args)
        result = function(*args, **kwargs)
        if after:
            after(*args)
        return result

    return wrapped


def _around_async(function, before=None, after=None):
    async def wrapped(*args, **kwargs):
        if before:
            before(*args)
        result = await function(*args, **kwargs)
        if after:
            after(*args)
        return result

    return wrapped


def _of_actor(fault, module):
    """Moments of an actor's process; "reported" is one of the coordinator's."""

    def strike(actor, *_):
        if type(actor).__name__ == fault.who:
            fault.strike()

    def settled(_, events):
        for _, _, done in events:
            receipt = done.outcome
            if getattr(receipt, "pid", 0) and receipt.key.stage.value == _STAGES[fault.who]:
                fault.strike(receipt.pid, done.worker_node)

    if fault.when in ("before", "after") and module.__name__ == "actors.work":
        place = {"before": "before", "after": "after"}[fault.when]
        module.StageActor.run = _around(module.StageActor.run, **{place: strike})
    elif fault.when == "in" and module.__name__ == _IN_WORK[fault.who][0]:
        name = _IN_WORK[fault.who][1]
        setattr(module, name, _around(getattr(module, name), after=lambda *_: fault.strike()))
    elif fault.when == "reported" and module.__name__ == "actors.coordinator":
        module.Coordinator._settle = _around_async(module.Coordinator._settle, after=settled)


def _of_coordinator(fault, module):
    """Moments of the coordinator's process."""

    def handed_out(dispatcher, priority, active, task):
        if task.key.stage.value == "denoise":
            fault.strike()

    def committed(ledger, records):
        if any(getattr(record, "artefact", None) for record in records):
            fault.strike()

    if fault.when == "before" and module.__name__ == "actors.coordinator":
        module.Coordinator._admit = _around(module.Coordinator._admit, before=lambda *_: fault.strike())
    elif fault.when == "in" and module.__name__ == "actors.dispatcher":
        module.Dispatcher._submit = _around(module.Dispatcher._submit, after=handed_out)
    elif module.__name__ == "ltx_ray.ledger.ledger":
        if fault.when == "after":
            module.Ledger.commit = _around_async(module.Ledger.commit, before=committed)
        elif fault.when == "reported":
            module.Ledger.commit = _around_async(module.Ledger.commit, after=committed)


class _Patching(importlib.abc.MetaPathFinder):
    """Patches the modules of interest as they are imported."""

    def __init__(self):
        self.fault = None

    def find_spec(self, name, path, target=None):
        """The usual spec, with a loader that patches what it has loaded."""
        if not name.startswith(("actors.", "ltx_ray.ledger.ledger")) or not Path(FAULT).exists():
            return None
        if self.fault is None:  # not before: Ray starts processes ahead of their work
            self.fault = Fault(**json.loads(Path(FAULT).read_text()))
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def loaded(module):
            load(module)
            (_of_coordinator if self.fault.who == "Coordinator" else _of_actor)(self.fault, module)

        spec.loader.exec_module = loaded
        return spec


if FAULT:
    sys.meta_path.insert(0, _Patching())
