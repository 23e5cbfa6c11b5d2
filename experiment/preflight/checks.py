"""Every check before a run costs anything: a finding each, with its fix.

A new check is a generator of findings, here or in a module of this folder. A check changes nothing.
What needs the running cluster is checked in the prepare phase (experiment.measure.prepare).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from experiment.errors import RunError
from experiment.plan.cost import own_deadline, run_estimate
from experiment.plan.open_run import require_operator
from experiment.plan.registry import check_digest
from experiment.plan.request import runs_folder
from experiment.preflight.capacity import (
    check_cost,
    check_disk,
    check_exporter,
    check_registry_limits,
    check_traffic,
)
from experiment.preflight.findings import (
    Finding,
    Level,
    listed,
    ok,
    permissions_finding,
    refuse,
    stop,
    warning,
)
from experiment.preflight.google_checks import GoogleChecks
from experiment.preflight.programs import check_login, check_programs
from experiment.preflight.quota_checks import check_quotas_together
from experiment.provision.cluster import Cluster
from experiment.provision.existing_cluster import (
    MACHINE_LABEL,
    MINICLUSTER_RIGHTS,
    RIGHTS,
    ExistingCluster,
)
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_cluster import StackCluster
from experiment.run_folder import BYTES_PER_CELL, Free, free_space
from experiment.terminal.progress import Progress
from schema.run_records import PlannedTrial

_PARALLEL = 4
_LEAST_FREE_BYTES = 50_000_000
_LEAST_FREE_FILES = 200
_SERVICES = {"exporter": "event exporter", "fluxOperator": "Flux Operator"}
"""Settings of the images that a stack runs besides the study's."""

Check = Callable[[], Iterable[Finding]]


def check_run(
    trials: Sequence[PlannedTrial],
    cluster: Cluster,
    budget_usd: float | None,
    folder: Path,
    progress: Progress,
    *,
    reopened: bool,
) -> None:
    """Carry out every check of a run and show the warnings.

    Raises:
        PreflightError: a check failed.
    """
    found: list[Finding] = []
    for finding in examine(trials, cluster, budget_usd, folder, reopened=reopened):
        found.append(finding)
        progress.now(f"{finding.check}: {finding.text}")
        if finding.level is Level.WARNING:
            progress.say(f"Warning ({finding.check}): {finding.text} Fix: {finding.fix}")
    refuse(found)


def examine(
    trials: Sequence[PlannedTrial],
    cluster: Cluster,
    budget_usd: float | None = None,
    folder: Path | None = None,
    *,
    reopened: bool = False,
) -> Iterator[Finding]:
    """Carry out every check of a run, one after another.

    Args:
        trials: the plan.
        cluster: of the run.
        budget_usd: what the run may cost.
        folder: of the run; by default of all runs.
        reopened: the digests were resolved by an earlier command, and are checked again.
    """
    yield from check_disk_here(folder or runs_folder(), len(trials) * cluster.node_count)
    stack = cluster if isinstance(cluster, StackCluster) else None
    needs = stack.facts.needs if stack else None
    images = (needs.exporter_image, needs.flux_operator_image) if needs else ()
    services = dict(zip(images, _SERVICES, strict=False))
    with ExitStack() as opened:
        own: tuple[Check, ...] = ()
        if stack:
            google = opened.enter_context(closing(GoogleChecks(stack.facts)))
            own = (check_programs, check_login, operator_check(trials, stack), *google.all())
        elif isinstance(cluster, ExistingCluster):
            own = (cluster_check(cluster, trials),)
        registry = registry_check(trials, reopened=reopened, services=services)
        yield from _carried_out((*own, registry))
    private_nodes = needs is not None and needs.private_nodes
    yield from check_registry_limits(trials, cluster.node_count, private_nodes=private_nodes)
    yield from check_disk(trials, cluster.disk_gb, of_stack=stack is not None)
    if stack:
        yield from _check_settings(trials, stack, budget_usd)


def check_together(clusters: Sequence[Cluster], parallel: int) -> Iterator[Finding]:
    """Check what stacks share that are up at the same time: each project's quotas.

    Raises:
        RunError: Google refused or did not answer.
    """
    stacks = [cluster.facts for cluster in clusters if isinstance(cluster, StackCluster)]
    for project in dict.fromkeys(facts.project for facts in stacks):
        own = [facts for facts in stacks if facts.project == project]
        if min(parallel, len(own)) > 1:
            with closing(GoogleApi(project)) as api:
                yield from check_quotas_together(api, own, parallel)


def _check_settings(
    trials: Sequence[PlannedTrial], cluster: StackCluster, budget_usd: float | None
) -> Iterator[Finding]:
    needs = cluster.facts.needs
    if needs.exporter:
        yield from check_exporter(needs.exporter, cluster.node_count)
    estimate = run_estimate(trials, cluster)
    yield from check_traffic(estimate)
    hours = own_deadline(cluster, trials) or needs.deadline_hours
    yield from check_cost(estimate, budget_usd, hours)


def _carried_out(checks: Iterable[Check]) -> Iterator[Finding]:
    """Turn an error of a check into a finding."""
    for check in checks:
        try:
            yield from check()
        except RunError as error:
            name = check.__name__.removeprefix("check_")
            yield stop(name, error.problem, error.fix, error.failure)


def check_disk_here(folder: Path, cells: int) -> Iterator[Finding]:
    """Check that the disk of the run's folder has space for the records of its cells."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free, needed = free_space(there), _LEAST_FREE_BYTES + cells * BYTES_PER_CELL
    if free.lacks(needed, _LEAST_FREE_FILES):
        yield stop(
            "disk here",
            f"The disk of {there} has {free} free; the run's records need up to "
            f"{Free(needed, _LEAST_FREE_FILES)}.",
            f"free space: df -h {there}; df -i {there}",
        )
    else:
        yield ok("disk here", f"{free.bytes / 1e9:.1f} GB are free in {there}")


def registry_check(
    trials: Sequence[PlannedTrial], *, reopened: bool, services: Mapping[str, str]
) -> Check:
    """Return a check that every image of a run is in its registry.

    Args:
        trials: a new plan has just resolved their digests.
        reopened: they were resolved by an earlier command, and are asked for again.
        services: setting of each image that the stack runs, by the image with its digest; an empty
            image for none.
    """
    planned = [image for trial in trials for image in (trial.image, trial.view) if image]
    images = {f"{image.source}@{image.digest}" for image in planned}

    def check_registry() -> Iterator[Finding]:
        asked = [*(sorted(images) if reopened else ()), *filter(None, services)]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            problems = [
                _service_missing(services[name], error) if name in services else error
                for name, error in zip(asked, pool.map(_missing, asked), strict=True)
                if error
            ]
        for error in problems[:3]:
            yield stop("registry", error.problem, error.fix, error.failure)
        if not problems:
            hosts = sorted({name.partition("/")[0] for name in (*images, *asked)})
            yield ok(
                "registry", f"{len(images | set(asked))} digests are present in {listed(hosts)}"
            )

    return check_registry


def operator_check(trials: Sequence[PlannedTrial], cluster: Cluster) -> Check:
    """Return a check that a stack installs the operator of MiniClusters, if there are any."""

    def check_operator() -> Iterator[Finding]:
        require_operator(trials, cluster)
        if any(trial.view for trial in trials):
            yield ok("operator", "the stack installs the Flux Operator")

    return check_operator


def _missing(name: str) -> RunError | None:
    try:
        check_digest(name)
    except RunError as error:
        return error
    return None


def _service_missing(setting: str, error: RunError) -> RunError:
    """The cluster would come up, and wait in vain for the service's pod."""
    return RunError(
        f"The {_SERVICES[setting]} would not start, and a paid cluster be taken down: "
        f"{error.problem}",
        f"pulumi config set pull-study:{setting} MIRROR@sha256:DIGEST (a copy in Artifact "
        "Registry), or none",
        failure=error.failure,
    )


def cluster_check(cluster: ExistingCluster, trials: Sequence[PlannedTrial]) -> Check:
    """Return the check of an existing cluster: nodes, permissions, events, images on the nodes."""

    def check_cluster() -> Iterator[Finding]:
        nodes = f"{cluster.node_count} nodes of the cluster {cluster.name}"
        yield ok("nodes", f"{nodes} are Ready and accept pods: {cluster.machine_type}")
        if "," in cluster.machine_type:
            yield warning(
                "nodes",
                "The nodes have several machine types, so their pull times are not comparable.",
                f"--node-selector {MACHINE_LABEL}=TYPE",
            )
        if cluster.left_out:
            yield warning("nodes", cluster.warnings[0], "kubectl get nodes")
        miniclusters = any(trial.view for trial in trials)
        missing = cluster.missing_rights(miniclusters=miniclusters)
        yield permissions_finding(
            [*map(str, missing)],
            len(RIGHTS) + miniclusters * len(MINICLUSTER_RIGHTS),
            f"the cluster {cluster.name}",
            "have those of docs/existing-clusters.md granted to the kubeconfig's user",
        )
        if missing:
            return
        if miniclusters and not cluster.kube.serves_miniclusters():
            yield stop(
                "operator",
                f"The cluster {cluster.name} has no MiniClusters: the Flux Operator is not "
                "installed.",
                "install it (https://github.com/flux-framework/flux-operator), or: --workload job",
            )
        cluster.require_free()
        yield ok("in use", "no other run measures on the cluster")
        yield warning(
            "events",
            "The runner's watch is the only source of events: an event that it misses is lost, and "
            "the ledger cannot compare sources.",
            "use a stack of this program, which has an event exporter and Cloud Logging",
        )
        present = images_present(cluster, trials)
        yield ok(
            "cold",
            f"{present} of the study's images are on a node; every image is removed before its "
            "turn, by a privileged pod, and its absence proved",
        )

    return check_cluster


def images_present(cluster: ExistingCluster, trials: Sequence[PlannedTrial]) -> int:
    """Return how many of the study's images a node reports."""
    names = [
        name
        for node in cluster.nodes
        for image in node["status"].get("images") or []
        for name in image.get("names") or []
    ]
    digests = {name.rpartition("@")[2] for name in names if "@" in name}
    return len({trial.image.digest for trial in trials} & digests)
