"""The four packages, which have names that others use too: a ``jobs`` or ``cluster`` of the user's, ahead on
Python's path, would be imported in place of ours.

They always lie side by side. ``ltx_ray``, a name of our own, finds the others from here.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ltx_ray.errors import UserError

PACKAGES = ("ltx_ray", "cluster", "actors", "jobs")
HOME = Path(__file__).resolve().parent.parent  # the folder in which they lie


def load(name: str) -> ModuleType:
    """Import our package ``name``, whatever comes first on Python's path; its modules are then ours, too."""
    if name in sys.modules:
        return sys.modules[name]
    folder = HOME / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def check_packages() -> None:
    """Raise UserError, saying which path shadows which, where one of the four would be imported from
    elsewhere."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        places = list(spec.submodule_search_locations or ()) if spec else []
        found = Path(places[0]).resolve() if places else None
        if found != HOME / name:
            raise UserError(
                f"the package {name} should be {HOME / name}, but {found} comes first on Python's path: run "
                "from another folder, or start with `python -P -m ltx_ray`; of a Ray job, leave "
                "--working-dir out, or give `ltx-ray submit`"
            )


def check_folder(folder: Path) -> None:
    """Raise UserError where ``folder`` has packages that hide ours.

    The folder in which a command is given comes first on the path of Ray's workers, whatever its own path is.
    They import everything but ``jobs``.
    """
    if folder.resolve() == HOME:
        return
    for name in PACKAGES:
        theirs = [folder / name / "__init__.py", folder / f"{name}.py"]
        if name != "jobs" and any(path.exists() for path in theirs):
            raise UserError(
                f"{folder} has a package {name} of its own, which Ray's workers would import in place of "
                f"{HOME / name}: give the command in another folder"
            )
