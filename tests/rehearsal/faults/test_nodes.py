from __future__ import annotations

import json
from pathlib import Path

import pytest

from rehearsal.faults.faults import FaultError, Faults, injected_file
from rehearsal.faults.nodes import Pull, PullFaults, pull_faults

NODE = "gke-c-pool-0002"


def pull(trial: int = 1, node: str = NODE) -> Pull:
    return Pull(trial, node, f"job-{trial}-{node}", f"uid-{trial}-{node}", "ghcr.io/o/i:t@sha256:a")


def test_without_faults_nothing_is_injected(tmp_path: Path) -> None:
    faults = pull_faults([], tmp_path)
    assert faults.presence(pull()) == ""
    assert faults.factor(pull()) == 1
    assert faults.error(pull(), 1) == ""
    assert not faults.disk_full(pull())
    assert not faults.is_silent(NODE)
    assert not injected_file(tmp_path).exists()


def test_a_fault_affects_its_own_cell_and_is_recorded_once(tmp_path: Path) -> None:
    faults = pull_faults(["node-slow:trial=2,node=2,factor=3"], tmp_path)
    assert faults.factor(pull(trial=1)) == 1
    assert faults.factor(pull(trial=2, node="gke-c-pool-0003")) == 1
    assert [faults.factor(pull(trial=2)) for _ in range(3)] == [3, 3, 3]
    (line,) = injected_file(tmp_path).read_text().splitlines()
    injected = json.loads(line)
    assert (injected["fault"], injected["trial"], injected["node"]) == ("node-slow", 2, NODE)
    assert injected["uid"] == f"uid-2-{NODE}"


@pytest.mark.parametrize(
    ("text", "tries", "words"),
    [
        ("pull:how=404", [1, 2, 9], ["code = NotFound", "ghcr.io/o/i:t@sha256:a: not found"]),
        ("pull:how=429,tries=2", [1, 2], ["429 Too Many Requests", "v2/o/i/blobs/sha256:a"]),
        ("pull:how=down,tries=0", [1, 2, 9], ["connection refused", "v2/o/i/manifests/sha256:a"]),
    ],
)
def test_a_pull_fails_with_the_message_of_the_container_runtime(
    tmp_path: Path, text: str, tries: list[int], words: list[str]
) -> None:
    faults = pull_faults([text], tmp_path)
    for attempt in (1, 2, 9):
        error = faults.error(pull(), attempt)
        assert bool(error) == (attempt in tries)
        assert all(word in error for word in words) or not error


def test_a_cached_image_is_reported_as_present_or_disguised_as_a_pull(tmp_path: Path) -> None:
    texts = ["cached-image:node=2", "cached-image:node=3,disguised=1"]
    faults = pull_faults(texts, tmp_path)
    assert faults.presence(pull()) == "present"
    assert faults.presence(pull(node="n-3")) == "disguised"
    assert faults.presence(pull(node="n-4")) == ""


def test_a_node_is_silent_from_its_pull_on_for_a_while() -> None:
    time = 100.0
    faults = PullFaults(Faults.read(["node-not-ready:node=2,after=1,s=5"]), lambda: time)
    assert not faults.is_silent(NODE)
    faults.presence(pull())
    silent = []
    for now in (100.0, 101.0, 105.9, 106.0):
        time = now
        silent.append(faults.is_silent(NODE))
    assert silent == [False, True, True, False]


def test_a_disk_fills_up_on_the_requested_node(tmp_path: Path) -> None:
    faults = pull_faults(["disk-full:trial=1,node=2"], tmp_path)
    assert faults.disk_full(pull())
    assert not faults.disk_full(pull(node="n-1"))


def test_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="nearest is node-slow"):
        pull_faults(["node-slo"], tmp_path)
