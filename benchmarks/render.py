"""Whole videos: `ltx-ray render` beside a plain diffusers script, in turn, on the same checkpoint.

    python benchmarks/render.py [--shots 4] [--size 256] [--steps 8] [--rounds 2] [--json]

The plain script is what a good engineer writes in an afternoon: LTXI2VLongMultiPromptPipeline loaded once,
the same windows, steps and guidance, the faster of the untiled and the tiled decode (tried first), all cores,
`export_to_video`. Start-up is kept apart for both: the script's clock begins when its model is loaded; ours
is the difference between a run of twice the shots and a run of the shots, which also takes away the drain
at the end; the whole wall time stands beside it. The bound is the processor seconds of all stages over the
cores: no order of the same work can end sooner.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FRAMES = 241
FPS = 24
PROMPTS = ("a red circle moving right", "a blue square moving up", "a green triangle moving left")
NEGATIVE = "blurry"
GUIDANCE = 3.0


def sigmas(steps: int) -> list[float]:
    """Explicit noise levels, which both samplers take as they are."""
    return [1.0 - i / steps for i in range(steps)] + [0.0]


def plain(size: int, steps: int, shots: int) -> dict[str, float]:
    """The plain script, in this process. Seconds of its parts for all shots."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, LTXI2VLongMultiPromptPipeline
    from diffusers.utils import export_to_video

    from ltx_ray.checkpoints import tiny_path

    torch.set_num_threads(os.cpu_count() or 1)
    pipe = LTXI2VLongMultiPromptPipeline.from_pretrained(tiny_path(), torch_dtype=torch.float32)
    # Long never passes mu, and explicit levels need no shift.
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    pipe.set_progress_bar_config(disable=True)

    def sample(index: int) -> Any:
        return pipe(
            prompt=PROMPTS[index % len(PROMPTS)],
            negative_prompt=NEGATIVE,
            height=size,
            width=size,
            num_frames=FRAMES,
            frame_rate=FPS,
            guidance_scale=GUIDANCE,
            sigmas=sigmas(steps),
            seed=index,
            temporal_tile_size=128,
            temporal_overlap=24,
            cond_strength=0.0,
            output_type="latent",
        ).frames

    latents = sample(0)
    decoders = {
        f"{n} x {n} tiles": {"horizontal_tiles": n, "vertical_tiles": n, "overlap": 2 if n > 1 else 0}
        for n in (1, 2)
    }
    timed = {
        name: _seconds(lambda o=options: pipe.vae_decode_tiled(latents, **o))
        for name, options in decoders.items()
    }
    best = decoders[min(timed, key=timed.__getitem__)]
    total = {"denoise": 0.0, "decode": 0.0, "export": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(shots):
            begun = time.perf_counter()
            latents = sample(index)
            denoised = time.perf_counter()
            frames = pipe.vae_decode_tiled(latents, output_type="pil", **best)[0]
            decoded = time.perf_counter()
            export_to_video(frames, f"{folder}/{index}.mp4", fps=FPS)
            total["denoise"] += denoised - begun
            total["decode"] += decoded - denoised
            total["export"] += time.perf_counter() - decoded
    return {**total, "seconds": sum(total.values()), "frames": float(len(frames))}


def ours(size: int, steps: int, shots: int) -> dict[str, float]:
    """`ltx-ray render`, as a command: its wall seconds, and the processor seconds of its stages."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "shots.jsonl"
        rows = [
            {
                "id": f"shot-{i}",
                "prompt": PROMPTS[i % len(PROMPTS)],
                "negative_prompt": NEGATIVE,
                "width": size,
                "height": size,
                "num_frames": FRAMES,
                "fps": FPS,
                "seed": i,
            }
            for i in range(shots)
        ]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [sys.executable, "-m", "jobs.cli", "render", str(manifest), "-o", f"{folder}/out", "--json"]
        words += ["--set", f"sampling.sigmas={sigmas(steps)}", "--set", f"sampling.guidance_scale={GUIDANCE}"]
        begun = time.perf_counter()
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        wall = time.perf_counter() - begun
    summary = json.loads(done.stdout)
    assert summary["progress"]["done"] == shots, summary
    return {
        "wall": wall,
        "elapsed": summary["progress"]["elapsed"],
        "cpu": sum(summary["cpu_seconds"].values()),
    }


def round_of(size: int, steps: int, shots: int) -> dict[str, float]:
    """Both, one after the other."""
    words = [
        sys.executable,
        __file__,
        "--plain",
        "--size",
        str(size),
        "--steps",
        str(steps),
        "--shots",
        str(shots),
    ]
    theirs = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    once, twice = ours(size, steps, shots), ours(size, steps, 2 * shots)
    cores = os.cpu_count() or 1
    seconds = twice["wall"] - once["wall"]
    return {
        "plain": theirs["seconds"],
        "plain_denoise": theirs["denoise"],
        "plain_decode": theirs["decode"],
        "plain_export": theirs["export"],
        "ours": seconds,
        "ours_wall_with_start": once["wall"],
        "ours_cpu": twice["cpu"] - once["cpu"],
        "ratio": seconds / theirs["seconds"],
        "over_bound": seconds * cores / (twice["cpu"] - once["cpu"]),
        "over_bound_all": twice["elapsed"] * cores / twice["cpu"],
    }


def _seconds(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    """Print the rounds and their median."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="pixels of width and height")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="only the plain script, as JSON")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.plain:
        sys.stdout.write(json.dumps(plain(options.size, options.steps, options.shots)))
        return
    rounds = [round_of(options.size, options.steps, options.shots) for _ in range(options.rounds)]
    median = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    if options.json:
        sys.stdout.write(json.dumps({"rounds": rounds, "median": median}, indent=2) + "\n")
        return
    sys.stdout.write(f"{options.shots} shots x {FRAMES} frames, {options.size} px, {options.steps} steps\n")
    for key, value in median.items():
        each = "  ".join(f"{r[key]:8.2f}" for r in rounds)
        sys.stdout.write(f"{key:22} {value:8.2f}   [{each}]\n")


if __name__ == "__main__":
    main()
