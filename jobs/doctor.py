"""``ltx-ray doctor``: can a run be rendered, is the cluster closed? First the facts, then the findings."""

from dataclasses import dataclass, replace
from importlib import metadata

from cluster.facts import Machine, Ray
from cluster.node_probe import look
from jobs.doctor_checks import (
    Finding,
    State,
    check_added,
    check_model,
    check_output,
    check_output_disk,
    check_versions,
)
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
    gpus_by_host,
    machines_of,
)
from jobs.render import IN_PROCESS
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError
from ltx_ray.models.presence import ModelFacts, look_for_model
from ltx_ray.storage_probe import StoreFacts, StoreProbe

_DISTRIBUTION = "ltx-ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """What the command line asked for."""

    address: str
    output: str | None  # None: OUT is not checked
    config: RenderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was found out."""

    request: DoctorRequest
    requirements: tuple[str, ...]  # what ltx-ray asks for, as pip writes it
    here: Machine
    ray: Ray | None  # None: none was asked for, or none answers
    ray_problem: str | None  # why none answers
    output: StoreFacts | None  # None: not asked for
    model: ModelFacts


def gather(request: DoctorRequest) -> Facts:
    """Look at everything. What cannot be looked at is a fact, too: nothing is raised for it."""
    model = look_for_model(request.config)
    ray: Ray | None = None
    problem: str | None = None
    with_output = _OutputLook(request.output)
    try:
        try:
            ray = _look_at_ray(request, with_output.file)
        except ConfigError as error:
            problem = str(error)
    finally:
        with_output.clear()
    return Facts(
        request=request,
        requirements=_requirements(),
        here=Machine.of(look()),
        ray=ray,
        ray_problem=problem,
        output=with_output.facts,
        model=model,
    )


def examine(facts: Facts) -> tuple[Finding, ...]:
    """A finding for each check that applies."""
    config, here, ray, output = facts.request.config, facts.here, facts.ray, facts.output
    findings = [check_versions(here, facts.requirements), _check_ray(facts)]
    machines = [("this machine", here)]
    if ray is not None:
        findings += [check_closed(ray), check_dashboard(ray), check_nodes(ray)]
        findings += [check_node_versions(here, ray.nodes), check_clocks(ray.nodes)]
        findings += [check_object_store(ray.nodes, config.pools.max_decoded_bytes)]
        machines = machines_of(ray.nodes)
    if machines:
        counted = None if ray is None else gpus_by_host(ray)
        findings += [check_gpus(machines, counted, config.device.kind), check_disks(machines)]
    if output is not None:
        findings.append(check_output(output))
        if output.free is not None:
            findings.append(check_output_disk(output.free))
        if ray is not None and output.problem is None:
            findings.append(check_output_on_nodes(ray.nodes, output.is_local))
    findings += [check_model(facts.model), check_added(facts.model)]
    if ray is not None and facts.model.problem is None:
        findings.append(check_model_on_nodes(ray.nodes, facts.model))
    return tuple(findings)


def _check_ray(facts: Facts) -> Finding:
    address = facts.request.address
    if facts.ray_problem is not None:
        return Finding(
            check="Ray",
            state=State.FAILED,
            found=facts.ray_problem,
            advice="mend that, and give the command again",
        )
    if address == IN_PROCESS:
        found = "none: the whole run is one process, nothing listens, and there are no nodes to ask"
    elif address == "local":
        found = "one of the command's own, which ends with it"
    else:
        found = f"{address}: answers"
    return Finding(check="Ray", state=State.OK, found=found)


class _OutputLook:
    """Tries OUT out; what it wrote lies there for the nodes to find until ``clear``."""

    def __init__(self, url: str | None) -> None:
        self.facts: StoreFacts | None = None
        self.file: tuple[str, str, bytes] | None = None  # as ``node_probe.look`` takes it
        self._probe: StoreProbe | None = None
        if url is None:
            return
        try:
            self._probe = StoreProbe(url)
        except ConfigError as error:
            self.facts = StoreFacts(url=url, is_local="://" not in url, problem=str(error))
            return
        self.facts = self._probe.try_out()
        if self.facts.problem is None:
            self.file = (url, self._probe.name, self._probe.content)

    def clear(self) -> None:
        """Delete what was written."""
        if self._probe is not None and self.facts is not None:
            self.facts = replace(self.facts, left_behind=self._probe.clear())


def _look_at_ray(request: DoctorRequest, output: tuple[str, str, bytes] | None) -> Ray | None:
    if request.address == IN_PROCESS:
        return None
    from cluster.inspect import visit_ray  # only here: in-process needs no Ray

    return visit_ray(request.address, output, request.config.model.name)


def _requirements() -> tuple[str, ...]:
    try:
        return tuple(metadata.requires(_DISTRIBUTION) or ())
    except metadata.PackageNotFoundError:  # as where a job has brought its folders along
        return ()
