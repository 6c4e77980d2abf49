"""Memory of a long video in one process, streamed and held: ``python benchmarks/long_video.py [--json]``.

Each length is made in a process of its own, with the built-in checkpoint, one step, 256x384 pixels.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time

import torch

from ltx_ray.pipelines.autoregressive_pipeline import create_autoregressive_pipeline
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

LENGTHS = (241, 1441)  # frames: 3 and 14 chunks


def measure(frames: int, streamed: bool) -> dict[str, object]:
    """Peak memory and seconds of one call."""
    torch.set_num_threads(1)
    base = LTXVideoPipeline.from_pretrained("tiny")
    base.set_progress_bar_config(disable=True)
    pipeline = create_autoregressive_pipeline(base)
    with tempfile.TemporaryDirectory() as folder:
        if streamed:
            pipeline.enable_streaming(folder)
        start = time.perf_counter()
        pipeline.generate_long_video(
            "a tide",
            total_frames=frames,
            height=256,
            width=384,
            num_inference_steps=1,
            guidance_scale=1.0,
            seed=0,
            output_type="np",
        )
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # of Linux: KiB
    return {"frames": frames, "streamed": streamed, "peak_mib": round(peak), "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--one", nargs=2, metavar=("FRAMES", "STREAMED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measure(int(options.one[0]), options.one[1] == "True")) + "\n")
        return
    rows = []
    for streamed in (True, False):
        for frames in LENGTHS:
            words = [sys.executable, __file__, "--one", str(frames), str(streamed)]
            run = subprocess.run(words, capture_output=True, text=True, check=True)
            rows.append(json.loads(run.stdout))
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    for row in rows:
        kind = "streamed" if row["streamed"] else "held"
        line = f"{row['frames']:5} frames, {kind:8}: peak {row['peak_mib']:5} MiB, {row['seconds']:6.1f} s\n"
        sys.stdout.write(line)


if __name__ == "__main__":
    main()
