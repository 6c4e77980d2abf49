"""What happened to one shot, for people: OUT/logs/<shard>/<id>.<epoch>.log, a line an event."""

import time

from actors.retry import Verdict
from actors.work import Failure
from ltx_ray.types import Receipt, Stage, TaskKey
from ltx_ray.visible import visible

_SAID = (Stage.CONDITION, Stage.DENOISE, Stage.ASSEMBLE, Stage.FINISH)  # tiles are too many, unless they fail


class ShotLog:
    """Kept in memory until the shot ends, or the run does: some bytes for each chunk and segment."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        """Something happened just now; further lines of ``text`` are indented."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        self._lines.append(f"{stamp} " + visible(text.rstrip(), lines=True).replace("\n", "\n    "))

    def done(self, receipt: Receipt) -> None:
        """A task went well."""
        if receipt.key.stage in _SAID:
            self.say(
                f"{receipt.key}: {receipt.seconds:.2f} s on {receipt.node} ({receipt.device}, process "
                f"{receipt.pid}), attempt {receipt.attempt}, peak {receipt.peak_bytes / 2**30:.2f} GiB"
            )

    def failed(self, key: TaskKey, failure: Failure, node: str, verdict: Verdict) -> None:
        """A task failed, and what follows from it; with the traceback, unless it is the row that is wrong."""
        place = f" on node {node}" if node else ""
        is_plain = verdict is Verdict.REJECT or not failure.traceback
        text = failure.message if is_plain else failure.traceback
        self.say(f"{key}: {failure.kind}{place}, so {verdict.value}\n{text}")

    @property
    def tells(self) -> bool:
        """Whether anything happened between the shot's beginning and its end."""
        return len(self._lines) > 2

    def text(self) -> str:
        """The whole of it."""
        return "".join(f"{line}\n" for line in self._lines)
