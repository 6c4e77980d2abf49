"""Drains this node when AWS gives notice that it will be taken away: ``python -P -m cluster.spot_notice``.

AWS tells a spot instance two minutes ahead, at an address that the instance has to ask. Ray does not ask, so
``ray_cluster.yaml`` starts this beside each worker; on an instance that is never taken away it asks for ever.
A drained node gets nothing more to do, and the actors on it hand over (docs/failures.md). On Kubernetes the
node's agents turn the notice into SIGTERM, on which ``ray start --block`` drains the node itself.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime

METADATA = "http://169.254.169.254"
_ASK_SECONDS = 5.0  # between two questions; AWS advises so
_ANSWER_SECONDS = 2.0  # for an answer, which comes from the machine's own host
_TOKEN_SECONDS = 60  # for which a token of the metadata service is asked


def notice(metadata: str) -> datetime | None:
    """When this instance will be taken away; None: nothing is known of that.

    Raises OSError where the metadata service does not answer, as outside of AWS.
    """
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
    token = _answer(urllib.request.Request(f"{metadata}/latest/api/token", method="PUT", headers=headers))
    where = f"{metadata}/latest/meta-data/spot/instance-action"
    try:
        told = _answer(urllib.request.Request(where, headers={"X-aws-ec2-metadata-token": token}))
    except urllib.error.HTTPError as error:
        if error.code == 404:  # the service's way to say that nothing is planned
            return None
        raise
    return datetime.fromisoformat(json.loads(told)["time"])


def _answer(request: urllib.request.Request) -> str:
    # Never by way of a proxy: the answer would be that of the proxy's machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
        return str(answer.read().decode())


def drain(when: datetime, ray: Sequence[str]) -> None:
    """Tell Ray that the node will be gone at ``when``. ``ray``: options of ``ray drain-node``.

    Raises CalledProcessError where Ray refuses.
    """
    left = max(int((when - datetime.now(when.tzinfo)).total_seconds()), 0)
    words = [sys.executable, "-P", "-m", "ray.scripts.scripts", "drain-node", *ray]
    words += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "AWS takes the instance away"]
    subprocess.run([*words, "--deadline-remaining-seconds", str(left)], check=True)


def main() -> None:
    """Ask until there is a notice, then drain and end."""
    parser = argparse.ArgumentParser(description="Drain this Ray node when AWS gives notice of its end.")
    parser.add_argument("--metadata", default=METADATA, help="Address of the metadata service.")
    parser.add_argument("--address", help="Of Ray's head; default: the Ray that runs here.")
    parser.add_argument("--node-id", help="Ray's id of the node; default: the one that runs here.")
    asked = parser.parse_args()
    named = {"--address": asked.address, "--node-id": asked.node_id}
    ray = [word for option, value in named.items() if value is not None for word in (option, value)]
    while not _drained(asked.metadata, ray):
        time.sleep(_ASK_SECONDS)


def _drained(metadata: str, ray: Sequence[str]) -> bool:
    """Whether there was a notice, and the node is drained now. What fails is tried again."""
    try:
        when = notice(metadata)
        if when is not None:
            _tell(f"AWS takes this instance away at {when.isoformat()}: draining the node")
            drain(when, ray)
    except (OSError, subprocess.CalledProcessError) as error:
        _tell(f"tried again in {_ASK_SECONDS:g} s: {error}")
        return False
    return when is not None


def _tell(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
