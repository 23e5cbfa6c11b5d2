"""The fake gcp provider sends what the official one sends for the program of `infra`.

official_calls.jsonl has the calls of the official provider (pulumi-gcp 10.2.0) while a stack was
brought up, changed 12 times, destroyed, brought up again and destroyed; the writes are compared.
Left different on purpose: the official provider adds all grants of a project with one setIamPolicy,
the fake each with its own; and reads, of which the official provider makes more. What the program
itself changed since the recording is listed in `Since`.
"""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pulumi.runtime import mocks

from infra.components.expiry import ROLE
from rehearsal.pulumi.providers.gcp import GcpSession
from rehearsal.pulumi.providers.properties import Props, from_struct, to_struct
from rehearsal.pulumi.providers.protocol import Resource
from tests.infra.conftest import declare_with
from tests.rehearsal.local_google import official_calls, serving
from tests.rehearsal.pulumi.providers.conftest import RecordingApi, Request

PROJECT = "pull-study-rehearsal"
NEXT_MONTH = f"{datetime.now(UTC) + timedelta(days=20):%Y-%m-%dT03:00Z}"
STEPS: dict[str, dict[str, object]] = {
    "up1": {"nodeCount": 4},
    "do-nodeCount": {"nodeCount": 5},
    "do-labels": {"labels": {"team": "blue"}},
    "do-machineType": {"machineType": "n1-standard-8"},
    "do-maxPulls": {"maxParallelImagePulls": 3},
    "do-channel": {"releaseChannel": "STABLE"},
    "do-shielded": {"shieldedNodes": False},
    "do-wlmeta": {"workloadMetadata": "GKE_METADATA"},
    "do-expires": {"expiresAt": NEXT_MONTH},
    "do-streaming": {"imageStreaming": True},
    "do-archiveDays": {"archiveDays": 30},
    "do-monpool": {"monitoringPool": False},
    "do-threads": {"threadsPerCore": 2},
    "destroy": {},
    "up-again": {},
    "destroy2": {},
}
"""The settings that each step changes; what was changed stays so."""
NEXT_DAY = "pull-study-trial-next-day"
RETAINED = ("Bucket", "ProjectSink", "BucketIAMMember")


@dataclass
class Made:
    """A resource in the state."""

    resource: Resource
    resource_id: str
    inputs: Props
    outputs: Props


class Engine(mocks.Mocks):
    """Creates, changes, replaces and deletes with a session of the fake provider."""

    def __init__(self, session: GcpSession) -> None:
        self.session = session
        self.state: dict[str, Made] = {}
        self.declared: set[str] = set()
        self.exports: dict[str, Any] = {}
        self.seed = b""

    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(args.token)

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            return "last", {**args.inputs, "outputs": self.exports}
        if not args.typ.startswith("gcp:"):
            return args.name, args.inputs
        self.declared.add(args.name)
        made = self._apply(Resource(args.typ, args.name), from_struct(to_struct(args.inputs)))
        self.state[args.name] = made
        return made.resource_id, made.outputs

    def _apply(self, resource: Resource, inputs: Props) -> Made:
        old = self.state.get(resource.name)
        checked = self.session.check(resource, old.inputs if old else {}, inputs, self.seed)
        assert checked.failures == []
        new = checked.inputs
        if old is not None:
            difference = self.session.diff(resource, old.outputs, old.inputs, new)
            if not difference.changes:
                return Made(resource, old.resource_id, new, old.outputs)
            if not any(change.replace for change in difference.changes):
                outputs = self.session.update(
                    resource, old.resource_id, old.outputs, old.inputs, new
                )
                return Made(resource, old.resource_id, new, outputs)
            self.session.delete(resource, old.resource_id, old.outputs)
        return Made(resource, *self._created(resource, new))

    def _created(self, resource: Resource, inputs: Props) -> tuple[str, Props, Props]:
        resource_id, outputs = self.session.create(resource, inputs)
        return resource_id, inputs, outputs

    def up(self, values: dict[str, object]) -> None:
        self.declared.clear()
        self.exports = declare_with(self, "trial", values).exports
        self.delete(self.state.keys() - self.declared)
        for made in self.state.values():
            found = self.session.read(made.resource, made.resource_id, made.inputs)
            assert found is not None
            difference = self.session.diff(made.resource, found.outputs, found.inputs, made.inputs)
            assert difference.changes == []
            made.outputs = found.outputs

    def delete(self, names: set[str]) -> None:
        for name in [each for each in reversed(self.state) if each in names]:
            made = self.state.pop(name)
            if not made.resource.type.endswith(RETAINED):
                self.session.delete(made.resource, made.resource_id, made.outputs)


@pytest.fixture(scope="module")
def sent() -> Iterator[dict[str, list[Request]]]:
    """The fake's requests by step."""
    with (
        serving() as google,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        api = RecordingApi(PROJECT, google.url)
        engine = Engine(GcpSession(api))
        values: dict[str, object] = {}
        found: dict[str, list[Request]] = {}
        for step, change in STEPS.items():
            values |= change
            api.requests.clear()
            engine.seed = step.encode()
            if step.startswith("destroy"):
                engine.delete({*engine.state})
                engine.exports = {}
            else:
                engine.up(values)
            found[step] = [each for each in api.requests if each.writes]
        yield found


def _official(step: str) -> list[Request]:
    official = [
        Request(
            call["method"],
            call["path"],
            call["body"],
            dict(pair.replace("%2C", ",").split("=", 1) for pair in call["query"]),
        )
        for call in official_calls()
        if call["during"] == step
    ]
    return [each for each in official if each.writes]


class Since:
    """What the program declares now that it did not when the calls were recorded.

    Held to the discovery documents by tests.rehearsal.discovery, and to the official provider's
    source: iam_member.go (conditions) and resource_container_cluster.go (expandMaintenancePolicy).
    """

    @classmethod
    def applied(cls, requests: list[Request]) -> list[Request]:
        """The recorded requests as the program of today makes them."""
        today = []
        for each in requests:
            if "/roles" not in each.path:  # no custom role
                body = cls._body(each)
                today += [replace(each, body=body), *cls._next_day(each)]
        return today

    @staticmethod
    def _body(each: Request) -> Any:
        body = copy.deepcopy(each.body)
        if each.path.endswith(":setIamPolicy"):
            for binding in body["policy"].get("bindings", []):
                if "/roles/" in binding["role"]:
                    binding["role"] = ROLE
                    binding["condition"] = {"title": "only pull-study-trial", "expression": "..."}
        if each.method == "POST" and each.path.endswith("/clusters"):
            body["cluster"]["maintenancePolicy"]["window"] = WINDOW
        return body

    @staticmethod
    def _next_day(each: Request) -> list[Request]:
        """The same requests about the second job, and of the exclusion that moves with it."""
        if "/jobs" not in each.path:
            return []
        text = json.dumps([each.path, each.body, each.query])
        text = text.replace("/jobs/pull-study-trial", f"/jobs/{NEXT_DAY}")
        path, body, query = json.loads(text.replace("at its", "on the day after its"))
        second = Request(each.method, path, body, query)
        if each.method != "PATCH":
            return [second]
        parent = f"/container/v1beta1/projects/{PROJECT}/locations/us-central1-a/clusters"
        moved = {"maintenancePolicy": {"resourceVersion": "...", "window": WINDOW}}
        path = f"{parent}/pull-study-trial:setMaintenancePolicy"
        return [second, Request("POST", path, moved, {})]


WINDOW = {
    "dailyMaintenanceWindow": {"startTime": "03:00"},
    "maintenanceExclusions": {
        "study": {
            "startTime": "...",
            "endTime": "...",
            "maintenanceExclusionOptions": {"scope": "NO_UPGRADES"},
        }
    },
}


def _comparable(requests: list[Request]) -> list[str]:
    """Requests in a form without what differs between two runs; of policies the last."""
    last = {each.path: each for each in requests if each.path.endswith(":setIamPolicy")}
    kept = [each for each in requests if last.get(each.path, each) is each]
    return sorted(
        json.dumps(
            [each.method, _plain(each.path), _plain(dict(each.query)), _plain(each.body)],
            sort_keys=True,
        )
        for each in kept
    )


def _plain(value: Any, key: str = "") -> Any:
    if key in VOLATILE:
        return "..."
    if isinstance(value, dict):
        # An empty list of a message is the same as none.
        return {each: _plain(item, each) for each, item in value.items() if item != []}
    if isinstance(value, list):
        return sorted((_plain(item) for item in value), key=_sorted)
    if isinstance(value, str):
        value = re.sub(r"(pull-study-trial)-(\w{7}|SUFFIX)\b", r"\1-SUFFIX", value)
        return re.sub(r"service-\d+@", "service-NUMBER@", value)
    return value


def _sorted(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


VOLATILE = {"endTime", "etag", "expires", "labelFingerprint", "resourceVersion", "schedule"}
VOLATILE |= {"expression", "startTime"}


@pytest.mark.parametrize("step", STEPS)
def test_sends_what_the_official_provider_sends(sent: dict[str, list[Request]], step: str) -> None:
    official = _official(step)
    assert official
    assert _comparable(sent[step]) == _comparable(Since.applied(official))
