"""Several sizes in one command, a budget, an existing cluster: as a user has them."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from datetime import datetime

import pytest
import yaml

from schema.errors import ExitCode
from schema.run_records import Phase, RoofRecord, Status
from tests.live.harness import FAST, LONGEST_S, Place, needs_real_nodes

pytestmark = [pytest.mark.live, pytest.mark.timeout(2 * LONGEST_S)]
TAGS = ["1-layers-size-48702097-bytes", "9-layers-size-48702097-bytes"]
TWO_IMAGES = {"name": "two", "images": [{"repository": "ghcr.io/a/b", "tags": TAGS}]}
RUN = ("experiment", "run", "--study", "study.yaml", "--rehearse", "--yes", *FAST)


def test_two_sizes_share_one_rehearsal_one_plan_and_one_report(
    simulated: Place, two_sizes: str
) -> None:
    assert "│ size-4 │     4 │ 12/12 │" in two_sizes
    assert "│ size-8 │     8 │ 24/24 │" in two_sizes
    small, large = simulated.record("r-size-4"), simulated.record("r-size-8")
    assert small.read_run().seed == large.read_run().seed
    assert small.read_run().trials == large.read_run().trials
    assert [phase.phase for phase in large.phases()] == list(Phase)
    (report,) = (simulated.folder / "data" / "reports").glob("shared-*/report.html")
    assert "simulated" in report.read_text("utf-8")
    rehearsal = large.read_run().rehearsal
    assert rehearsal is not None
    assert (rehearsal.nodes, rehearsal.speed) == ("simulated", 20)


def test_simulated_nodes_have_no_roofs_and_say_so(simulated: Place, two_sizes: str) -> None:
    roofs = simulated.record("r-size-4").read_run().roofs
    assert len(roofs) == 4
    for roof in roofs:
        assert roof == RoofRecord(node=roof.node, note=roof.note)
        assert roof.note.startswith("a simulated node has no")


def test_simulated_pods_read_what_their_images_would_hold(simulated: Place, two_sizes: str) -> None:
    for cell in simulated.record("r-size-4").cells():
        assert (cell.read_10_s, cell.marks) == (None, ())
        assert cell.read_bytes == 48702097
        assert cell.read_50_s is not None
        assert cell.read_100_s is not None
        assert 0 < cell.read_50_s < cell.read_100_s < 0.1


def test_a_control_plane_that_gke_resizes_is_waited_for(simulated: Place, two_sizes: str) -> None:
    del two_sizes
    project = simulated.variables["GOOGLE_CLOUD_PROJECT"]
    path = f"container/v1beta1/projects/{project}/locations/-/operations"
    (resize,) = [
        operation
        for operation in simulated.call("GET", path)["operations"]
        if operation["operationType"] == "UPGRADE_MASTER"
    ]
    assert resize["targetLink"].endswith("clusters/pull-study-size-8")
    phases = simulated.record("r-size-8").phases()
    (provision,) = [phase for phase in phases if phase.phase is Phase.PROVISION]
    assert provision.ended_at > datetime.fromisoformat(resize["endTime"])


@pytest.mark.full
def test_a_budget_ends_a_run_before_the_trial_that_would_exceed_it(simulated: Place) -> None:
    options = ("--stack", "size-4", "--run-id", "budget", "--budget-usd", "0.1")
    code, output = simulated.run(*RUN, *options)
    assert code == ExitCode.BUDGET, output
    assert "the cluster has cost 0.0" in output
    folder = simulated.record("budget")
    assert Counter(cell.status for cell in folder.cells()) == {Status.ABORTED: 12}
    assert folder.phases()[-1].phase is Phase.TEARDOWN
    assert "Warning (cost)" in output


@needs_real_nodes
def test_plan_and_preflight_show_what_a_run_would_do(place: Place) -> None:
    (place.folder / "study.yaml").write_text(yaml.safe_dump(TWO_IMAGES))
    words = ("--stack", "size-4", "--study", "study.yaml", "--rehearse")
    output = place.succeed("experiment", "plan", *words, "--output", "json")
    rows = json.loads(output[output.index("[\n") : output.rindex("]") + 1])
    trials = [row for row in rows if row["table"] == "trials"]
    assert sorted(trial["layers"] for trial in trials) == [1, 9]
    assert all(trial["digest"].startswith("sha256:") for trial in trials)
    assert [row["cells"] for row in rows if row["table"] == "clusters"] == [8]
    assert rows[0]["rehearsal"] == "real"
    output = place.succeed("experiment", "preflight", *words)
    for check in ("credentials", "APIs", "permissions", "quotas", "registry", "exporter"):
        assert f" ok │ {check} " in output
    assert not (place.folder / "data").exists()


@pytest.mark.full
def test_all_seven_sizes_are_measured_whole_in_one_command(place: Place) -> None:
    (place.folder / "study.yaml").write_text(yaml.safe_dump(TWO_IMAGES))
    place.succeed(*RUN, "--all-sizes", "--run-id", "r")
    for size in (4, 8, 16, 32, 64, 128, 256):
        run = place.record(f"r-size-{size}")
        assert Counter(cell.status for cell in run.cells()) == {Status.VALID: 2 * size}
        with (run.report_dir / "pulls.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 2 * size
    place.expect_nothing_left()


EXISTING = """\
set -e
P="{python} -m experiment"
$P run --stack size-4 --study study.yaml --yes --run-id stack --keep-cluster --quiet
{python} -c "
import json
open('config', 'w').write(json.load(open('data/runs/stack/run.json'))['outputs']['kubeconfig'])"
$P run --kubeconfig config --node-selector pull-study/measured=true --study study.yaml --yes \
    --run-id borrowed
$P ledger borrowed
$P destroy --stack size-4 --yes
"""


@pytest.mark.full
@needs_real_nodes
def test_images_of_an_earlier_run_are_removed_from_an_existing_cluster(place: Place) -> None:
    (place.folder / "study.yaml").write_text(yaml.safe_dump(TWO_IMAGES))
    script = EXISTING.format(python=sys.executable)
    output = place.succeed("rehearsal", "shell", "--", "bash", "-c", script)
    folder = place.record("borrowed")
    record = folder.read_run()
    assert record.existing is not None
    assert record.stack == "existing-pull-study-size-4"
    assert record.outputs is not None
    assert record.outputs.kubeconfig == ""
    assert record.existing.context == "pull-study-size-4"
    assert Counter(cell.status for cell in folder.cells()) == {Status.VALID: 8}
    removals = folder.removals()
    assert len({(removal.reference, removal.node) for removal in removals}) == 8
    assert all(removal.absent for removal in removals)
    assert "Events: watch saw 40 and lost 0; 0 seen by several sources, 40 by one" in output
    assert "Warning (events): The runner's watch is the only source of events" in output
