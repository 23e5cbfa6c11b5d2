"""What simulated kubelets write: messages, events, disk pressure, retries, and what is lost."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.read.pull_message import parse_duration
from rehearsal.cluster.kubernetes import ClusterError, KubernetesClient
from rehearsal.faults.nodes import Pull, pull_faults
from rehearsal.simulated_nodes import clock, messages
from rehearsal.simulated_nodes.clock import Clock, Report, report_file, write_report
from rehearsal.simulated_nodes.disk import (
    DiskPressure,
    ImageStore,
    NodeActions,
    StoredImage,
    StoredLayer,
)
from rehearsal.simulated_nodes.events import Correlator, Recorder, TokenBucket, timestamp
from rehearsal.simulated_nodes.kubelet import Kubelet, Site
from rehearsal.simulated_nodes.messages import EventText
from rehearsal.simulated_nodes.pull_model import load_parameters
from rehearsal.simulated_nodes.quorum import Quorums
from rehearsal.simulated_nodes.registry import NodesRegistry
from schema.events import name_time

GB = 10**9
IMAGE = "r/i:t"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.437, "437ms"),
        (42.088, "42.088s"),
        (76.9, "1m16.9s"),
        (149, "2m29s"),
        (1, "1s"),
        (0, "0s"),
        (0.0009, "0s"),
        (3600, "1h0m0s"),
        (3723.5, "1h2m3.5s"),
        (59.9999, "59.999s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert messages.go_duration(seconds) == text


@given(st.integers(1, 10**8))
def test_a_duration_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    assert parse_duration(messages.go_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000, abs=1e-9
    )


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        (
            messages.pulled(IMAGE, 0.437, 42.088, 8870981),
            (
                'Successfully pulled image "r/i:t" in 437ms (42.088s including waiting). '
                "Image size: 8870981 bytes."
            ),
        ),
        (
            messages.streamed("r/i@sha256:a"),
            "Image r/i@sha256:a is backed by image streaming.",
        ),
        (messages.present(IMAGE), 'Container image "r/i:t" already present on machine'),
        (
            messages.evicted(10120387530, 9792732 * 1024),
            (
                "The node was low on resource: ephemeral-storage. "
                "Threshold quantity: 10120387530, available: 9792732Ki. "
            ),
        ),
        (messages.rejected(), "The node had condition: [DiskPressure]. "),
    ],
)
def test_messages_have_the_recorded_form(text: EventText, recorded: str) -> None:
    assert text.message == recorded


def event(reason: str = "Pulling", about: str = "pod") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{about}.first"},
        "source": {"component": "kubelet", "host": "n"},
        "involvedObject": {"kind": "Pod", "name": about},
        "type": "Normal",
        "reason": reason,
        "message": "m",
        "firstTimestamp": "1",
        "lastTimestamp": "2",
        "count": 1,
    }


def test_a_repeated_event_is_counted_up_under_its_first_name() -> None:
    correlator = Correlator()
    assert correlator.correlate(event(), 0) == event()
    again = {**event(), "metadata": {"name": "pod.second"}, "lastTimestamp": "9"}
    second = correlator.correlate(again, 1)
    assert second == {**event(), "lastTimestamp": "9", "count": 2}


def test_an_object_has_25_events_at_once_and_then_one_in_five_minutes() -> None:
    correlator = Correlator()
    sent = [correlator.correlate(event(f"R{n}"), 0) for n in range(30)]
    assert sum(each is not None for each in sent) == 25
    assert correlator.correlate(event("late"), 301) is not None
    assert correlator.correlate(event("later"), 302) is None
    assert correlator.correlate(event("R", about="other"), 302) is not None


def test_a_bucket_allows_a_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(50, 100)
    may = [bucket.reserve(0.0) for _ in range(150)]
    assert [may[n] for n in (99, 100, 149)] == pytest.approx([0, 1 / 50, 1.0])


def record(
    node_clock: Clock, texts: list[EventText], fail: Callable[[int], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Return the events that were sent; `fail` may raise for the nth."""
    sent: list[dict[str, Any]] = []

    async def send(event: dict[str, Any], _exists: bool) -> None:
        sent.append(event)
        fail(len(sent))

    async def run() -> None:
        recorder = Recorder("node", node_clock, send, {"a": "b"})
        for text in texts:
            recorder.record({"name": "pod", "namespace": "n"}, text, 40.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await recorder.run()

    asyncio.run(run())
    return sent


def test_an_event_is_named_and_stamped_by_the_node_s_clock() -> None:
    node_clock = Clock(20)
    first, second = record(node_clock, [messages.pulling("i"), messages.RECLAIMING])
    at = node_clock.at(40.0)
    assert name_time(first["metadata"]["name"]) == at
    assert first["firstTimestamp"] == timestamp(at)
    assert first["source"] == {"component": "kubelet", "host": "node"}
    assert (first["count"], first["reportingInstance"]) == (1, "node")
    assert second["metadata"]["name"] != first["metadata"]["name"]
    assert node_clock.report.count == 2


def test_a_wrong_clock_changes_times_and_no_instants() -> None:
    right = Clock(20)
    wrong = right.ahead(timedelta(minutes=-3))
    assert wrong.at(40.0) == right.at(40.0) - timedelta(minutes=3)
    assert wrong.now() == pytest.approx(right.now(), abs=20.0)
    assert wrong.report is right.report


def test_an_event_that_is_refused_is_counted_lost_and_the_next_is_sent() -> None:
    def fail(number: int) -> None:
        if number == 1:
            raise ClusterError("POST events: 403 terminating")

    node_clock = Clock(1)
    assert len(record(node_clock, [messages.pulling("i"), messages.RECLAIMING], fail)) == 2
    report = node_clock.report
    assert (report.lost, report.last_lost, report.count) == (1, "POST events: 403 terminating", 1)


def test_a_recorder_that_fails_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Recorder) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Recorder, "run", fail)

    async def run() -> None:
        node_clock = Clock(1)
        tls = ssl.create_default_context()
        client = KubernetesClient("https://127.0.0.1:1", tls, connections=1, timeout_s=1)
        registry = NodesRegistry("127.0.0.1:1", 1.0, node_clock)
        try:
            async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
                faults = pull_faults([], tmp_path)
                quorums = Quorums(client)
                site = Site(client, node_clock, registry, load_parameters(), faults, tasks, quorums)
                Kubelet(site, "node", 100 * GB, 1)
                tasks.create_task(asyncio.Event().wait())
        finally:
            await registry.close()
            await client.close()

    with pytest.raises(ExceptionGroup) as failed:
        asyncio.run(run())
    assert str(failed.value.exceptions[0]) == "a defect"


@pytest.mark.parametrize(
    ("image", "streaming", "streamed"),
    [
        ("us-docker.pkg.dev/p/i:t", True, True),
        ("us-docker.pkg.dev/p/i:t", False, False),
        ("ghcr.io/a/i:t", True, False),
    ],
)
def test_a_node_streams_images_of_artifact_registry_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, streaming: bool, streamed: bool
) -> None:
    parameters = load_parameters().model_copy(update={"noise": 1e-9})
    stored = StoredImage("p/i@sha256:a", 5, (StoredLayer("d", 10**9, 10**9),))
    said: list[str] = []

    async def resolve(_: NodesRegistry, __: str) -> StoredImage:
        return stored

    async def download(_: NodesRegistry, __: float, ___: int) -> float:
        return 5.0

    async def record(_: Recorder) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(NodesRegistry, "resolve", resolve)
    monkeypatch.setattr(NodesRegistry, "download", download)
    monkeypatch.setattr(Recorder, "run", record)
    monkeypatch.setattr(Recorder, "record", lambda *event: said.append(event[2].message))

    async def run() -> tuple[float, float]:
        node_clock = Clock(1)
        client = KubernetesClient(
            "https://127.0.0.1:1", ssl.create_default_context(), connections=1, timeout_s=1
        )
        registry = NodesRegistry("127.0.0.1:1", 1.0, node_clock)
        try:
            async with asyncio.TaskGroup() as tasks:
                faults = pull_faults([], tmp_path)
                quorums = Quorums(client)
                site = Site(client, node_clock, registry, parameters, faults, tasks, quorums)
                node = Kubelet(site, "node", 100 * GB, 1, streaming=streaming)
                pull = Pull(1, "node", "pod", "uid", image)
                fetched, time = await node._fetch(pull, 1, 0.0, disguised=False)
                read = node._read_rate(fetched)
                node.stop()
                return time.pull_s, read
        finally:
            await registry.close()
            await client.close()

    took, read = asyncio.run(run())
    assert took == pytest.approx(0.62) if streamed else took > 5
    rates = parameters.read_streamed_bytes_per_s, parameters.read_memory_bytes_per_s
    assert read == pytest.approx(rates[0] if streamed else rates[1])
    assert said == ["Image p/i@sha256:a is backed by image streaming."] * streamed


def test_a_disk_that_a_fault_fills_has_pressure_until_a_while_after_an_eviction() -> None:
    said: list[str] = []
    images = ImageStore(100 * GB)
    images.fill()
    assert images.available < images.eviction_threshold

    async def patch(status: dict[str, Any]) -> None:
        (condition,) = status["conditions"]
        said.append(f"{condition['status']} {condition['reason']}")

    def evict(_: float) -> None:
        said.append("evicted")

    async def run() -> None:
        actions = NodeActions(lambda text, _: said.append(text.reason), patch, evict)
        pressure = DiskPressure("node", images, Clock(10_000), actions)
        await pressure.run()
        assert not pressure.active

    asyncio.run(run())
    assert images.ballast == 0
    assert said == [
        "NodeHasDiskPressure",
        "True KubeletHasDiskPressure",
        "EvictionThresholdMet",
        "evicted",
        "NodeHasNoDiskPressure",
        "False KubeletHasNoDiskPressure",
    ]


def test_node_seconds_pass_faster_than_the_clock_and_lateness_is_in_the_clock_s() -> None:
    async def run() -> Clock:
        node_clock = Clock(50)
        await node_clock.until(node_clock.now() + 5)
        node_clock.arrived(node_clock.now() - 10)
        return node_clock

    node_clock = asyncio.run(run())
    assert node_clock.at(100) - node_clock.at(0) == timedelta(seconds=2)
    assert node_clock.report.worst_s == pytest.approx(0.2, abs=0.01)


def test_a_machine_that_is_too_slow_and_what_was_lost_are_warned_of(tmp_path: Path) -> None:
    assert clock.warnings(tmp_path / "elsewhere") == []
    fine = Report(speed=20, count=10, total_s=1.0, worst_s=0.4)
    write_report(report_file(tmp_path, "a"), fine)
    assert clock.warnings(tmp_path) == []
    late = Report(speed=20, count=10, total_s=5.0, worst_s=2.5)
    write_report(report_file(tmp_path, "b"), late)
    lost = Report(speed=20, count=10, worst_s=2.0, lost=3, last_lost="POST /x: 503")
    write_report(report_file(tmp_path, "c"), lost)
    write_report(report_file(tmp_path, "d"), Report(speed=1, exit="code 1, KeyError"))
    lateness, losses, exited = clock.warnings(tmp_path)
    assert "up to 2.5 s late (0.50 s on average), which is 50 s" in lateness
    assert losses.startswith("3 events or statuses of simulated nodes never reached")
    assert losses.endswith("POST /x: 503")
    assert exited == "the simulated kubelets' process exited: code 1, KeyError"
