"""What is asked of a run stands until it is taken back, also for the next coordinator."""

from pathlib import Path

import pytest

from ltx_ray.ledger.control import Request, Standing, ask, asked, forget, remember, standing
from ltx_ray.storage import Store

PAUSE, RESUME, CANCEL = (Request(verb=verb) for verb in ("pause", "resume", "cancel"))
CANCEL_ONE = Request(verb="cancel", shots=("a",))


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.getfixturevalue("s3_out") if request.param == "s3" else str(tmp_path))


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [
        ([], Standing()),
        ([PAUSE], Standing(paused=True)),
        ([PAUSE, RESUME], Standing()),
        ([CANCEL_ONE], Standing()),
        ([PAUSE, CANCEL], Standing(paused=True, cancelled=True)),
        ([CANCEL, PAUSE, RESUME, CANCEL_ONE], Standing(cancelled=True)),
    ],
)
def test_what_was_done_stands_until_it_is_taken_back(
    store: Store, requests: list[Request], wanted: Standing
) -> None:
    for request in requests:
        remember(store, request)
    assert standing(store) == wanted
    assert asked(store) == [], "what stands is no request"
    forget(store)
    assert standing(store) == Standing()


def test_requests_come_in_order_beside_what_stands(store: Store) -> None:
    remember(store, PAUSE)
    for request in (RESUME, CANCEL_ONE):
        ask(store, request)
    assert [request for _, request in asked(store)] == [RESUME, CANCEL_ONE]


def test_what_is_damaged_stands_for_nothing(store: Store) -> None:
    store.write("control/0000/standing.json", b"{")
    assert standing(store) == Standing()
    store.write("control/0000/standing.json", b'{"other": 1}')
    assert standing(store) == Standing()
