"""Panels of what the work runs on: memory, failures, the cluster, and what it costs."""

from cluster.grafana.panels import RATE, RUN, Panel, quantile

MEMORY = (
    Panel(
        title="Decoded pixels",
        text="In flight. At the limit (pools.max_decoded_bytes) decoders wait for assemblers.",
        queries=(
            (f"sum(ltx_ray_decoded_bytes{{{RUN}}})", "in flight"),
            (f"sum(ltx_ray_decoded_bytes_max{{{RUN}}})", "limit"),
        ),
        unit="bytes",
    ),
    Panel(
        title="Peak memory of GPUs",
        text="The most that an actor has held, by stage and kind of GPU. Hold it against the card's size.",
        queries=(
            (
                f'max by (stage, gpu_type) (ltx_ray_actor_peak_bytes{{{RUN}, gpu_type!="cpu"}})',
                "{{stage}} {{gpu_type}}",
            ),
        ),
        unit="bytes",
    ),
    Panel(
        title="Peak memory of processes",
        text="Of actors that hold no GPU: the most that one has held, on the fullest node.",
        queries=((f'max by (stage) (ltx_ray_actor_peak_bytes{{{RUN}, gpu_type="cpu"}})', "{{stage}}"),),
        unit="bytes",
    ),
)

FAILURES = (
    Panel(
        title="Shots that ended, per hour",
        text="rejected: the row is wrong; failed: the farm, the model or the shot.",
        queries=((f"3600 * sum by (outcome) (rate(ltx_ray_shots_total{{{RUN}}}{RATE}))", "{{outcome}}"),),
    ),
    Panel(
        title="Retries, per hour",
        text="Tasks that were tried again, by why. worker_lost: an actor or its node is gone.",
        queries=((f"3600 * sum by (kind) (rate(ltx_ray_retries_total{{{RUN}}}{RATE}))", "{{kind}}"),),
    ),
    Panel(
        title="Commits",
        text="Time that the ledger's writes take: slow storage slows every stage.",
        queries=(quantile(0.5, "ltx_ray_commit_seconds"), quantile(0.95, "ltx_ray_commit_seconds")),
        unit="s",
    ),
    Panel(
        title="Failures by node, this call",
        text="Tries that failed, where. One node far ahead of all others is a bad node.",
        # Not an increase: a series begins with its first failure, which would be none.
        queries=((f"topk(15, sum by (node, stage, kind) (ltx_ray_task_failures_total{{{RUN}}}))", ""),),
        kind="table",
        width=12,
    ),
    Panel(
        title="Quarantined",
        text="Nodes that get no more work, because they failed what others could do. 0: none.",
        queries=((f"max by (node) (ltx_ray_node_quarantined{{{RUN}}} == 1) or on () vector(0)", "{{node}}"),),
        kind="table",
        width=6,
        words=("none",),
    ),
    Panel(
        title="Coordinator",
        text="Lateness of its event loop, and the age of its lease on OUT, which is renewed every 3 s. "
        "A run whose lease cannot be renewed for 14 s ends.",
        queries=(
            (f"max(ltx_ray_loop_lag_seconds{{{RUN}}})", "loop lag"),
            (
                f"max((time() - ltx_ray_lease_renewed_timestamp_seconds{{{RUN}}})"
                f" * on (run, shard, instance) ltx_ray_running{{{RUN}}})",
                "age of the lease",
            ),
        ),
        unit="s",
        width=6,
    ),
)

CLUSTER = (
    Panel(
        title="Actors",
        text="By what they do. launching: loading its part of the model; unplaced: waiting for a node.",
        queries=((f"sum by (state) (ltx_ray_pool_actors{{{RUN}}})", "{{state}}"),),
        width=6,
        stacked=True,
    ),
    Panel(
        title="Actors wanted",
        text="By stage: there or asked for.",
        queries=((f"sum by (stage) (ltx_ray_pool_actors_wanted{{{RUN}}})", "{{stage}}"),),
        width=6,
    ),
    Panel(
        title="Actors wanted, and not there",
        text="Loading their part of the model, or without a node. What stays here: the cluster has no room.",
        queries=(
            (
                f"sum by (stage) (ltx_ray_pool_actors_wanted{{{RUN}}})"
                f' - sum by (stage) (ltx_ray_pool_actors{{{RUN}, state=~"busy|idle"}})',
                "{{stage}}",
            ),
        ),
        width=6,
    ),
    Panel(
        title="Nodes",
        text="draining: about to go, gets no more work.",
        queries=((f"max by (state) (ltx_ray_nodes{{{RUN}}})", "{{state}}"),),
        width=6,
        stacked=True,
    ),
    Panel(
        title="Nodes that went, per hour",
        text="preempted and lost cost work; idle: the cluster shrank; ended: somebody took it away.",
        queries=((f"3600 * max by (reason) (rate(ltx_ray_nodes_gone_total{{{RUN}}}{RATE}))", "{{reason}}"),),
    ),
    Panel(
        title="CPUs of nodes (Ray)",
        text="Of all nodes of Ray, other jobs' work too.",
        queries=(
            ("avg(ray_node_cpu_utilization) / 100", "average"),
            ("max(ray_node_cpu_utilization) / 100", "fullest"),
        ),
        unit="percentunit",
        width=8,
        most=1,
    ),
    Panel(
        title="Memory of nodes (Ray)",
        text="At about 95% Ray kills processes.",
        queries=(
            ("avg(ray_node_mem_used / ray_node_mem_total)", "average"),
            ("max(ray_node_mem_used / ray_node_mem_total)", "fullest"),
        ),
        unit="percentunit",
        width=8,
        most=1,
    ),
    Panel(
        title="Object stores (Ray)",
        text="Decoded tiles and latents on their way. SPILLED: on disk, which slows everything.",
        queries=(("sum by (Location) (ray_object_store_memory)", "{{Location}}"),),
        unit="bytes",
        width=12,
        stacked=True,
    ),
    Panel(
        title="GPUs (Ray)",
        text="Their use as the driver tells it, and the share of their memory that is in use.",
        queries=(
            ("avg(ray_node_gpus_utilization) / 100", "use"),
            (
                "sum(ray_node_gram_used) / (sum(ray_node_gram_used) + sum(ray_node_gram_available))",
                "memory",
            ),
        ),
        unit="percentunit",
        width=12,
        most=1,
    ),
)

COST = (
    Panel(
        title="GPUs held, and at work",
        text="By the shares of a GPU that actors take. What is held is paid for.",
        queries=(
            (f"sum(rate(ltx_ray_gpu_held_seconds_total{{{RUN}}}{RATE}))", "held"),
            (f"sum(rate(ltx_ray_gpu_busy_seconds_total{{{RUN}}}{RATE}))", "at work"),
        ),
        width=6,
    ),
    Panel(
        title="GPU-hours, this time range",
        text="Held by actors, and at work.",
        queries=(
            (f"sum(increase(ltx_ray_gpu_held_seconds_total{{{RUN}}}[$__range])) / 3600", "held"),
            (f"sum(increase(ltx_ray_gpu_busy_seconds_total{{{RUN}}}[$__range])) / 3600", "at work"),
        ),
        kind="stat",
        width=6,
    ),
    Panel(
        title="Cost per hour",
        text="At metrics.price_per_gpu_hour.",
        queries=((f"3600 * sum(rate(ltx_ray_cost_total{{{RUN}}}{RATE}))", "cost per hour"),),
        width=6,
    ),
    Panel(
        title="Cost of 1,000 frames",
        text="What a thousand frames cost that became final in this time.",
        queries=(
            (
                f"1000 * sum(rate(ltx_ray_cost_total{{{RUN}}}{RATE}))"
                f' / sum(rate(ltx_ray_frames_total{{{RUN}, stage="denoise"}}{RATE}))',
                "cost of 1,000 frames",
            ),
        ),
        width=6,
    ),
)
