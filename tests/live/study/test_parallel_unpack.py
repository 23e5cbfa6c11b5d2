"""Real nodes unpack as many layers at once as their stack declares, by containerd's own spans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import pytest
import yaml

from experiment.collect.pull_spans import LEAST_S
from schema.run_records import CellRecord, SpanKind, SpanRecord
from tests.live.harness import LONGEST_S, Place, needs_real_nodes, place_in

UNPACKS = 4
STACK = f"""
config:
  pull-study:nodeCount: "2"
  pull-study:parallelUnpacks: "{UNPACKS}"
encryptionsalt: v1:GLaoFvNotSg=:v1:mQZYjTQiYfnzah9x:rbuc03MEE1eMxsJ3BN8M9TrlL/3tIA==
"""
STUDY = {
    "name": "unpack",
    "images": [
        {
            "repository": "ghcr.io/converged-computing/container-chonks",
            "tags": ["9-layers-size-387602448-bytes", "1-layers-size-127399102-bytes"],
        }
    ],
}

pytestmark = [pytest.mark.live, pytest.mark.timeout(2 * LONGEST_S), needs_real_nodes]


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("unpack")) as place:
        yield place


def most_at_once(spans: Sequence[SpanRecord]) -> int:
    """The most layers that were on their node and being unpacked at one moment."""
    there = {each.layer: each.end_ns for each in spans if each.kind is SpanKind.FETCH}
    changes = []
    for each in spans:
        if each.kind is SpanKind.UNPACK:
            begin = max(each.begin_ns, there[each.layer])
            changes += [(begin, 1), (max(begin, each.end_ns), -1)]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def test_layers_are_unpacked_at_once_and_spans_say_where_each_pulls_time_went(
    place: Place,
) -> None:
    (place.folder / "Pulumi.unpack.yaml").write_text(STACK)
    (place.folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    command = ("run", "--stack", "unpack", "--study", "study.yaml", "--rehearse", "--yes")
    output = place.succeed("experiment", *command, "--run-id", "unpack", "--scale", "0.05")
    assert "4 of 4 cells of a rehearsal are valid" in output
    assert "Warning" not in output, output  # each node shows what its init script left
    folder = place.record("unpack")
    pulls: dict[tuple[str, str], list[SpanRecord]] = defaultdict(list)
    for span in folder.spans():
        pulls[span.node, span.trace].append(span)
    assert len(pulls) == 4
    assert max(map(most_at_once, pulls.values())) > 1
    for cell in folder.last_cells():
        expect_parts(cell)
    report = (folder.report_dir / "report.html").read_text()
    assert "Where a pull" in report
    place.expect_nothing_left()


def expect_parts(cell: CellRecord) -> None:
    assert cell.fetch_s is not None
    assert cell.unpack_s is not None
    assert cell.pull_s is not None
    assert 0 < cell.unpack_s < cell.pull_s
    # a loaded machine's scheduling is in the kubelet's duration alone
    assert abs(cell.fetch_s + cell.unpack_s - cell.pull_s) < max(2 * LEAST_S, 0.15 * cell.pull_s)
