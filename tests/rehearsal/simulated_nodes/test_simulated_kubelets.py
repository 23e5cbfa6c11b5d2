"""The pure parts of simulated kubelets: words, events, images, clock, lateness, claims."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from analysis.read.pull_message import parse_duration, parse_pulled
from images.make.manifest import read_image
from rehearsal.machine.options import Options, parse_options
from rehearsal.simulated_nodes import messages
from rehearsal.simulated_nodes.clock import (
    Clock,
    Lateness,
    Report,
    report_file,
    worst_report,
    write_report,
)
from rehearsal.simulated_nodes.events import Correlator, Recorder, TokenBucket, timestamp
from rehearsal.simulated_nodes.images import SYSTEM_BYTES, ImageStore, StoredImage, StoredLayer
from rehearsal.simulated_nodes.manifests import claim_routes, make_claim
from rehearsal.simulated_nodes.process import quantity
from schema.events import name_time
from schema.image_tag import parse_tag
from tests.rehearsal.local_google import Loopback

GB = 10**9


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


def test_a_pulled_message_is_the_recorded_form() -> None:
    said = messages.pulled("r/i:t", 0.437, 42.088, 8870981)
    assert said.message == (
        'Successfully pulled image "r/i:t" in 437ms (42.088s including waiting). '
        "Image size: 8870981 bytes."
    )
    message = parse_pulled(said.message)
    assert message is not None
    assert (message.pull_s, message.pull_and_wait_s) == (0.437, 42.088)
    assert message.image_bytes == 8870981
    there = parse_pulled(messages.present("r/i:t").message)
    assert there is not None
    assert there.cached


def test_evictions_are_told_in_the_recorded_words() -> None:
    assert messages.evicted(10120387530, 9792732 * 1024).message == (
        "The node was low on resource: ephemeral-storage. "
        "Threshold quantity: 10120387530, available: 9792732Ki. "
    )
    assert messages.rejected().message == "The node had condition: [DiskPressure]. "
    assert messages.collection_failed(7762560614, 574645465).message == (
        "Failed to garbage collect required amount of images. Attempted to free 7762560614 bytes, "
        "but only found 574645465 bytes eligible to free."
    )


def event(message: str = "m", reason: str = "Pulling", about: str = "pod") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{about}.first"},
        "source": {"component": "kubelet", "host": "n"},
        "involvedObject": {"kind": "Pod", "name": about},
        "type": "Normal",
        "reason": reason,
        "message": message,
        "firstTimestamp": "1",
        "lastTimestamp": "2",
        "count": 1,
    }


def test_an_event_again_is_counted_up_under_its_first_name() -> None:
    correlator = Correlator()
    first = correlator.correlate(event(), 0, "x")
    assert first is not None
    again = {**event(), "metadata": {"name": "pod.second"}, "lastTimestamp": "9"}
    second = correlator.correlate(again, 1, "x")
    assert second is not None
    assert (second["count"], second["metadata"]["name"]) == (2, "pod.first")
    assert (second["firstTimestamp"], second["lastTimestamp"]) == ("1", "9")


def test_the_tenth_similar_event_within_ten_minutes_is_combined() -> None:
    correlator = Correlator()
    sent = [correlator.correlate(event(f"m{n}"), n, f"combined-{n}") for n in range(12)]
    assert all(each is not None for each in sent)
    messages = [each["message"] for each in sent if each]
    assert messages[:9] == [f"m{n}" for n in range(9)]
    assert messages[9] == "(combined from similar events): m9"
    last = sent[-1]
    assert last is not None
    assert (last["count"], last["metadata"]["name"]) == (3, "combined-9")


def test_similar_events_more_than_ten_minutes_apart_are_not_combined() -> None:
    correlator = Correlator()
    sent = [correlator.correlate(event(f"m{n}"), 601.0 * n, "x") for n in range(12)]
    assert [each["message"] for each in sent if each] == [f"m{n}" for n in range(12)]


def test_an_object_has_25_events_at_once_and_then_one_in_five_minutes() -> None:
    correlator = Correlator()
    sent = [correlator.correlate(event("m", f"R{n}"), 0, "x") for n in range(30)]
    assert sum(each is not None for each in sent) == 25
    assert correlator.correlate(event("m", "late"), 301, "x") is not None
    assert correlator.correlate(event("m", "later"), 302, "x") is None
    assert correlator.correlate(event("m", "R", about="other"), 302, "x") is not None


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(50, 100)
    may = [bucket.reserve(0.0) for _ in range(150)]
    assert may[99] == 0
    assert may[100] == pytest.approx(1 / 50)
    assert may[149] == pytest.approx(1.0)


def test_an_event_is_named_and_stamped_by_the_node_s_clock() -> None:
    sent: list[dict[str, Any]] = []

    heard = asyncio.Event()

    async def send(event: dict[str, Any], _again: bool) -> None:
        sent.append(event)
        heard.set()

    async def record() -> Clock:
        clock = Clock(20)
        recorder = Recorder("node", clock, send, {"a": "b"})
        recorder.offset = timedelta(minutes=-5)
        recorder.record({"name": "pod", "namespace": "n"}, messages.pulling("i"), 40.0)
        task = asyncio.create_task(recorder.run())
        await heard.wait()
        task.cancel()
        return clock

    clock = asyncio.run(record())
    at = clock.at(40.0) - timedelta(minutes=5)
    assert name_time(sent[0]["metadata"]["name"]) == at
    assert sent[0]["firstTimestamp"] == timestamp(at)
    assert sent[0]["source"] == {"component": "kubelet", "host": "node"}
    assert (sent[0]["count"], sent[0]["reportingInstance"]) == (1, "node")


def test_two_events_of_one_instant_have_two_names() -> None:
    names: set[str] = set()

    async def send(event: dict[str, Any], _again: bool) -> None:
        names.add(event["metadata"]["name"])

    async def record() -> None:
        clock = Clock(20)
        recorder = Recorder("node", clock, send, {})
        for saying in (messages.RECLAIMING, messages.node_status("node", "NodeHasDiskPressure")):
            recorder.record({"name": "node"}, saying, 40.0)
        task = asyncio.create_task(recorder.run())
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(record())
    assert len(names) == 2


def image(name: str, *layers: tuple[str, int]) -> StoredImage:
    stored = tuple(StoredLayer(diff_id, size // 2, size) for diff_id, size in layers)
    return StoredImage(f"r@{name}", sum(layer.compressed for layer in stored), stored)


def test_a_layer_is_on_a_node_once() -> None:
    store = ImageStore(100 * GB)
    one, other = image("1", ("a", GB), ("b", GB)), image("2", ("a", GB), ("c", GB))
    store.add("one", one, 0)
    assert store.missing(other) == [other.layers[1]]
    store.add("other", other, 0)
    assert store.image_bytes == 4.5 * GB
    assert store.remove("one") == [0]
    assert store.image_bytes == 3 * GB
    assert not store.has("one")
    assert store.has("other")
    assert store.remove("one") == []


def test_images_are_collected_at_85_per_cent_down_to_80_those_used_longest_ago_first() -> None:
    store = ImageStore(100 * GB)
    for number in range(5):
        store.add(f"i{number}", image(str(number), (str(number), 11 * GB)), number)
    assert store.excess() == SYSTEM_BYTES + 82.5 * GB - 80 * GB
    assert store.collect(1000, ["i0"], store.excess()) == 16.5 * GB
    assert [name for name in ("i0", "i1", "i2") if store.has(name)] == ["i0", "i2"]
    assert store.excess() == 0


def test_an_image_that_has_just_come_is_not_collected() -> None:
    store = ImageStore(100 * GB)
    store.add("new", image("1", ("a", 60 * GB)), 100)
    assert store.is_pressed
    assert store.collect(150, [], 90 * GB) == 0
    assert store.collect(230, [], 90 * GB) == 90 * GB
    assert not store.is_pressed


def test_pressure_begins_below_a_tenth_of_the_disk() -> None:
    store = ImageStore(100 * GB)
    pressed = []
    for more in (90 * GB - SYSTEM_BYTES, 1):
        store.ballast += more
        pressed.append(store.is_pressed)
    assert pressed == [False, True]
    assert store.fits([StoredLayer("a", 1, 1)])
    assert not store.fits([StoredLayer("a", GB, 10 * GB)])


def test_the_status_names_at_most_fifty_images_largest_first() -> None:
    store = ImageStore(100 * GB)
    for number in range(60):
        store.add(f"i{number}", image(str(number), (str(number), number + 1)), 0)
    told = store.newest()
    assert len(told) == 50
    assert told[0]["names"] == ["r@59", "i59"]


def test_node_seconds_pass_faster_than_the_clock_and_lateness_is_in_the_clock_s() -> None:
    async def run() -> Clock:
        clock = Clock(50)
        begun = clock.now()
        await clock.until(begun + 5)
        clock.told(clock.now() - 10)
        return clock

    clock = asyncio.run(run())
    assert clock.at(100) - clock.at(0) == timedelta(seconds=2)
    assert 0 <= clock.waking.worst_s < 1
    assert clock.telling.worst_s == pytest.approx(0.2, abs=0.01)


def test_only_a_machine_that_does_not_keep_the_speed_is_warned_of(tmp_path: Path) -> None:
    late, fine = Lateness(10, 5.0, 2.5), Lateness(10, 1.0, 0.4)
    assert Report(20, fine, fine).warning is None
    write_report(report_file(tmp_path, "a"), Report(20, fine, fine))
    write_report(report_file(tmp_path, "b"), Report(20, fine, late))
    worst = worst_report(tmp_path)
    assert worst == Report(20, fine, late)
    assert worst is not None
    assert worst.warning is not None
    assert "up to 2.5 s late (0.50 s on average)" in worst.warning
    assert "stands for 50 s" in worst.warning
    assert worst_report(tmp_path / "elsewhere") is None


def test_options_go_through_a_command_line() -> None:
    options = Options(0.5, "simulated", 20, rate_limits=False, faults=("a:b=1", "c"))
    assert parse_options(argparse.ArgumentParser(), options.arguments())[0] == options
    assert str(options) == (
        "simulated nodes at speed 20 without rate limits, images of scale 0.5, faults a:b=1 c"
    )


def test_a_quantity_is_read_in_whatever_unit() -> None:
    assert quantity("98831908Ki") == 98831908 * 1024
    assert quantity("96512Mi") == 96512 * 2**20
    assert quantity("100") == 100


def test_a_claim_is_an_image_in_form_and_says_that_it_is_none() -> None:
    claim = make_claim("owner/chonks", parse_tag("9-layers-size-900000000-bytes"), 1.0)
    found = read_image("x", claim.manifest, claim.config)
    assert len(found.layers) == 9
    assert {layer.size for layer in found.layers} == {50_000_000}
    assert found.making is not None
    assert found.making.unpacked == (100_000_000,) * 9
    assert "simulated" in found.making.origin.compressor
    assert claim == make_claim("owner/chonks", parse_tag("9-layers-size-900000000-bytes"), 1.0)


def test_images_of_the_original_study_are_claimed_as_they_are() -> None:
    tag = parse_tag("9-layers-size-19034736629-bytes")
    claim = make_claim("converged-computing/container-chonks-run1", tag, 1.0)
    layers = read_image("x", claim.manifest, claim.config).layers
    told = len(claim.manifest) + len(claim.config) + sum(layer.size for layer in layers)
    assert told == pytest.approx(20_726_499, rel=0.01)  # its recorded events


def test_claims_share_layers_where_images_would() -> None:
    def layers(tag: str) -> list[str]:
        claim = make_claim("owner/chonks", parse_tag(tag), 1.0)
        return [layer.diff_id for layer in read_image("x", claim.manifest, claim.config).layers]

    first, second = layers("8-layers-size-8000-bytes-v1"), layers("8-layers-size-8000-bytes-v2x1")
    assert first[:7] == second[:7]
    assert first[7] != second[7]
    assert set(layers("8-layers-size-8000-bytes-b")).isdisjoint(first)


def test_the_registry_of_claims_answers_for_tags_and_refuses_layers(loopback: Loopback) -> None:
    loopback.app = Starlette(routes=claim_routes(1.0))
    url = f"{loopback.url}/v2/owner/chonks"
    found = requests.get(f"{url}/manifests/2-layers-size-20-bytes", timeout=10)
    digest = f"sha256:{hashlib.sha256(found.content).hexdigest()}"
    assert found.headers["Docker-Content-Digest"] == digest
    assert requests.get(f"{url}/manifests/{digest}", timeout=10).content == found.content
    manifest = found.json()
    config = requests.get(f"{url}/blobs/{manifest['config']['digest']}", timeout=10)
    assert len(json.loads(config.content)["rootfs"]["diff_ids"]) == 2
    layer = requests.get(f"{url}/blobs/{manifest['layers'][0]['digest']}", timeout=10)
    assert layer.status_code == 404
    assert "no bytes" in layer.text
    assert requests.get(f"{url}/manifests/latest", timeout=10).status_code == 404
