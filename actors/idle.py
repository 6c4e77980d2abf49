"""Workers without a job, in the order in which they became so; those on a node are found without a search."""

from actors.worker import Worker


class Idle(dict[Worker, float]):
    """Each with the moment, by the loop's clock, since which it is idle. To be changed by ``add``, ``remove``
    and ``clear`` alone. A dict, for it is asked how long it is at every turn of a pool."""

    def __init__(self) -> None:
        super().__init__()
        self._on: dict[str, dict[Worker, None]] = {}

    def on(self, node: str) -> Worker | None:
        """The last that became idle on ``node``."""
        return next(reversed(self._on.get(node, {})), None)

    def add(self, worker: Worker, since: float) -> None:
        """``worker`` is idle from now on."""
        self[worker] = since
        self._on.setdefault(worker.node, {})[worker] = None

    def remove(self, worker: Worker) -> None:
        """``worker``, which is idle, is so no more."""
        del self[worker]
        del self._on[worker.node][worker]

    def clear(self) -> None:
        """None is idle any more."""
        super().clear()
        self._on.clear()
