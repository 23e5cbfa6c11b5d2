"""The audit finds what spoils a study."""

import itertools
import json
from datetime import timedelta
from pathlib import Path

import pytest

from analysis.ask.audit import Audit, audit, write_findings
from analysis.frames import frames_of
from analysis.judge.audit_counts import audit_counts
from analysis.tables import open_tables
from tests.analysis.recorded import (
    IMAGES,
    START,
    Json,
    Pod,
    event,
    lines,
    node_event,
    node_names,
    study_events,
    uid,
    write_study,
)

INPUTS = Path(__file__).parents[2] / "data" / "inputs"


def audited(*inputs: Path) -> list[Audit]:
    with open_tables(list(inputs)) as tables:
        return audit(tables, frames_of(tables), audit_counts(tables.database))


def kinds(one: Audit) -> dict[str, int]:
    return {finding.kind: finding.count for finding in one.findings}


def study(folder: Path, events: list[Json], nodes: int = 8) -> Path:
    place = folder / "run1" / str(nodes)
    place.mkdir(parents=True)
    (place / "events-1.json").write_text(lines(events))
    return folder


def test_a_faultless_recording_loses_a_grade_for_its_order_alone(tmp_path: Path) -> None:
    (one,) = audited(write_study(tmp_path, (8,)))
    assert one.grade == "B"
    assert (one.valid, one.cells) == (24, 24)
    spoiling = [f.kind for f in one.findings if f.severity == "spoils"]
    assert spoiling == ["empty-images"]
    assert {"confounded-order", "mutable-tags"} <= kinds(one).keys()


def test_a_shuffled_order_is_no_finding(tmp_path: Path) -> None:
    images = (IMAGES[1], IMAGES[2], IMAGES[0])
    (one,) = audited(write_study(tmp_path, (8,), images))
    assert one.grade == "B"  # its images are almost empty, which spoils numbers
    assert "confounded-order" not in kinds(one)
    assert "no-repetition" in kinds(one)


def test_idle_nodes(tmp_path: Path) -> None:
    idle = [node_event(f"idle-{i}", "NodeReady", START) for i in range(2)]
    (one,) = audited(study(tmp_path, [*study_events(8), *idle]))
    assert kinds(one)["idle-nodes"] == 2
    assert kinds(one)["cells-without-pull"] == 2 * 3
    assert kinds(one)["node-count"] == 10


def test_repeated_pulls(tmp_path: Path) -> None:
    moved = node_names(8)
    events = study_events(8)
    for item in events:
        if item["source"].get("host") == moved[7]:
            item["source"]["host"] = moved[6]
    (one,) = audited(study(tmp_path, events))
    assert kinds(one)["repeated-pulls"] == 3


def test_lost_events_are_found_on_both_sides_and_estimated(tmp_path: Path) -> None:
    events = study_events(8)
    pulling = [e for e in events if e["reason"] == "Pulling"][:10]
    pulled = [e for e in events if e["reason"] == "Pulled"][-4:]
    gone = [e["metadata"]["uid"] for e in (*pulling, *pulled)]
    (one,) = audited(study(tmp_path, [e for e in events if e["metadata"]["uid"] not in gone]))
    assert kinds(one)["pulled-without-pulling"] == 10
    assert kinds(one)["pulling-without-pulled"] == 4
    assert kinds(one)["lost-events"] == 14
    assert one.grade == "F"


def test_pods_without_any_event_count_as_five_lost_ones(tmp_path: Path) -> None:
    events = [e for e in study_events(8) if "container-pull-3-" not in e["involvedObject"]["name"]]
    (one,) = audited(study(tmp_path, events))
    assert kinds(one)["lost-events"] == 3 * 5


@pytest.mark.parametrize(("gone", "lost"), [("", 0), ("container-pull-3-", 3 * 4)])
def test_where_no_scheduler_bound_the_pods_its_events_are_not_missed(
    tmp_path: Path, gone: str, lost: int
) -> None:
    events = [e for e in study_events(8) if e["reason"] != "Scheduled"]
    kept = [e for e in events if not gone or gone not in e["involvedObject"]["name"]]
    (one,) = audited(study(tmp_path, kept))
    assert kinds(one).get("lost-events", 0) == lost


def test_the_exporters_own_word_on_discarded_events(tmp_path: Path) -> None:
    root = study(tmp_path, study_events(8))
    said = '{"level":"warn","event name":"a.1","message":"Event discarded as being older then x"}\n'
    with (root / "run1" / "8" / "events-1.json").open("a") as file:
        file.write(said * 7 + "rubbish\n")
    (one,) = audited(root)
    assert kinds(one)["discarded-events"] == 7
    assert kinds(one)["unreadable-lines"] == 1


def test_troubles_of_nodes_and_pods(tmp_path: Path) -> None:
    names = node_names(8)
    pod = Pod("container-pull-0-zzzzz", names[0], job_uid=uid("job", 8, IMAGES[0]))
    at = START + timedelta(seconds=2)
    events = [
        *study_events(8),
        node_event(names[0], "NodeHasDiskPressure", at),
        node_event(names[1], "FreeDiskSpaceFailed", at),
        node_event(names[2], "NodeNotReady", at),
        event(pod, "Evicted", "low on disk", at, container=False),
        event(pod, "Failed", f'Failed to pull image "{IMAGES[0]}": denied', at),
    ]
    (one,) = audited(study(tmp_path, events))
    found = kinds(one)
    for kind in ("disk-pressure", "garbage-collection", "node-lost", "evictions", "failed-pulls"):
        assert found[kind] == 1, kind


def test_waiting_behind_other_pulls_and_cached_pods(tmp_path: Path) -> None:
    events = study_events(8)
    for item in [e for e in events if e["reason"] == "Pulled"][:5]:
        item["message"] = (
            f'Successfully pulled image "{IMAGES[0]}" in 437ms (42.088s including waiting). '
            "Image size: 3369495 bytes."
        )
    other = Pod("container-pull-9-zzzzz", node_names(8)[0], job_uid=uid("job", 8, IMAGES[0]))
    message = f'Container image "{IMAGES[0]}" already present on machine'
    (one,) = audited(study(tmp_path, [*events, event(other, "Pulled", message, START)]))
    assert kinds(one)["waiting"] == 5
    assert kinds(one)["cached-pulls"] == 1


@pytest.mark.parametrize(
    ("architectures", "kind"),
    [(("amd64",), "moved-tags"), (("amd64", "arm64"), "sizes-differ"), ((), "sizes-differ")],
)
def test_sizes_that_differ_between_nodes_show_a_moved_tag_only_on_one_architecture(
    tmp_path: Path, architectures: tuple[str, ...], kind: str
) -> None:
    root = study(tmp_path, other_size(study_events(8)))
    kinds_of = itertools.cycle(architectures)
    items = [
        {"kind": "Node", "metadata": {"name": n, "labels": {"kubernetes.io/arch": next(kinds_of)}}}
        for n in (node_names(8) if architectures else ())
    ]
    (root / "run1" / "8" / "nodes-1.json").write_text(json.dumps({"items": items}))
    (one,) = audited(root)
    assert {kind} == {"moved-tags", "sizes-differ"} & kinds(one).keys()
    assert kinds(one)[kind] == 1


def test_a_tag_that_moved_while_a_node_pulled_it_twice(tmp_path: Path) -> None:
    events = other_size(study_events(8))
    changed = next(e for e in events if "3369496" in e["message"])
    for item in events:
        if item["source"].get("host") == node_names(8)[-1]:
            item["source"]["host"] = changed["source"]["host"]
    (one,) = audited(study(tmp_path, events))
    assert kinds(one)["moved-tags"] == 1


def other_size(events: list[Json]) -> list[Json]:
    item = next(e for e in events if e["reason"] == "Pulled")
    item["message"] = item["message"].replace("3369495", "3369496")
    return events


def test_losses_are_counted_for_each_container_of_a_pod() -> None:
    (one,) = audited(INPUTS / "spam-filter-25.json")
    assert kinds(one)["lost-events"] == 3
    assert kinds(one)["pulling-without-pulled"] == 1
    assert one.grade == "C"


def test_sizes_of_an_index_by_tag_do_not_spoil_a_study() -> None:
    (one,) = audited(INPUTS / "multi-arch.json")
    assert "moved-tags" not in kinds(one)
    assert not [f for f in one.findings if f.severity == "spoils"]


def test_one_recording_under_two_names(tmp_path: Path) -> None:
    study(tmp_path / "a", study_events(8))
    study(tmp_path / "b", study_events(8))
    found = [kinds(one) for one in audited(tmp_path)]
    assert sum("copied-events" in one for one in found) == 1


@pytest.mark.parametrize("seconds", [None, "400s"])
def test_exclusion_that_depends_on_the_outcome(tmp_path: Path, seconds: str | None) -> None:
    events = study_events(8)
    slow = set(node_names(8)[:2])
    for item in events:
        if item["reason"] == "Pulled" and item["source"]["host"] in slow and seconds:
            name = item["message"].split('"')[1]
            item["message"] = f'Successfully pulled image "{name}" in {seconds} ({seconds}'
            item["message"] += " including waiting). Image size: 3369495 bytes."
    pressure = [node_event(node, "NodeHasDiskPressure", START) for node in slow]
    late = [node_event(node, "NodeHasNoDiskPressure", START + timedelta(hours=1)) for node in slow]
    (one,) = audited(study(tmp_path, [*events, *pressure, *late]))
    assert ("biased-exclusion" in kinds(one)) is (seconds is not None)


def test_findings_as_a_table(tmp_path: Path) -> None:
    audits = audited(write_study(tmp_path / "m", (8,)))
    text = write_findings(audits, tmp_path / "out" / "audit.csv").read_text()
    assert text.startswith("run,stack,provenance,grade,cells,valid,kind,severity,count,of,text")
    assert "run1,8,measured,B,24,24,empty-images,spoils,3,3," in text


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        (
            "pulling/run1/16",
            {"idle-nodes": 2, "repeated-pulls": 21, "cells-without-pull": 21, "mutable-tags": 6},
        ),
        (
            "pulling-test/run1/16",
            {
                "discarded-events": 1476,
                "garbage-collection": 12,
                "pulled-without-pulling": 481,
                "confounded-layers": 38,
                "no-repetition": 1,
            },
        ),
        (
            "pulling-test/test/n1-standard-16",
            {"failed-pulls": 8, "evictions": 2, "garbage-collection": 4, "cached-pulls": 28},
        ),
        ("pulling-test/test/n1-standard-64", {"evictions": 4, "disk-pressure": 6, "waiting": 17}),
    ],
)
def test_what_is_wrong_with_the_original_study(
    chonks: Path, folder: str, expected: dict[str, int]
) -> None:
    (one,) = audited(chonks / folder)
    assert {kind: kinds(one).get(kind) for kind in expected} == expected
    assert one.grade == "F"
    assert "empty-images" in kinds(one)


def test_nine_tenths_of_the_pulling_events_of_the_second_test_were_lost(chonks: Path) -> None:
    (one,) = audited(chonks / "pulling-test" / "run1")
    lost = next(f for f in one.findings if f.kind == "pulled-without-pulling")
    assert lost.of is not None
    assert 0.88 <= lost.count / lost.of <= 0.91
    assert "confounded-order" in {
        f.kind for one in audited(chonks / "pulling") for f in one.findings
    }
