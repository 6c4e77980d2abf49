"""What the doctor makes of a Ray and its nodes: which facts fail, which are warnings, and who is named."""

import uuid
from dataclasses import replace
from typing import Any

import pytest
from findings import holds

from cluster.facts import Clock, Disk, Gpu, Machine, Node, Ray, is_loopback
from cluster.inspect import Answer, clock_of
from jobs.doctor_checks import GIB, Finding, State, check_output_disk, check_versions
from jobs.doctor_nodes import (
    check_clocks,
    check_closed,
    check_dashboard,
    check_disks,
    check_gpus,
    check_model_on_nodes,
    check_node_versions,
    check_nodes,
    check_object_store,
    check_output_on_nodes,
)
from ltx_ray.models.presence import ModelFacts

VERSIONS: dict[str, str | None] = {"python": "3.12.1", "ltx_ray": "0.1.0 (code 0123abcd)", "torch": "2.14.1"}
H100 = Gpu(name="NVIDIA H100", memory=80 * GIB)


def machine(hostname: str = "one", **values: Any) -> Machine:
    """One on which all is well."""
    well: dict[str, Any] = {
        "versions": VERSIONS,
        "gpus": (),
        "driver": None,
        "torch_gpus": None,
        "disk": Disk(path="/tmp", free=100 * GIB, total=200 * GIB),
        "asks_token": True,
        "has_tls": False,
    }
    return Machine(hostname=hostname, **{**well, **values})


def node(its: Machine | None = None, address: str = "10.0.0.1", **values: Any) -> Node:
    """One on which all is well."""
    well: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "gpus": 0.0,
        "object_store": 8 * GIB,
        "clock": Clock(ahead=0.0, error=0.001),
        "is_open": False,
    }
    return Node(address=address, machine=its or machine(), **{**well, **values})


def closed(*nodes: Node, **values: Any) -> Ray:
    """A Ray that is as it should be."""
    well: dict[str, Any] = {"is_open": False, "dashboard": None, "is_dashboard_open": None}
    return Ray(address="10.0.0.1:6379", nodes=nodes or (node(),), **{**well, **values})


def test_a_ray_that_answers_strangers_fails_unless_only_this_machine_reaches_it() -> None:
    holds(check_closed(closed()), State.OK)
    holds(check_closed(closed(is_open=True)), State.FAILED, "its head", "10.0.0.1:6379")
    holds(check_closed(closed(node(), node(machine("two"), is_open=True))), State.FAILED, "two/")
    private = closed(node(address="127.0.0.1", is_open=True), is_open=True)
    holds(check_closed(private), State.WARNING, "every user of this machine")
    mixed = closed(node(address="127.0.0.1"), node(machine("two"), is_open=True))
    holds(check_closed(mixed), State.FAILED, "two/")


def test_a_door_out_of_reach_is_judged_by_what_the_node_says_of_itself() -> None:
    out_of_reach = node(is_open=None)
    holds(check_closed(closed(out_of_reach, is_open=None)), State.OK)
    careless = node(machine(asks_token=False), is_open=None)
    holds(check_closed(closed(careless, is_open=None)), State.FAILED)
    with_certificates = node(machine(asks_token=False, has_tls=True), is_open=None)
    holds(check_closed(closed(with_certificates, is_open=None)), State.OK)
    silent = replace(out_of_reach, machine=None, error="no answer in 60 s")
    holds(check_closed(closed(silent, is_open=None)), State.WARNING, "out of reach")


def test_a_dashboard_for_everybody_fails() -> None:
    holds(check_dashboard(closed()), State.OK, "none")
    holds(check_dashboard(closed(dashboard="127.0.0.1:8265")), State.OK)
    holds(check_dashboard(closed(dashboard="10.0.0.1:8265", is_dashboard_open=False)), State.OK)
    holds(
        check_dashboard(closed(dashboard="10.0.0.1:8265", is_dashboard_open=True)), State.FAILED, "10.0.0.1"
    )
    holds(check_dashboard(closed(dashboard="10.0.0.1:8265")), State.OK)
    careless = node(machine(asks_token=False))
    holds(check_dashboard(closed(careless, dashboard="10.0.0.1:8265")), State.FAILED)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3:8265", True),
        ("localhost:8265", True),
        ("::1", True),
        ("[::1]:8265", True),
        ("10.0.0.1:8265", False),
        ("0.0.0.0:8265", False),
        ("[fe80::1]:8265", False),
        ("head.cluster:8265", False),
    ],
)
def test_what_only_this_machine_reaches(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_versions_that_ltx_ray_does_not_ask_for_fail() -> None:
    wanted = ("torch<2.15,>=2.11", "ray[default]<2.62,>=2.55", 's3fs>=2025.9; extra == "s3"')
    holds(check_versions(machine(), wanted), State.OK, "torch 2.14.1", "python 3.12.1")
    holds(check_versions(machine(versions={"torch": "2.14.1+cu130"}), wanted), State.OK)
    holds(
        check_versions(machine(versions={"torch": "2.10.0"}), wanted), State.FAILED, "torch must be", "2.10.0"
    )
    holds(check_versions(machine(versions={"ray": None}), wanted), State.FAILED, "ray is not installed")


def test_nodes_with_other_versions_fail_and_are_told_together() -> None:
    nodes = [node(machine(f"n{index}", versions={**VERSIONS, "torch": "2.13.0"})) for index in range(5)]
    nodes += [node(), node(machine("bare", versions={**VERSIONS, "ltx_ray": None}))]
    found = check_node_versions(machine(), nodes)
    holds(found, State.FAILED, "n0/", "and 2 more: torch 2.13.0 (here 2.14.1)", "bare/", "no ltx_ray")
    holds(check_node_versions(machine(), [node(), node()]), State.OK)
    other_code = machine(versions={**VERSIONS, "ltx_ray": "0.1.0 (code ffffffff)"})
    holds(check_node_versions(machine(), [node(other_code)]), State.FAILED, "ffffffff")


def test_a_node_that_does_not_answer_fails() -> None:
    silent = replace(node(address="10.0.0.7"), machine=None, error="no answer in 60 s")
    holds(check_nodes(closed(node(), silent)), State.FAILED, "10.0.0.7/", "no answer in 60 s")
    holds(check_nodes(closed(node(), node(machine("two")))), State.OK, "2 nodes on 2 hosts")


@pytest.mark.parametrize(
    ("ahead", "error", "state"),
    [
        (0.5, 0.01, State.OK),
        (-1.9, 0.01, State.OK),
        (2.5, 0.01, State.WARNING),
        (2.5, 1.0, State.OK),  # the way of the answer may have made it so
        (-3600.0, 0.01, State.FAILED),
        (11.0, 0.01, State.FAILED),
        (11.0, 2.0, State.WARNING),
    ],
)
def test_a_clock_is_judged_by_what_is_surely_wrong(ahead: float, error: float, state: State) -> None:
    found = check_clocks([node(), node(machine("late"), clock=Clock(ahead=ahead, error=error))])
    holds(found, state, *([] if state is State.OK else ["late/", "ahead of" if ahead > 0 else "behind"]))


def test_a_clock_that_nobody_told_is_a_warning() -> None:
    holds(check_clocks([node(clock=None)]), State.WARNING)


def test_of_several_answers_the_quickest_tells_the_clock() -> None:
    answers = [
        Answer(value=107.0, error=None, asked=100.0, answered=110.0),
        Answer(value=125.0, error=None, asked=120.0, answered=120.5),
        Answer(value=None, error="lost", asked=130.0, answered=130.0),
    ]
    assert clock_of(answers) == Clock(ahead=4.75, error=0.25)
    assert clock_of(answers[2:]) is None


def test_little_disk_is_a_warning_and_hardly_any_fails() -> None:
    def told(free: float, total: float = 100) -> Finding:
        disk = Disk(path="/spill", free=int(free * GIB), total=int(total * GIB))
        return check_disks([("a/1", machine()), ("b/2", machine("b", disk=disk))])

    holds(told(50), State.OK, "/spill of b/2")
    holds(told(9), State.WARNING, "/spill of b/2", "9.0 GiB")
    holds(told(0.5), State.FAILED, "512 MiB")
    holds(told(40, 1000), State.WARNING, "96% full")
    holds(check_output_disk(GIB // 2), State.FAILED)
    holds(check_output_disk(50 * GIB), State.OK)


def test_object_stores_smaller_than_the_pixels_in_flight_are_a_warning() -> None:
    nodes = [node(object_store=GIB), node(object_store=2 * GIB)]
    holds(check_object_store(nodes, 3 * GIB), State.OK, "3.0 GiB in all", "1.0 GiB on the smallest")
    holds(check_object_store(nodes, 4 * GIB), State.WARNING)


def test_gpus_that_cannot_be_used_fail() -> None:
    good = machine(gpus=(H100, H100), driver="590.1", torch_gpus=2)
    holds(check_gpus([("one/1", good)], {"one": 2.0}, "auto"), State.OK, "2 x NVIDIA H100 (80.0 GiB)")
    holds(check_gpus([("this machine", good)], None, "cuda"), State.OK)
    old = replace(good, driver="470.2", torch_gpus=0)
    holds(check_gpus([("one/1", old)], {"one": 2.0}, "auto"), State.FAILED, "torch 2.14.1", "470.2")
    holds(check_gpus([("one/1", good)], {"one": 0.0}, "auto"), State.WARNING, "stay idle")
    holds(check_gpus([("one/1", good)], {"one": 4.0}, "auto"), State.FAILED, "counts 4")
    holds(check_gpus([("one/1", machine())], {"one": 0.0}, "cuda"), State.FAILED, "there is no GPU")
    holds(check_gpus([("one/1", machine())], {"one": 0.0}, "auto"), State.OK, "none")
    other = machine("two", gpus=(Gpu(name="NVIDIA L4", memory=24 * GIB),), driver="590.1", torch_gpus=1)
    mixed = check_gpus([("one/1", good), ("two/2", other)], {"one": 2.0, "two": 1.0}, "auto")
    holds(mixed, State.WARNING, "NVIDIA L4", "several kinds")
    shared = check_gpus([("one/1", good), ("one/2", good)], {"one": 2.0}, "auto")
    holds(shared, State.OK, "2 x NVIDIA H100")


def test_a_local_out_that_other_hosts_do_not_find_fails() -> None:
    lost = "/out/doctor-1/create-only, which was just written, is not there"
    nodes = [node(), node(machine("two", output=lost))]
    found = check_output_on_nodes(nodes, is_local=True)
    holds(found, State.FAILED, "two/", "is not there")
    assert "every node shares" in found.advice
    on_a_shared_disk = [node(), node(machine("two"))]
    holds(check_output_on_nodes(on_a_shared_disk, is_local=True), State.OK)


def test_a_model_that_nodes_lack_fails_and_one_that_they_can_fetch_is_a_warning() -> None:
    facts = ModelFacts(name="me/model", size=9 * GIB)
    holds(check_model_on_nodes([node()], facts), State.OK)
    lacking = node(machine("two", model=("bad", "no such folder")))
    holds(check_model_on_nodes([node(), lacking], facts), State.FAILED, "two/", "no such folder")
    fetching = node(machine("two", model=("absent", "was not fetched")))
    holds(check_model_on_nodes([node(), fetching], facts), State.WARNING, "9.0 GiB")
