"""The training loop: goes on from where it stopped as if it never had, and tells what happens."""

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ltx_ray.errors import UserError
from ltx_ray.training.loop import Batch, LoopSettings, fit
from ltx_ray.training.muon import Muon, muon_and_adamw


class Points(Dataset[Batch]):
    """Batch n: points and what a hidden matrix makes of them."""

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, step: int) -> Batch:
        draw = torch.Generator().manual_seed(step)
        points = torch.randn(8, 6, generator=draw)
        return {"points": points, "wanted": points @ torch.linspace(-1, 1, 24).reshape(6, 4)}


class Regression(nn.Module):
    """An objective: a linear layer that is told noisy points."""

    def __init__(self) -> None:
        super().__init__()
        self.trained, self.skips = nn.Linear(6, 4), False
        with torch.no_grad():
            for weight in self.trained.parameters():
                weight.zero_()

    def forward(self, batch: Batch, step: int, draw: torch.Generator) -> dict[str, Tensor]:
        noise = 0.01 * torch.randn(batch["points"].shape, generator=draw)
        loss = (self.trained(batch["points"] + noise) - batch["wanted"]).square().mean()
        figures = {"loss": loss}
        if step % 2:
            figures["odd"] = torch.tensor(1.0)
        return figures

    def optimizers(self, rate: float) -> list[torch.optim.Optimizer]:
        return muon_and_adamw({1: [self.trained.weight]}, [self.trained.bias], rate)

    def preview(self, trained: nn.Module, path: Path) -> dict[str, float]:
        return {"size": float(next(trained.parameters()).detach().abs().mean())}

    def export(self, trained: nn.Module, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(trained.state_dict(), folder / "weights.pt")


def settings(output: Path, **changes: Any) -> LoopSettings:
    values: dict[str, Any] = {"steps": 12, "learning_rate": 0.05, "warmup_steps": 2, "log_every": 2}
    return LoopSettings(output=output, save_every=4, preview_every=6, **values | changes)


def exported(output: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(output / "export" / "weights.pt")
    return weights


def logged(output: Path) -> dict[tuple[int, str], float]:
    with (output / "log.csv").open() as file:
        return {(int(row["step"]), row["figure"]): float(row["value"]) for row in csv.DictReader(file)}


def test_a_resumed_training_is_the_unbroken_one(tmp_path: Path) -> None:
    said: list[str] = []
    fit(Regression(), Points(), settings(tmp_path / "whole"), said.append)
    # Stopped after the fifth step by its time, though saved by its fourth: nothing is lost that was done.
    fit(Regression(), Points(), settings(tmp_path / "parts", minutes=0.0), said.append)
    assert (
        exported(tmp_path / "parts")["weight"].abs().max()
        < exported(tmp_path / "whole")["weight"].abs().max()
    )
    said.clear()
    fit(Regression(), Points(), settings(tmp_path / "parts"), said.append)
    assert said[0] == "going on from step 1 of 12"
    for name, weight in exported(tmp_path / "whole").items():
        assert torch.equal(weight, exported(tmp_path / "parts")[name]), name
    losses = [logged(tmp_path / run)[12, "loss"] for run in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_a_finished_training_does_nothing_more(tmp_path: Path) -> None:
    fit(Regression(), Points(), settings(tmp_path), lambda _: None)
    before = exported(tmp_path)["weight"]
    rows = len(logged(tmp_path))
    fit(Regression(), Points(), settings(tmp_path), lambda _: None)
    assert torch.equal(before, exported(tmp_path)["weight"])
    assert len(logged(tmp_path)) == rows


def test_the_log_has_means_of_what_each_batch_told(tmp_path: Path) -> None:
    fit(Regression(), Points(), settings(tmp_path, steps=60, decay=0.8, learning_rate=0.3), lambda _: None)
    figures = logged(tmp_path)
    assert figures[60, "loss"] < 0.2 * figures[2, "loss"]
    assert figures[2, "odd"] == 1  # told by one batch of the two
    assert {name for _, name in figures} == {
        *("loss", "odd", "gradient", "seconds", "learning_rate", "preview/size"),
    }
    assert (60, "preview/size") in figures


def test_the_rate_rises_holds_and_falls(tmp_path: Path) -> None:
    asked = settings(tmp_path, steps=100, warmup_steps=10, decay=0.5, learning_rate=1.0)
    rates = [asked.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:50] == [1.0] * 41
    assert all(a > b for a, b in pairwise(rates[51:]))
    assert rates[99] == pytest.approx(0.02)


@pytest.mark.parametrize("change", [{"steps": 0}, {"learning_rate": 0.0}])
def test_impossible_settings_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="at least one step and a learning rate above 0, got"):
        settings(tmp_path, **change)


@pytest.mark.parametrize("shape", [(24, 10), (10, 24), (16, 6, 3, 3, 3)])
@pytest.mark.parametrize("copies", [1, 2])
def test_muon_steps_have_equal_singular_values(shape: tuple[int, ...], copies: int) -> None:
    draw = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=draw)
    Muon([{"params": [weight], "copies": copies}], lr=1.0).step()
    for copy in range(copies):
        values = torch.linalg.svdvals(weight.detach()[copy::copies].flatten(1))
        assert values.max() < 2.2 * values.min()  # the iteration ends at 0.7 to 1.2 of the same
    assert weight.detach().square().mean().sqrt() == pytest.approx(0.2, rel=0.4)
