"""The checkpoints that are shipped with the package, as data. Imports neither torch nor ray."""

from pathlib import Path


def tiny_path() -> Path:
    """The folder of the built-in checkpoint ``tiny``, in the diffusers format."""
    return Path(__file__).parent / "tiny"
