"""The command ``ltx-ray``, and ``python -m ltx_ray``: finds ``jobs`` where another one comes first on the
path.

A Ray job with ``--working-dir .`` has the user's folder first on its path, with whatever ``jobs`` is in it,
so that nothing in ``jobs`` itself could help.
"""

import importlib

from ltx_ray.packages import load


def main() -> None:
    """Run the command line."""
    load("jobs")
    importlib.import_module("jobs.cli").main()


if __name__ == "__main__":
    main()
