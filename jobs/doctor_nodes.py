"""The checks of ``ltx-ray doctor`` of a Ray and its nodes: from facts to findings, without effects."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cluster.facts import Machine, Node, Ray, is_loopback
from jobs.doctor_checks import Finding, State, Trouble, disk_troubles, judged, size
from ltx_ray.models.presence import ModelFacts
from ltx_ray.redact import redacted

_CLOCK_WARNING = 2.0  # seconds
_CLOCK_FAILED = 10.0  # half of the silence after which a driver counts as dead (ltx_ray/ledger/lease.py)
_TOLD = 3  # names of nodes in one line
_TOKEN = (
    "restart it with RAY_AUTH_MODE=token in the environment of every node and one token for all "
    "(`ray get-auth-token --generate` makes one), and keep its ports in a private network"
)


def check_nodes(ray: Ray) -> Finding:
    """Every living node answers."""
    troubles = [
        Trouble(
            State.FAILED,
            f"{node.name}: {node.error}",
            "look into the node's Ray logs (`ray logs`), then restart its Ray or take it out of the cluster",
        )
        for node in ray.nodes
        if node.machine is None
    ]
    return judged("nodes", f"{_count(ray.nodes)} answered", troubles)


def check_node_versions(here: Machine, nodes: Iterable[Node]) -> Finding:
    """Every node has the versions that are here: other ones may make other bytes."""
    others: defaultdict[str, list[str]] = defaultdict(list)
    for name, machine in _machines(nodes):
        differences = [
            f"{package} {theirs} (here {here.versions.get(package)})" if theirs else f"no {package}"
            for package, theirs in machine.versions.items()
            if theirs != here.versions.get(package)
        ]
        if differences:
            others[", ".join(differences)].append(name)
    troubles = [
        Trouble(State.FAILED, f"{_names(names)}: {what}", "install on every node what is installed here")
        for what, names in others.items()
    ]
    return judged("versions on nodes", "as here", troubles)


def check_gpus(
    machines: Sequence[tuple[str, Machine]], counted: Mapping[str, float] | None, wanted: str
) -> Finding:
    """GPUs are such as a run can use. ``counted``: how many Ray counts, by host; None: there is no Ray.
    ``wanted``: ``device.kind`` of the config."""
    troubles = []
    by_host = {machine.hostname: machine for _, machine in machines}
    kinds = Counter(gpu for machine in by_host.values() for gpu in machine.gpus)
    for host, machine in by_host.items():
        seen = len(machine.gpus)
        if seen and machine.torch_gpus == 0:
            torch = f"torch {machine.versions.get('torch')}"
            found = f"{torch} cannot use the GPUs of {host} with driver {machine.driver}"
            troubles.append(
                Trouble(
                    State.FAILED, found, "install a newer GPU driver there, or a torch for the one it has"
                )
            )
        count = seen if counted is None else counted.get(host, 0)
        if count > seen:
            found = f"Ray counts {count:g} GPUs on {host}, the driver sees {seen}"
            troubles.append(
                Trouble(
                    State.FAILED, found, "mend the driver there, or start Ray with the --num-gpus that it has"
                )
            )
        elif count < seen:
            found = f"Ray counts {count:g} GPUs on {host}, of {seen}: the others stay idle"
            troubles.append(
                Trouble(State.WARNING, found, "start Ray there without --num-gpus, or with all of them")
            )
    if wanted == "cuda" and not kinds:
        troubles.append(
            Trouble(
                State.FAILED, "device.kind is cuda, but there is no GPU", "set it to auto or cpu, or add GPUs"
            )
        )
    described = ", ".join(f"{count} x {gpu.name} ({size(gpu.memory)})" for gpu, count in kinds.items())
    if len({gpu.name for gpu in kinds}) > 1:
        found = (
            f"GPUs of several kinds ({described}) may round differently: bytes depend on where a shot is made"
        )
        troubles.append(
            Trouble(State.WARNING, found, "use a cluster of one kind where the same bytes matter")
        )
    return judged("GPUs", described or "none: all runs on CPUs", troubles)


def check_disks(machines: Sequence[tuple[str, Machine]]) -> Finding:
    """Every machine has room in its temporary folder."""
    troubles = [trouble for name, machine in machines for trouble in disk_troubles(name, machine.disk)]
    name, least = min(machines, key=lambda each: each[1].disk.free)
    return judged("disk", f"at least {size(least.disk.free)} free ({least.disk.path} of {name})", troubles)


def check_object_store(nodes: Sequence[Node], decoded: int) -> Finding:
    """The object stores together hold the pixels that a run may have in flight, ``decoded`` bytes."""
    total = sum(node.object_store for node in nodes)
    least = min(node.object_store for node in nodes)
    troubles = []
    if total < decoded:
        found = f"{size(total)} in all, but {size(decoded)} of pixels may be in flight: disks slow the run"
        advice = (
            f"set pools.max_decoded_bytes to {total // 2}, or start Ray with a larger --object-store-memory"
        )
        troubles.append(Trouble(State.WARNING, found, advice))
    return judged("object store", f"{size(total)} in all, {size(least)} on the smallest node", troubles)


def check_clocks(nodes: Sequence[Node]) -> Finding:
    """Clocks agree: who writes to OUT, and who is dead, is told by them."""
    troubles = []
    advice = "set its clock by NTP (chrony or systemd-timesyncd)"
    known = [(node, node.clock) for node in nodes if node.clock is not None]
    for node, clock in known:
        # What the way of the answer may have made of it does not count.
        apart = abs(clock.ahead) - clock.error
        if apart > _CLOCK_WARNING:
            state = State.FAILED if apart > _CLOCK_FAILED else State.WARNING
            side = "ahead of" if clock.ahead > 0 else "behind"
            troubles.append(
                Trouble(state, f"{node.name} is {abs(clock.ahead):.1f} s {side} this machine", advice)
            )
    if not known:
        return judged(
            "clocks", "", [Trouble(State.WARNING, "no node told its time", "see the check of the nodes")]
        )
    most = max(abs(clock.ahead) + clock.error for _, clock in known)
    return judged("clocks", f"within {most:.3f} s of this machine's", troubles)


def check_output_on_nodes(nodes: Sequence[Node], is_local: bool) -> Finding:
    """Every node finds in OUT what was written here, and can write there."""
    others: defaultdict[str, list[str]] = defaultdict(list)
    for name, machine in _machines(nodes):
        if machine.output is not None:
            others[machine.output].append(name)
    if is_local and len(nodes) > 1:
        advice = (
            "give an --output that every node shares: a folder of a shared disk that is mounted at the same "
            "path everywhere, or a URL such as s3://bucket/out"
        )
    else:
        advice = (
            "give every node the packages, rights and credentials that OUT needs, or give another --output"
        )
    troubles = [Trouble(State.FAILED, f"{_names(names)}: {what}", advice) for what, names in others.items()]
    return judged("output on nodes", "found and written by each of them", troubles)


def check_inputs_on_nodes(nodes: Sequence[Node]) -> Finding:
    """Every node can read the files that rows, and the model, name."""
    others: defaultdict[str, list[str]] = defaultdict(list)
    for name, machine in _machines(nodes):
        for url, what in machine.inputs.items():
            others[f"{redacted(url)} cannot be read ({redacted(what)})"].append(name)
    advice = (
        "put the manifest and its files where every node finds them under the same path or URL, and give "
        "nodes the packages, rights and credentials; or use `ltx-ray submit`, which copies them beside OUT"
    )
    told = list(others.items())
    troubles = [Trouble(State.FAILED, f"{_names(names)}: {what}", advice) for what, names in told[:_TOLD]]
    return judged("inputs on nodes", "read by each of them", troubles)


def check_model_on_nodes(nodes: Sequence[Node], model: ModelFacts) -> Finding:
    """Every node has the checkpoint, or can fetch it."""
    absent = [name for name, machine in _machines(nodes) if machine.model[0] == "absent"]
    bad: defaultdict[str, list[str]] = defaultdict(list)
    for name, machine in _machines(nodes):
        if machine.model[0] == "bad":
            bad[machine.model[1] or ""].append(name)
    advice = "put the model where every node finds it under the same name, or use a hub id"
    troubles = [Trouble(State.FAILED, f"{_names(names)}: {what}", advice) for what, names in bad.items()]
    if absent:
        found = f"{_names(absent)}: not fetched yet, {size(model.size or 0)} each at the first run"
        advice = "let all nodes share one HF_HOME, or fetch it there before (`hf download`)"
        troubles.append(Trouble(State.WARNING, found, advice))
    return judged("model on nodes", f"{model.name} on each of them", troubles)


def check_closed(ray: Ray) -> Finding:
    """Nobody gets an answer of Ray who has no token: who gets one may run programs on every node."""
    doors = [("its head", _is_head_open(ray)), *((node.name, _is_node_open(node)) for node in ray.nodes)]
    opened = [name for name, is_open in doors if is_open]
    unknown = [name for name, is_open in doors if is_open is None]
    troubles = []
    if opened and ray.is_private:
        found = f"{ray.address} answers without a token: every user of this machine can run programs as you"
        troubles.append(Trouble(State.WARNING, found, _TOKEN))
    elif opened:
        found = f"{_names(opened)} ({ray.address}): open, whoever reaches it can run programs on every node"
        troubles.append(Trouble(State.FAILED, found, _TOKEN))
    if unknown:
        found = f"{_names(unknown)}: out of reach, whether it wants a token is not known"
        troubles.append(
            Trouble(State.WARNING, found, "give the command on a machine within the cluster's network")
        )
    return judged("access to Ray", f"{ray.address} and its nodes refuse requests without a token", troubles)


def check_dashboard(ray: Ray) -> Finding:
    """The dashboard, from which jobs can be started, is for this machine or wants a token."""
    troubles = []
    well = "none"
    if ray.dashboard is not None and is_loopback(ray.dashboard):
        well = f"{ray.dashboard}: on its own machine only"
    elif ray.dashboard is not None:
        is_open = ray.is_dashboard_open
        well = (
            f"{ray.dashboard}: {'refuses requests without a token' if is_open is False else 'wants a token'}"
        )
        if is_open is None:  # out of reach from here: what the nodes say of themselves has to do
            is_open = not all(machine.asks_token for _, machine in _machines(ray.nodes))
        if is_open:
            found = f"{ray.dashboard} is open: whoever reaches it can start jobs on every node"
            troubles.append(Trouble(State.FAILED, found, f"give Ray --dashboard-host 127.0.0.1, or {_TOKEN}"))
    return judged("dashboard", well, troubles)


def gpus_by_host(ray: Ray) -> dict[str, float]:
    """GPUs that Ray counts, by host: several nodes may share one."""
    counted: defaultdict[str, float] = defaultdict(float)
    for node in ray.nodes:
        if node.machine is not None:
            counted[node.machine.hostname] += node.gpus
    return dict(counted)


def machines_of(nodes: Iterable[Node]) -> list[tuple[str, Machine]]:
    """The nodes that answered, by name."""
    return list(_machines(nodes))


def _machines(nodes: Iterable[Node]) -> Iterable[tuple[str, Machine]]:
    return ((node.name, node.machine) for node in nodes if node.machine is not None)


def _is_node_open(node: Node) -> bool | None:
    """By what it answered to a request without a token; where it is out of reach, by what it says itself."""
    if node.is_open is not None or node.machine is None:
        return node.is_open
    return not (node.machine.asks_token or node.machine.has_tls)


def _is_head_open(ray: Ray) -> bool | None:
    if ray.is_open is not None:
        return ray.is_open
    said = [_is_node_open(node) for node in ray.nodes if node.machine is not None]
    return any(said) if said else None


def _count(nodes: Sequence[Node]) -> str:
    hosts = {machine.hostname for _, machine in _machines(nodes)}
    plural = ("" if len(nodes) == 1 else "s", "" if len(hosts) == 1 else "s")
    return f"{len(nodes)} node{plural[0]} on {len(hosts)} host{plural[1]}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more
