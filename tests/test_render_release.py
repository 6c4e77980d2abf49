"""The text encoder, the largest part of a model after the transformer, is let go when all is encoded."""

from pathlib import Path

from faulty_runs import SETTINGS
from runs import actors, command, committed_chunks, finish, manifest_rows, start, wait_until, write_manifest


def test_the_text_encoder_is_gone_while_its_shots_are_still_denoised(tmp_path: Path) -> None:
    row = {"id": "s", "prompt": "a red circle", "width": 64, "height": 64, "num_frames": 241}
    manifest = write_manifest(tmp_path / "shots.jsonl", [row])
    run = start(command(manifest, tmp_path / "out", "--denoisers", "1", settings=SETTINGS))
    wait_until(lambda: actors(run, "Conditioner"), run)

    def is_released() -> bool:
        return bool(actors(run, "Denoiser")) and not actors(run, "Conditioner")

    wait_until(is_released, run)
    done = committed_chunks(tmp_path / "out")
    assert len(done) < 14, "there is much left to denoise"
    finish(run)
    assert [row["status"] for row in manifest_rows(tmp_path / "out")] == ["done"]
    assert len(committed_chunks(tmp_path / "out")) > len(done)
