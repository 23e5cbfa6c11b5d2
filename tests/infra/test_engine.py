"""What previews and changes of the real program do, by the real engine on the fake providers."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pulumi import automation

from infra.settings import FLUX_OPERATOR
from tests.infra.engine import MINE, PROJECT, Engine, running_engine
from tests.infra.stack_files import ROOT, declared_keys, in_ci_or_full, stacks

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all tests; it has no stack yet."""
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch, running_engine(folder, patch) as started:
        yield started


class TestPreview:
    @pytest.mark.parametrize("stack", in_ci_or_full(stacks()))
    def test_is_accepted_without_a_call_and_leaves_the_stack_file(
        self, engine: Engine, stack: str
    ) -> None:
        engine.calls.clear()
        steps = engine.preview(stack)
        assert set(steps.values()) == {"create"}
        assert {"cluster", "measured", "deadline", "sink", "writer"} <= set(steps)
        assert engine.calls == []
        name = f"Pulumi.{stack}.yaml"
        assert (engine.folder / name).read_bytes() == (ROOT / name).read_bytes()

    def test_of_a_wrong_setting_shows_its_sentence_and_no_traceback(self, engine: Engine) -> None:
        with pytest.raises(automation.CommandError) as caught:
            engine.preview("size-8", {"threadsPerCore": "7"})
        text = str(caught.value)
        assert (
            "error: Stack size-8 sets pull-study:threadsPerCore to 7, but it must be 1 or 2."
            in text
        )
        assert "pulumi config set --stack size-8 pull-study:threadsPerCore 1" in text
        assert "Traceback" not in text

    def test_of_a_missing_node_count_is_refused_by_the_cli(self, engine: Engine) -> None:
        stack = engine.stack("size-8")
        stack.remove_config("pull-study:nodeCount")
        with pytest.raises(automation.CommandError, match="nodeCount"):
            stack.preview()


@pytest.fixture(scope="module")
def standing(engine: Engine) -> Engine:
    """The engine with MINE up: size-4 under a name that allows any number of nodes."""
    engine.up(MINE)
    return engine


SOON = "in two days"
ARCHIVE = f"{PROJECT}-pull-study-{MINE}"
LABELLED = {"cluster": "update", ARCHIVE: "update"}
POOLS = {"measured": "replace", "monitoring": "replace"}
INSIDE = dict.fromkeys(
    ("account", "binding", "configuration", "deployment", "namespace", "role"), "replace"
)
"""What is in a cluster is replaced with it."""
OPERATOR = (
    "miniclusters", "operator-account", "operator-binding", "operator-deployment",
    "operator-namespace", "operator-role",
)  # fmt: skip
NODE_INIT = ("node-init", "node-init-reader", "node-init-script")
ANOTHER_CLUSTER = INSIDE | POOLS | {"cluster": "replace"}
JOBS = dict.fromkeys(("deadline", "deadline-next-day"), "update")
ANOTHER_PLACE = JOBS | {"expiry-deletes-clusters": "replace", "sink": "update"}
ALL_IN_PLACE = dict.fromkeys(("cluster", "measured", "monitoring"), "update")
CHANGES: list[tuple[str, object, dict[str, str]]] = [
    ("nodeCount", "5", {"measured": "update"}),
    ("zones", ["us-central1-b"], ANOTHER_CLUSTER | ANOTHER_PLACE),
    ("regional", "true", ANOTHER_CLUSTER | ANOTHER_PLACE),
    ("machineType", "n1-standard-32", {"measured": "update"}),
    ("minCpuPlatform", "Intel Skylake", {"measured": "replace"}),
    ("threadsPerCore", "2", {"measured": "replace"}),
    ("gvnic", "false", {"measured": "update"}),
    ("spot", "true", {"measured": "replace"}),
    ("diskType", "pd-ssd", {"measured": "update"}),
    ("diskSizeGb", "200", {"measured": "update"}),
    ("localSsdCount", "1", {"measured": "replace"}),
    (
        "imageStreaming",
        "true",
        {
            "image-streaming": "create",
            "nodes-serviceUsageConsumer": "create",
            "measured": "update",
        },
    ),
    ("maxParallelImagePulls", "5", {"measured": "update"}),
    (
        "preloadedImage",
        "ours",
        {
            "image-streaming": "create",
            "nodes-serviceUsageConsumer": "create",
            "measured": "replace",
        },
    ),
    ("parallelUnpacks", "9", dict.fromkeys(NODE_INIT, "create") | {"measured": "update"}),
    ("registryHosts", {"ghcr.io": ["https://m.example"]}, {"measured": "update"}),
    ("remoteRepository", "ghcr.io", {"pull-through": "create"}),
    ("releaseChannel", "RAPID", {"cluster": "update"}),
    ("releaseChannel", "UNSPECIFIED", ALL_IN_PLACE),
    ("kubernetesVersion", "1.34", ALL_IN_PLACE),
    ("privateNodes", "true", {"cluster": "update"}),
    ("shieldedNodes", "false", POOLS | {"cluster": "update"}),
    ("workloadMetadata", "GKE_METADATA", ALL_IN_PLACE),
    ("podRangePrefix", "15", ANOTHER_CLUSTER),
    (
        "monitoringPool",
        "false",
        {"monitoring": "delete", "measured": "update", "deployment": "update"},
    ),
    ("monitoringMachineType", "e2-standard-8", {"monitoring": "update"}),
    ("exporter", "none", dict.fromkeys(INSIDE, "delete") | {"sink": "update"}),
    ("exporter", f"mirror.example/exporter@sha256:{'0' * 64}", {"deployment": "update"}),
    ("fluxOperator", FLUX_OPERATOR, dict.fromkeys(OPERATOR, "create")),
    ("archiveBucket", "ours", {ARCHIVE: "delete", "sink": "update", "writer": "replace"}),
    ("archiveDays", "30", {ARCHIVE: "update"}),
    ("deadlineHours", "24", {}),
    ("expiresAt", SOON, JOBS | {"cluster": "update"}),
    ("runId", "r1", LABELLED),
    ("labels", {"team": "systems"}, LABELLED),
]
"""What a change of one setting does to a stack that is up."""
IN_CI = {
    "nodeCount", "regional", "machineType", "threadsPerCore", "imageStreaming",
    "maxParallelImagePulls", "shieldedNodes", "monitoringPool", "archiveBucket", "expiresAt",
}  # fmt: skip


class TestChanges:
    def test_second_up_has_nothing_to_do(self, standing: Engine) -> None:
        assert standing.preview(MINE) == {}

    @pytest.mark.parametrize(
        ("key", "value", "steps"),
        [
            pytest.param(
                *change,
                id=f"{change[0]}-{change[1]}",
                marks=() if change[0] in IN_CI else pytest.mark.full,
            )
            for change in CHANGES
        ],
    )
    def test_do_exactly_this(
        self, standing: Engine, key: str, value: object, steps: dict[str, str]
    ) -> None:
        if value == SOON:
            value = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%MZ}"
        with_it = {"imageStreaming": "true"} if key == "preloadedImage" else {}
        assert standing.preview(MINE, {key: value, **with_it}) == steps


def test_every_setting_is_among_the_changes() -> None:
    assert {key for key, _, _ in CHANGES} == set(declared_keys())


class TestLife:
    @pytest.mark.full
    def test_of_a_stack_leaves_only_its_archive_and_can_start_again(self, engine: Engine) -> None:
        first = engine.up("size-16")
        assert "pull-study-size-16" in engine.clusters
        stack = engine.stack("size-16")
        stack.destroy()
        assert "pull-study-size-16" not in engine.clusters
        second = engine.up("size-16")
        buckets = {up.outputs["archive_bucket"].value for up in (first, second)}
        assert len(buckets) == 2
        stack.destroy()

    @pytest.mark.full
    def test_keeps_the_deadline_of_its_first_up(self, engine: Engine) -> None:
        first = engine.up("size-32").outputs["expires_at"].value
        assert engine.up("size-32").outputs["expires_at"].value == first
        engine.stack("size-32").destroy()

    def test_ends_with_the_dead_mans_request_and_its_rights(self, engine: Engine) -> None:
        engine.up("size-64")
        jobs = f"scheduler/v1/projects/{PROJECT}/locations/us-central1/jobs"
        engine.google.ok("POST", f"{jobs}/pull-study-size-64:run")
        end = time.monotonic() + 20
        while "pull-study-size-64" in engine.clusters and time.monotonic() < end:
            time.sleep(0.1)
        assert "pull-study-size-64" not in engine.clusters
        engine.stack("size-64").destroy()
        assert engine.google.call("GET", f"{jobs}/pull-study-size-64").status_code == 404
