"""What Ray says by itself while a command is connected is narration: stdout is the command's alone."""

import subprocess
import sys

SCRIPT = """
import io, sys, time
import ray
from ray._private.utils import push_error_to_driver
from cluster.connect import connected

sys.stderr = narration = io.StringIO()
with connected("local", 1.0):
    end, text = time.monotonic() + 60, "a node complains"
    while text not in narration.getvalue() and time.monotonic() < end:
        push_error_to_driver(ray._private.worker.global_worker, "a kind", f"{text} at {time.time()}")
        time.sleep(0.1)
print(text in narration.getvalue())
"""


def test_what_ray_says_is_not_in_the_middle_of_a_document() -> None:
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\n"
