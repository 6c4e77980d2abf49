"""What Ray's autoscaler would start, asked without a cluster."""

from collections.abc import Mapping, Sequence

from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.common_pb2 import LabelSelectorOperator


def launched(
    config: AutoscalingConfig,
    wanted: Sequence[dict[str, float]],
    failing: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Nodes by type that are started for actors that wait. ``wanted``: what each of them takes; ``failing``:
    types of which the cloud just had none; ``labels``: what a node must be called."""
    operator = LabelSelectorOperator.LABEL_OPERATOR_IN
    chosen = [[(key, operator, [value]) for key, value in (labels or {}).items()]]
    requests = [ResourceRequestUtil.make(each, label_selectors=chosen if labels else None) for each in wanted]
    reply = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_worker_nodes(),
            idle_timeout_s=config.get_idle_timeout_s(),
            resource_requests=ResourceRequestUtil.group_by_count(requests),
            recoverable_resource_availabilities=dict.fromkeys(failing, 0.0),
        )
    )
    return {each.instance_type: each.count for each in reply.to_launch}
