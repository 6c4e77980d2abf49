"""Is a folder a whole, safe LTX-Video checkpoint? Answered from its small files, without torch.

All that can be known before gigabytes are read is checked here: every part is there and of a class that
we load, its weights are whole safetensors files (no pickles), and the parts fit each other.
"""

import json
from pathlib import Path
from typing import Any

from ltx_ray.errors import ModelError
from ltx_ray.models.weight_files import is_pickle

# The classes that are loaded for each part; another one is refused, never looked up by name.
CLASSES = {
    "transformer": ("LTXVideoTransformer3DModel",),
    "vae": ("AutoencoderKLLTXVideo",),
    "text_encoder": ("T5EncoderModel",),
    "tokenizer": ("T5TokenizerFast", "T5Tokenizer", "PreTrainedTokenizerFast"),
    "scheduler": ("FlowMatchEulerDiscreteScheduler",),
}
_PIPELINES = (
    "LTXPipeline",
    "LTXVideoPipeline",
    "LTXImageToVideoPipeline",
    "LTXConditionPipeline",
    "LTXI2VLongMultiPromptPipeline",
)
_CONFIGS = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}
_WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def inspect(folder: Path) -> None:
    """Raise ModelError, saying what to mend, unless ``folder`` holds a usable checkpoint."""
    index = read_object(folder / "model_index.json")
    _check_classes(folder, index)
    for part in CLASSES:
        _check_part(folder, part)
    for part in _WEIGHTS:
        for path in weight_files(folder, part):
            _check_whole(path)
    _check_fit(folder)


def config_of(folder: Path, part: str) -> dict[str, Any]:
    """The config of a part, as its JSON file has it. Raises ModelError where that is missing or broken."""
    return read_object(folder / part / _CONFIGS.get(part, "config.json"))


def weight_files(folder: Path, part: str) -> list[Path]:
    """The safetensors files of a part, one or its shards. Raises ModelError where there are none."""
    single = folder / part / _WEIGHTS[part]
    if single.is_file():
        return [single]
    index = single.with_name(single.name + ".index.json")
    if index.is_file():
        shards = read_object(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(f"{index} must map weights to their files in 'weight_map', got {shards!r}")
        names = {str(shard) for shard in shards.values()}
        if foreign := sorted(name for name in names if "/" in name or not name.endswith(".safetensors")):
            raise ModelError(
                f"{index} must name .safetensors files that lie beside it, got {foreign[0]!r}; fetch it again"
            )
        return [single.with_name(name) for name in sorted(names)]
    pickles = sorted(path.name for path in single.parent.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise ModelError(
            f"the weights of {part} must be safetensors, got only pickles in {single.parent}: "
            f"{', '.join(pickles)}. Pickles can run code and are never loaded; "
            "convert them with save_pretrained(..., safe_serialization=True)"
        )
    raise ModelError(
        f"the {part} has no weights: wanted {single.name} or {index.name} in {single.parent}, "
        f"got {', '.join(sorted(path.name for path in single.parent.iterdir()))}"
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelError where it is missing or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"a model folder needs {path.name}, got none at {path} ({error.strerror}); "
            "give a folder in the diffusers format"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} must be JSON, got {error}; fetch the checkpoint again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _check_classes(folder: Path, index: dict[str, Any]) -> None:
    pipeline = index.get("_class_name")
    if pipeline not in _PIPELINES:
        raise ModelError(
            f"{folder} must be an LTX-Video checkpoint (one of {', '.join(_PIPELINES)}), got {pipeline!r}"
        )
    for part, classes in CLASSES.items():
        entry = index.get(part)
        if entry in (None, [None, None]):
            raise ModelError(f"{folder / 'model_index.json'} lacks the part {part}; got {_parts(index)}")
        found = entry[-1] if isinstance(entry, list) and entry else entry
        if found not in classes:
            raise ModelError(
                f"the {part} of {folder} must be of the class {' or '.join(classes)}, got {found!r}"
            )


def _parts(index: dict[str, Any]) -> str:
    return ", ".join(sorted(name for name in index if not name.startswith("_"))) or "none"


def _check_part(folder: Path, part: str) -> None:
    if not (folder / part).is_dir():
        raise ModelError(f"the checkpoint {folder} lacks its folder {part}/; fetch it again, whole")
    config_of(folder, part)
    if part == "tokenizer":
        names = ("tokenizer.json", "spiece.model")
        if not any((folder / part / name).is_file() for name in names):
            raise ModelError(f"the tokenizer needs {' or '.join(names)}, got neither in {folder / part}")


def _check_whole(path: Path) -> None:
    """A safetensors file: 8 bytes of header length, a JSON header, then exactly the bytes it names."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if is_pickle(head) and length > size - 8:
                raise ModelError(
                    f"{path} must be a safetensors file, got a pickle: those can run code and are never "
                    "loaded; convert it with save_pretrained(..., safe_serialization=True)"
                )
            header = json.loads(file.read(length)) if 0 < length <= size - 8 else {}
        stops = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); fetch the checkpoint again") from error
    except ModelError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is no safetensors file: its header is broken ({error})") from error
    wanted = 8 + length + max(stops, default=0)
    if size != wanted:
        raise ModelError(
            f"{path} is cut short or damaged: its header wants {wanted} bytes, got {size}; fetch it again"
        )


def _check_fit(folder: Path) -> None:
    transformer, vae = config_of(folder, "transformer"), config_of(folder, "vae")
    # What a config leaves out is the default of the diffusers class.
    latents = vae.get("latent_channels", 128)
    text = config_of(folder, "text_encoder").get("d_model", 512)
    for key, default, wanted, owner in (
        ("in_channels", 128, latents, "the VAE's latent_channels"),
        ("out_channels", 128, latents, "the VAE's latent_channels"),
        ("caption_channels", 4096, text, "the text encoder's d_model"),
        ("patch_size", 1, 1, "the only size that is supported"),
        ("patch_size_t", 1, 1, "the only size that is supported"),
    ):
        found = transformer.get(key, default)
        found = transformer.get("in_channels", 128) if key == "out_channels" and found is None else found
        if found != wanted:
            raise ModelError(
                f"the parts of {folder} do not fit: the transformer's {key} must be {wanted} "
                f"({owner}), got {found}"
            )
