"""How good the built-in checkpoint's pictures are: the figures of docs/quality.md.

    python benchmarks/quality.py [SECTION ...] [--output OUT] [--scale 1.0]

Everything is asked of ``ltx-ray render`` with held-out scenes of the synthetic world (seeds from 0 on,
prompts and sounds that nothing was trained on) and measured as ``ltx-ray evaluate`` does, against the truth.
Renders are resumed where they were interrupted. OUT/quality.json has the figures with 95% intervals.
"""

import argparse
import json
import subprocess
import sys
import wave
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltx_ray.config import DecodingConfig
from ltx_ray.decoding.tile import DecodeSettings, denormalize
from ltx_ray.decoding.whole import decode_shot
from ltx_ray.evaluation.evaluate import Evaluation, evaluate_video
from ltx_ray.evaluation.finished import finished_videos
from ltx_ray.evaluation.frames import ArrayPictures
from ltx_ray.evaluation.statistics import estimate
from ltx_ray.evaluation.sync import match
from ltx_ray.evaluation.tiles import psnr
from ltx_ray.evaluation.world import measure_world
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.conditioning import encode_video
from ltx_ray.planning.tiles import TileSettings, plan_slabs
from ltx_ray.storage import Store
from ltx_ray.training.world import Scene, scene
from ltx_ray.training.world_data import FPS, as_clip
from ltx_ray.training.world_picture import render
from ltx_ray.training.world_prompts import prompt
from ltx_ray.training.world_sound import SAMPLE_RATE, render_sound

# Frames of a shot of three chunks and of one of four, at the default chunk_size and overlap_frames.
THREE_CHUNKS, FOUR_CHUNKS = 297, 360
SIZES = ((96, 96), (128, 128), (160, 96), (192, 192))  # width, height
# Where the VAE itself keeps shapes apart: in smaller pictures they are less than two cells of 32 pixels wide.
PROMPT_SIZES = ((128, 128), (192, 128), (128, 192), (192, 192))
Rows = dict[str, Scene]


class Bench:
    """Renders scenes into folders of OUT and measures them."""

    def __init__(self, out: Path, scale: float, address: str) -> None:
        self.out, self.scale, self.address = out, scale, address
        self.found: dict[str, dict[str, Any]] = {}

    def count(self, number: int) -> int:
        """How many of ``number`` shots are made."""
        return max(2, round(number * self.scale))

    def rendered(
        self,
        name: str,
        scenes: Iterable[tuple[Scene, tuple[int, int]]],
        frames: int,
        *settings: str,
        shift: float = 0.0,
        sound: bool = True,
    ) -> list[tuple[Scene, Evaluation]]:
        """Each scene's video, measured, at (width, height) pixels and ``frames`` frames."""
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        rows, known = [], {}
        for each, (width, height) in scenes:
            row = {"id": f"s{each.seed}", "prompt": prompt(each), "num_frames": frames, "seed": each.seed}
            row |= {"width": width, "height": height}
            if sound:
                file = folder / f"s{each.seed}.wav"
                write_wave(file, render_sound(each, frames / FPS, shift=shift))
                row["audio"] = file.name
            rows.append(row)
            known[str(row["id"])] = each
        manifest = folder / "shots.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        options = [part for setting in settings for part in ("--set", setting)]
        words = [sys.executable, "-m", "jobs.cli", "render", str(manifest), "-o", str(folder / "out")]
        words += ["--address", self.address, *options]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        store = Store(str(folder / "out"))
        return [
            (
                known[video.id],
                evaluate_video(str(folder / "out" / video.name), prompt=video.prompt, zones=video.zones),
            )
            for video in finished_videos(store)
        ]

    def note(self, section: str, figure: str, values: Sequence[float], *, truth: bool = False) -> None:
        """Keep a figure: the median of ``values``, or the part that is true, and its interval."""
        if not values:
            self.found.setdefault(section, {})[figure] = None
            return
        made = asdict(estimate([float(value) for value in values], is_truth=truth))
        self.found.setdefault(section, {})[figure] = made
        say(
            f"{section}: {figure} {made['value']:.4g} "
            f"[{made['low']:.4g}, {made['high']:.4g}] of {made['videos']}"
        )


def prompts(bench: Bench) -> None:
    """Is it what the prompt says? 100 shots without sound, at four sizes."""
    sizes = PROMPT_SIZES
    scenes = [(scene(seed, 5, "held_out"), sizes[seed % len(sizes)]) for seed in range(bench.count(100))]
    made = bench.rendered("prompts", scenes, 49, sound=False)
    for part in ("colour", "shape", "direction"):
        right = [e.world is not None and getattr(e.world, part) == getattr(s, part) for s, e in made]
        bench.note("prompts", f"{part} right", right, truth=True)
    bench.note("prompts", "shapes in a frame", [e.world.shape_count for _, e in made if e.world])
    bench.note("prompts", "frozen", [e.liveness.frozen for _, e in made])
    bench.note("prompts", "black", [e.liveness.black for _, e in made])


def vae(bench: Bench) -> None:
    """The VAE alone: held-out clips, encoded and decoded."""
    model = resolve("tiny").load_vae(torch.float32, "cpu")
    for width, height in (*SIZES, *PROMPT_SIZES[1:3]):
        values, kept = [], []
        for seed in range(bench.count(30)):
            each = scene(seed, 2, "held_out")
            clip = as_clip(render(each, 33, height, width))[None]
            with torch.no_grad():
                made = model.decode(model.encode(clip).latent_dist.mode()).sample.clamp(-1, 1)
            values.append(psnr(clip.numpy() / 2, made.numpy() / 2))
            shown = ArrayPictures((made[0].permute(1, 2, 3, 0).numpy() + 1) / 2, FPS)
            kept.append(measure_world(shown)[0].shape == each.shape)
        bench.note("vae", f"PSNR at {width}x{height} in dB", values)
        bench.note("vae", f"shape kept at {width}x{height}", kept, truth=True)


def offsets(
    made: Sequence[tuple[Scene, Evaluation]], shift: float = 0.0
) -> tuple[list[float], int, int, int]:
    """(ms of picture less truth of each flash, onsets that were to be seen, missed, extra)."""
    found: list[float] = []
    wanted = extra = 0
    for each, evaluation in made:
        last = (len(evaluation.curves) - 2) / FPS
        # The first frame has none before it to be brighter than.
        truth = np.array([onset + shift for onset in each.onsets if 1.5 / FPS < onset + shift < last])
        shown = evaluation.picture.times
        pairs = match(truth, shown)
        found += [1000 * float(shown[b] - truth[a]) for a, b in pairs]
        wanted += len(truth)
        extra += len(shown) - len(pairs)
    return found, wanted, wanted - len(found), extra


def sync(bench: Bench) -> None:
    """Does it flash when it sounds? 100 shots of three chunks; a shifted sound; without the adapter."""
    scenes = [(each, (96, 96)) for each in sounding(bench.count(100), THREE_CHUNKS / FPS)]
    made = bench.rendered("sync", scenes, THREE_CHUNKS)
    _note_offsets(bench, "sync", made)
    seams = [seam for _, e in made[:1] for seam in e.zones.seams or ()]
    edges = [(seam.start / FPS - 0.35, seam.stop / FPS + 0.35) for seam in seams]
    near = [
        (replace(s, onsets=tuple(t for t in s.onsets if any(low < t < high for low, high in edges))), e)
        for s, e in made
    ]
    found, wanted, missed, _ = offsets(near)
    bench.note("sync", "absolute offset near chunk boundaries in ms", [abs(value) for value in found])
    bench.note("sync", "seen near chunk boundaries", [1] * (wanted - missed) + [0] * missed, truth=True)
    few = scenes[: bench.count(20)]
    shifted = bench.rendered("sync-shifted", few, THREE_CHUNKS, shift=0.5)
    found, *_ = offsets(shifted, shift=0.5)
    bench.note("sync", "offset to a sound that comes 500 ms later in ms", found)
    deaf = bench.rendered("sync-deaf", few, THREE_CHUNKS, 'model.audio_adapter="none"')
    bench.note(
        "sync", "correlation without the adapter", [e.sync.correlation or 0 for _, e in deaf if e.sync]
    )
    bench.note("sync", "correlation with the adapter", [e.sync.correlation or 0 for _, e in made if e.sync])
    for scale in (1, 2, 3):
        loud = bench.rendered(
            f"sync-x{scale}", few[: bench.count(12)], 97, f"sampling.audio_guidance_scale={scale}"
        )
        bench.note(
            "sync", f"flash contrast at audio_guidance_scale {scale}", [contrast(s, e) for s, e in loud]
        )


def _note_offsets(bench: Bench, section: str, made: Sequence[tuple[Scene, Evaluation]]) -> None:
    found, wanted, missed, extra = offsets(made)
    absolute = [abs(value) for value in found]
    bench.note(section, "offset in ms", found)
    bench.note(section, "absolute offset in ms", absolute)
    late = float(np.quantile(absolute, 0.95)) if found else None
    bench.note(section, "onsets seen", [1] * (wanted - missed) + [0] * missed, truth=True)
    more = {
        "p95 of the absolute offset in ms": late,
        "flashes without a sound, per onset": extra / max(wanted, 1),
    }
    bench.found[section] |= more
    say(f"{section}: {more}")


def contrast(each: Scene, evaluation: Evaluation) -> float:
    """Mean brightness (0..1) just after the onsets less that just before them."""
    brightness = evaluation.curves.brightness
    rises = []
    for onset in each.onsets:
        first = int(np.ceil(onset * FPS - 1e-6))
        if 2 <= first < len(brightness) - 1:
            rises.append(float(brightness[first : first + 2].max() - brightness[first - 2 : first].mean()))
    return float(np.mean(rises)) if rises else 0.0


def chunks(bench: Bench) -> None:
    """Do chunks join? 15 s of four chunks in silence; and with overlap 0, where they must not."""
    scenes = [
        (replace(scene(seed, 15, "held_out"), sound=None, onsets=()), (96, 96))
        for seed in range(bench.count(40))
    ]
    for name, settings in (("chunks", ()), ("chunks-0", ("sampling.overlap_frames=0",))):
        few = scenes if not settings else scenes[: bench.count(15)]
        made = bench.rendered(name, few, FOUR_CHUNKS, *settings)
        seams = [e.seams for _, e in made if e.seams]
        jumps = [e.world_seams for _, e in made if e.world_seams]
        bench.note(
            name, "difference at seams over inside", [s.difference for s in seams if s.difference is not None]
        )
        bench.note(
            name, "edge strength at seams over inside", [s.edges for s in seams if s.edges is not None]
        )
        bench.note(name, "step of colour at seams", [s.step for s in seams if s.step is not None])
        bench.note(name, "step of colour inside", [s.inside_step for s in seams if s.inside_step is not None])
        bench.note(name, "jump at seams in short sides", [v for j in jumps for v in j.seam_jumps])
        bench.note(name, "jump inside in short sides", [v for j in jumps for v in j.inside_jumps])
        kept = [v for j in jumps for v in j.directions_kept]
        bench.note(name, "direction kept", kept, truth=True)
        bench.note(name, "shapes in a frame", [e.world.shape_count for _, e in made if e.world])


def minute(bench: Bench) -> None:
    """A minute: does it drift?"""
    scenes = [(scene(seed, 60, "held_out"), (96, 96)) for seed in range(bench.count(8))]
    made = [e for _, e in bench.rendered("minute", scenes, 1440)]
    bench.note("minute", "drift of brightness", [abs(e.drift.brightness) for e in made if e.drift])
    bench.note("minute", "drift of colour", [abs(e.drift.colour) for e in made if e.drift])


def tiles(bench: Bench) -> None:
    """Tiles against the whole decode at 1920x1088: as by default, and cut without context and blending."""
    vae = resolve("tiny").load_vae(torch.float32, "cpu")
    ratios = resolve("tiny").ratios()
    default = DecodingConfig()
    for seed in range(bench.count(3)):
        pixels = render(scene(seed, 2, "held_out"), 9, 1088, 1920)
        latents = encode_video(vae, (pixels * 255).round().astype(np.uint8))
        rows, columns = latents.shape[3:]
        settings = DecodeSettings(
            decode_timestep=0.0,
            decode_noise_scale=0.0,
            seed=0,
            rows=rows,
            columns=columns,
            device=torch.device("cpu"),
            ratios=ratios,
        )
        with torch.inference_mode():
            whole = vae.decode(denormalize(latents, vae)).sample[0].clamp(-1, 1).numpy()
        for name, halo, ramp in (("by default", default.halo, default.ramp), ("without blending", 0, 0)):
            cut = TileSettings(
                halo=halo,
                temporal_halo=default.temporal_halo,
                ramp=ramp,
                ramp_frames=default.ramp_frames,
                tile_size=768,
                slab_frames=default.slab_frames,
                tile_bytes=2**62,
                bytes_per_cell=1,
            )
            slabs = plan_slabs(9, 2, rows, columns, cut, ratios)
            made = decode_shot(vae, latents, slabs, settings).clamp(-1, 1).numpy()
            bench.note(
                "tiles",
                f"PSNR {name}, scene {seed}, {len(slabs[0].tiles)} tiles",
                [psnr(made / 2, whole / 2)],
            )


def sounding(count: int, seconds: float) -> Iterable[Scene]:
    """The first ``count`` held-out scenes with beats."""
    seed = made = 0
    while made < count:
        each = scene(seed, seconds, "held_out")
        seed += 1
        if each.onsets:
            made += 1
            yield each


def write_wave(path: Path, samples: Any) -> None:
    """16-bit mono at the world's rate."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


SECTIONS: dict[str, Callable[[Bench], None]] = {
    each.__name__: each for each in (vae, prompts, sync, chunks, minute, tiles)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="all without any")
    parser.add_argument("--output", type=Path, default=Path("out/quality"))
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of shots")
    parser.add_argument("--address", default="local", help="as for ltx-ray render")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.output, asked.scale, asked.address)
    path = asked.output / "quality.json"
    for name in asked.sections or SECTIONS:
        SECTIONS[name](bench)
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | bench.found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
