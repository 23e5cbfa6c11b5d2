import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests
from pulumi import automation

from tests.infra.engine import MINE, PROJECT, Engine, running_engine
from tests.infra.stack_files import ROOT, declared_keys, stacks

pytestmark = [pytest.mark.live, pytest.mark.full]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all previews; it has no stack yet."""
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch, running_engine(folder, patch) as started:
        yield started


class TestPreview:
    @pytest.mark.parametrize("stack", stacks())
    def test_of_every_stack_is_accepted_and_asks_google_nothing(
        self, engine: Engine, stack: str
    ) -> None:
        before = engine.google.requests
        steps = engine.preview(stack)
        assert set(steps.values()) == {"create"}
        assert {"cluster", "measured", "deadline", "sink", "writer"} <= set(steps)
        assert engine.google.requests == before

    @pytest.mark.parametrize("stack", stacks())
    def test_and_making_the_stack_leave_the_file_byte_for_byte(
        self, engine: Engine, stack: str
    ) -> None:
        engine.stack(stack)
        name = f"Pulumi.{stack}.yaml"
        assert (engine.folder / name).read_bytes() == (ROOT / name).read_bytes()

    def test_of_a_wrong_setting_says_its_sentence_and_no_traceback(self, engine: Engine) -> None:
        with pytest.raises(automation.CommandError) as caught:
            engine.preview("size-8", {"zone": "us-central1-zz"})
        text = str(caught.value)
        assert (
            "error: Stack size-8 sets pull-study:zone to us-central1-zz, but Google Cloud" in text
        )
        assert "pulumi config set --stack size-8 pull-study:zone us-central1-f" in text
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
"""What is in a cluster is made anew with it."""
ANOTHER_CLUSTER = INSIDE | POOLS | {"cluster": "replace"}
ALL_IN_PLACE = dict.fromkeys(("cluster", "measured", "monitoring"), "update")
CHANGES: list[tuple[str, object, dict[str, str]]] = [
    ("nodeCount", "5", {"measured": "update"}),
    ("zone", "us-central1-b", ANOTHER_CLUSTER | {"deadline": "update", "sink": "update"}),
    ("region", "us-central1", ANOTHER_CLUSTER | {"deadline": "update", "sink": "update"}),
    ("machineType", "n1-standard-32", {"measured": "update"}),
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
    ("archiveBucket", "ours", {ARCHIVE: "delete", "sink": "update", "writer": "replace"}),
    ("archiveDays", "30", {ARCHIVE: "update"}),
    ("deadlineHours", "24", {}),
    ("expiresAt", SOON, {"cluster": "update", "deadline": "update"}),
    ("runId", "r1", LABELLED),
    ("labels", {"team": "systems"}, LABELLED),
]
"""What a change of one setting does to a stack that is up, by the engine."""


class TestChanges:
    def test_second_up_has_nothing_to_do(self, standing: Engine) -> None:
        assert standing.preview(MINE) == {}

    @pytest.mark.parametrize(
        ("key", "value", "steps"), CHANGES, ids=[f"{key}-{value}" for key, value, _ in CHANGES]
    )
    def test_do_exactly_what_they_must(
        self, standing: Engine, key: str, value: object, steps: dict[str, str]
    ) -> None:
        if value == SOON:
            value = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%MZ}"
        assert standing.preview(MINE, {key: value}) == steps


def test_every_setting_is_among_the_changes() -> None:
    assert {key for key, _, _ in CHANGES} == set(declared_keys())


class TestLife:
    def test_of_a_stack_leaves_only_its_archive_and_can_begin_again(self, engine: Engine) -> None:
        first = engine.up("size-16")
        assert [key.name for key in engine.fleet.keys if "16" in key.name] == ["pull-study-size-16"]
        stack = engine.stack("size-16")
        stack.destroy()
        assert not [key for key in engine.fleet.keys if "16" in key.name]
        second = engine.up("size-16")
        buckets = {up.outputs["archive_bucket"].value for up in (first, second)}
        assert len(buckets) == 2
        stack.destroy()

    def test_keeps_the_deadline_of_its_first_up(self, engine: Engine) -> None:
        first = engine.up("size-32").outputs["expires_at"].value
        assert engine.up("size-32").outputs["expires_at"].value == first
        engine.stack("size-32").destroy()

    def test_ends_by_the_dead_mans_request_with_its_own_rights(self, engine: Engine) -> None:
        engine.up("size-64")
        jobs = f"{engine.url}/scheduler/v1/projects/{PROJECT}/locations/us-central1/jobs"
        answer = requests.post(
            f"{jobs}/pull-study-size-64:run", headers={"Authorization": "Bearer none"}, timeout=10
        )
        assert answer.status_code == 200, answer.text
        end = time.monotonic() + 20
        while any("64" in key.name for key in engine.fleet.keys) and time.monotonic() < end:
            time.sleep(0.1)
        assert not [key for key in engine.fleet.keys if "64" in key.name]
        engine.stack("size-64").destroy()
        assert (
            requests.get(
                f"{jobs}/pull-study-size-64", headers={"Authorization": "Bearer none"}, timeout=10
            ).status_code
            == 404
        )
