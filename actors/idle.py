"""Workers without a job, in the order in which they became so; those on a node are found without a search."""

from collections.abc import Iterator

from actors.worker import Worker


class Idle:
    """``since`` is by the loop's clock."""

    def __init__(self) -> None:
        self._since: dict[Worker, float] = {}
        self._on: dict[str, dict[Worker, None]] = {}

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._since)

    def __reversed__(self) -> Iterator[Worker]:
        return reversed(self._since)

    def on(self, node: str) -> Worker | None:
        """The last that became idle on ``node``."""
        return next(reversed(self._on.get(node, {})), None)

    def since(self, worker: Worker) -> float:
        """When ``worker``, which is idle, became so."""
        return self._since[worker]

    def add(self, worker: Worker, since: float) -> None:
        """``worker`` is idle from now on."""
        self._since[worker] = since
        self._on.setdefault(worker.node, {})[worker] = None

    def remove(self, worker: Worker) -> None:
        """``worker``, which is idle, is so no more."""
        del self._since[worker]
        del self._on[worker.node][worker]

    def clear(self) -> None:
        """None is idle any more."""
        self._since.clear()
        self._on.clear()
