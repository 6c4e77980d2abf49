"""GPUs go where the farm is slowest: never too many, never too few, and not to and fro."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.capacity import Capacity, Space
from cluster.sizing import Demand, ramped, settled, split

SHARES = (0.2, 0.25, 0.4, 0.5, 1.0)
demands = st.lists(
    st.builds(
        Demand,
        seconds=st.floats(0.1, 1000),
        share=st.sampled_from(SHARES),
        most=st.integers(1, 40),
    ),
    min_size=1,
    max_size=3,
).map(lambda found: dict(enumerate(found)))


def throughput(sizes: dict[int, int], wanted: dict[int, Demand]) -> float:
    """Shots a second."""
    return min(sizes[name] / demand.seconds for name, demand in wanted.items())


@given(demands, st.floats(0, 40))
def test_never_more_gpus_than_there_are_and_never_more_actors_than_allowed(
    wanted: dict[int, Demand], gpus: float
) -> None:
    sizes = split(wanted, gpus)
    assert sum(sizes[name] * demand.share for name, demand in wanted.items()) <= gpus + 1e-6
    assert all(0 <= sizes[name] <= demand.most for name, demand in wanted.items())
    if gpus >= sum(demand.share for demand in wanted.values()):
        assert min(sizes.values()) >= 1


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=2), st.sampled_from(SHARES), st.integers(2, 12))
def test_no_other_split_is_faster(seconds: list[float], share: float, gpus: int) -> None:
    wanted = {0: Demand(seconds=seconds[0], share=1.0), 1: Demand(seconds=seconds[1], share=share)}
    best = max(
        throughput({0: first, 1: second}, wanted)
        for first, second in itertools.product(range(1, gpus + 1), range(1, int(gpus / share) + 1))
        if first + second * share <= gpus + 1e-9
    )
    assert throughput(split(wanted, gpus), wanted) == pytest.approx(best)


def test_the_least_of_a_stage_is_kept_for_it() -> None:
    wanted = {"condition": Demand(seconds=0.1, share=0.5, least=4), "denoise": Demand(seconds=100, share=1)}
    assert split(wanted, 8) == {"condition": 4, "denoise": 6}


def test_a_stage_grows_by_doubling_after_a_first_step() -> None:
    sizes, working = [], 0
    while working < 1000:
        working = ramped(1000, working)
        sizes.append(working)
    assert sizes == [16, 32, 64, 128, 256, 512, 1000]
    assert ramped(3, 0) == 3


def test_actors_are_moved_for_a_stage_that_starves_and_for_more_than_an_error_of_measurement() -> None:
    now = {"denoise": 30, "decode": 4}
    assert settled(now, {"denoise": 28, "decode": 8}, {"decode"}) == {"denoise": 28, "decode": 8}
    assert settled(now, {"denoise": 28, "decode": 8}, {"denoise"}) == now
    assert settled(now, {"denoise": 28, "decode": 8}, set()) == now
    assert settled(now, {"denoise": 32, "decode": 2}, {"denoise"}) == now


def test_what_an_actor_lacks_is_told() -> None:
    small, large = Space(4), Space(16, 1)
    assert Capacity().lack(Space(1, 1)) == "no node has 1 GPU and 1 CPU: there is none"
    cluster = Capacity((small, large), (Space(3), Space(12, 0.6)))
    assert cluster.lack(Space(1, 2)) == "no node has 2 GPU and 1 CPU: the largest has 1 GPU and 16 CPU"
    assert cluster.lack(Space(1, 1)) == (
        "no node has 1 GPU and 1 CPU free (0.6 GPU and 15 CPU are free on all together)"
    )
    assert "0.4 GPU and 1 CPU are free on a node" in cluster.lack(Space(1, 0.4))
    assert (cluster.gpus, cluster.cpus) == (1, 20)
