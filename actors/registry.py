"""Which class does the work of which stage. Imported late: the classes import torch and PyAV."""

from importlib import import_module

from actors.work import StageActor
from ltx_ray.types import Stage

_CLASSES = {
    Stage.CONDITION: ("actors.conditioner", "Conditioner"),
    Stage.DENOISE: ("actors.denoiser", "Denoiser"),
    Stage.DECODE: ("actors.tile_decoder", "TileDecoder"),
    Stage.ASSEMBLE: ("actors.assembler", "Assembler"),
    Stage.FINISH: ("actors.finisher", "Finisher"),
}


def class_name(stage: Stage) -> str:
    """The name of the actor class of ``stage``; imports nothing."""
    return _CLASSES[stage][1]


def actor_class(stage: Stage) -> type[StageActor]:
    """The actor class of ``stage``."""
    module, name = _CLASSES[stage]
    found: type[StageActor] = getattr(import_module(module), name)
    return found
