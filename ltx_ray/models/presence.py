"""Is all that a config names of its model here, and usable? Told before anything is rendered or fetched.

Small files and headers are read, and adapters and LoRAs as a whole; no weights are loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError, ModelAbsentError, ModelError
from ltx_ray.models import hub
from ltx_ray.models.checkpoint import FETCHED, Checkpoint, resolve
from ltx_ray.models.inspection import CLASSES
from ltx_ray.models.presets import find_preset
from ltx_ray.models.weight_files import (
    adapter_description,
    adapter_url,
    check_adapter_fits,
    check_lora,
    read_weights,
)

_WEIGHTED = ("transformer", "vae", "text_encoder")  # parts that have weights


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A config's model, as it was found."""

    name: str
    size: int | None = None  # bytes of its files; None: not found
    is_absent: bool = False  # only on the hub so far; the first run fetches it
    problem: str | None = None  # why it cannot be used
    added: tuple[str, ...] = ()  # what is added to it: audio adapter, LoRAs
    added_problems: tuple[str, ...] = ()  # why some of that cannot be used


def look_for_model(config: RenderConfig) -> ModelFacts:
    """What ``config.model`` names, on this machine or on the hub."""
    checkpoint: Checkpoint | None = None
    facts = ModelFacts(name=config.model.name)
    try:
        checkpoint = resolve(facts.name, fetch=False)
        find_preset(checkpoint, config.model.preset)
        facts = replace(facts, size=_size(checkpoint))
    except ModelAbsentError:
        facts = _on_the_hub(facts)
    except (ModelError, ConfigError) as error:
        facts = replace(facts, problem=str(error))
    asked = config.model.audio_adapter
    adapter = checkpoint.audio_adapter(asked) if checkpoint else (None if asked == "none" else asked)
    added: list[str] = []
    problems: list[str] = []
    if adapter is not None:
        added.append(f"audio adapter {adapter}")
        problems += _problems(_check_adapter, adapter_url(adapter), checkpoint)
    for lora in config.model.lora:
        added.append(f"LoRA {lora.path}")
        problems += _problems(_check_lora, lora.path)
    return replace(facts, added=tuple(added), added_problems=tuple(problems))


def _size(checkpoint: Checkpoint) -> int:
    parts = (path for part in CLASSES for path in (checkpoint.path / part).iterdir())
    return sum(path.stat().st_size for path in parts if path.is_file())


def _on_the_hub(facts: ModelFacts) -> ModelFacts:
    """The facts of a model that is not here, by the hub's list of its files."""
    repository, _, revision = facts.name.partition("@")
    absent = replace(facts, is_absent=True)
    try:
        files = hub.listed(repository, revision or None, FETCHED)
    except ModelError as error:
        return replace(absent, problem=str(error))
    if "model_index.json" not in files:
        found = "has no model_index.json: it is not in the diffusers format"
        return replace(absent, problem=f"{facts.name} on the hub {found}")
    lacking = [part for part in CLASSES if not any(file.startswith(f"{part}/") for file in files)]
    if lacking:
        return replace(absent, problem=f"{facts.name} on the hub lacks {', '.join(lacking)}")
    weights = [file for file in files if file.endswith(".safetensors")]
    bare = [part for part in _WEIGHTED if not any(file.startswith(f"{part}/") for file in weights)]
    if bare:
        found = f"has no safetensors of {', '.join(bare)}, and no others are read"
        return replace(absent, problem=f"{facts.name} on the hub {found}")
    return replace(absent, size=sum(files.values()))


def _problems(check: Callable[..., None], *words: Any) -> list[str]:
    """What ``check(*words)`` does not like."""
    try:
        check(*words)
    except ModelError as error:
        return [str(error)]
    return []


def _check_adapter(url: str, checkpoint: Checkpoint | None) -> None:
    data = read_weights(url, "the audio adapter")
    if checkpoint is None:  # there is no transformer to hold it against
        adapter_description(data, url)
    else:
        check_adapter_fits(data, url, checkpoint.transformer_config())


def _check_lora(url: str) -> None:
    check_lora(read_weights(url, "the LoRA"), url)
