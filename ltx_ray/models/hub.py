"""The Hugging Face hub and its cache: what is here already, what is there, what is fetched."""

from collections.abc import Collection, Sequence
from pathlib import Path

from ltx_ray.errors import ModelAbsentError, ModelError

_ALWAYS_THERE = "model_index.json"  # in every repository in the diffusers format


def fetch(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The local folder of a repository's snapshot; what of it is missing is fetched. Raises ModelError."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # of the network, the hub, the cache and the disk: no common base
        raise _not_found(repository, revision, error) from error


def cached(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """As ``fetch``, of what was fetched before. Raises ModelAbsentError where nothing was."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=list(patterns), local_files_only=True
            )
        )
    except LocalEntryNotFoundError as error:
        raise ModelAbsentError(f"{repository} was not fetched to this machine yet") from error
    except (OSError, ValueError) as error:  # a name that can be none, or a cache that cannot be read
        raise _not_found(repository, revision, error) from error


def listed(repository: str, revision: str | None, patterns: Sequence[str]) -> dict[str, int]:
    """What ``fetch`` would fetch: bytes by the file's name in the repository. Raises ModelError."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils._paths import filter_repo_objects

    try:
        entries = list(HfApi().list_repo_tree(repository, revision=revision, recursive=True))
    except Exception as error:  # as of fetch
        raise _not_found(repository, revision, error) from error
    sizes = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
    wanted: Collection[str] = set(filter_repo_objects(sizes, allow_patterns=list(patterns)))
    return {name: size for name, size in sizes.items() if name in wanted}


def check(repository: str, revision: str | None) -> None:
    """Whether this machine may fetch a repository's files, with its network and its token. Raises
    ModelError."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, _ALWAYS_THERE, revision=revision))
    except Exception as error:  # as of fetch
        raise _not_found(repository, revision, error) from error


def _not_found(repository: str, revision: str | None, error: Exception) -> ModelError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        at = f" --revision {revision}" if revision else ""
        return ModelError(
            f"the model must be 'tiny', a folder or a hub id, got {repository!r}: there is no such folder, "
            f"the machine is offline (HF_HUB_OFFLINE is set), and its cache {constants.HF_HUB_CACHE} has no "
            f"whole revision {revision or 'main'} of it: `hf download {repository}{at} --include "
            "model_index.json --include '*/*'` where there is a network, then give HF_HOME or the folder; or "
            f"unset HF_HUB_OFFLINE, and set HF_TOKEN if it is private ({error})"
        )
    mode = f"at {constants.ENDPOINT}"
    return ModelError(
        f"the model must be 'tiny', a folder or a hub id, got {repository!r}: there is no such "
        f"folder, and looking for it on the Hugging Face hub, {mode}, revision {revision or 'main'}, "
        f"failed: {error} Check the spelling and the network, log in with HF_TOKEN if it is private "
        "or gated, or give the folder of a checkpoint that was fetched before."
    )
