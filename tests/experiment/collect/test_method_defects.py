"""The ten mistakes of the study by hand: each is impossible here, or is found and named."""

import zlib
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from analysis.judge.wall_time import run_wall_time
from experiment.collect.judge import judge
from experiment.collect.ledger import RunHistory
from experiment.collect.merge_events import reconcile
from experiment.measure.job_manifest import trial_job
from experiment.measure.pods import PodStates
from experiment.measure.staged_jobs import StagedJobs
from experiment.plan.trial_order import order_trials
from experiment.run_folder import RunFolder
from images.make.layer_tar import layer_tar
from images.make.plan import plan_image
from schema.image_tag import parse_tag
from schema.run_records import (
    JobRecord,
    Layer,
    Phase,
    PhaseRecord,
    PlannedImage,
    PlannedTrial,
    RunRecord,
    Source,
    Status,
)
from schema.study import ImageSet, Order, Study
from tests.experiment.conftest import NODES, START, TAG, Story
from tests.experiment.fake_kube import PODS, FakeKube

STUDY = Study(name="s", images=(ImageSet(repository="ghcr.io/owner/images", tags=(TAG,)),))


def run_record(story: Story) -> RunRecord:
    return RunRecord(
        run_id="run",
        started_at=START,
        stack="size-4",
        study=STUDY,
        study_file="smoke.yaml",
        seed=7,
        trials=(story.planned,),
    )


class TestDefect1OnePodANode:
    """At 4 nodes only 2 ever pulled, and the same nodes were skipped in all runs."""

    def test_each_pod_is_bound_to_a_node_of_its_own(self, story: Story) -> None:
        kube, states = FakeKube(), PodStates()
        kube.handlers[PODS] = states.handle
        jobs = StagedJobs(kube, states, NODES, dict)  # type: ignore[arg-type]
        job = trial_job(
            story.planned, run_id="r", attempt=1, nodes=4, command=("sleep", "1"), deadline_s=9
        )
        with closing(jobs):
            pods = jobs.run(job, 9, lambda _: None)
        assert {node: pod.node for node, pod in pods.items()} == {node: node for node in NODES}

    def test_a_node_without_a_pod_is_a_line_with_a_reason(self, story: Story) -> None:
        for index in (1, 3):  # the pods of b and d ran on a and c
            story.change_pod(index, node=NODES[index - 1])
        cells = story.judge()
        assert [cell.node for cell in cells] == list(NODES)
        assert [cell.status for cell in cells] == [Status.REPEATED, Status.ABORTED] * 2
        assert "and not here" in cells[1].reason


class TestDefect2PseudoReplication:
    """185 of 671 samples repeated a node."""

    def test_a_second_pull_on_a_node_is_no_second_sample(self, story: Story) -> None:
        story.pull(story.pods[0])
        cells = story.judge()
        assert Counter((cell.trial, cell.node) for cell in cells).most_common(1)[0][1] == 1
        assert cells[0].status is Status.REPEATED
        assert cells[0].pull_s is None


class TestDefect3LostEvents:
    """88 to 91 % of the Pulling events were missing at 16 nodes and more, and nobody was told."""

    def test_what_a_source_lost_is_counted_and_the_other_makes_up_for_it(
        self, story: Story
    ) -> None:
        exported = [
            record.model_copy(update={"source": Source.EXPORTER})
            for record in story.events
            if record.event["reason"] != "Pulling"
        ]
        found = reconcile([*story.events, *exported], [story.trial], [], exporter=True)
        assert found.sources[Source.EXPORTER].lost == len(NODES)
        assert found.sources[Source.WATCH].lost == 0
        assert (found.seen_by_one, found.seen_by_none) == (len(NODES), 0)
        assert story.statuses() == [Status.VALID] * 4

    def test_what_every_source_lost_is_missing_and_not_absent(
        self, story: Story, tmp_path: Path
    ) -> None:
        for index in range(4):
            story.drop(index, "Pulling")
        folder = RunFolder(tmp_path)
        folder.write_nodes([{"metadata": {"name": node}} for node in NODES], 1)
        folder.add(*story.events)
        folder.add(story.trial)
        cells = judge(folder, run_record(story), 1, complete=True)
        assert {cell.status for cell in cells} == {Status.MISSING_EVENTS}
        assert folder.evidence()[0].seen_by_none == 4


class TestDefect4LayersOfZeros:
    """A 19 GB image moved 20.7 MB: the network was never measured."""

    def test_an_images_bytes_do_not_vanish_in_compression(self) -> None:
        (layer,) = plan_image(parse_tag("1-layers-size-4000000-bytes")).layers
        tar = b"".join(bytes(piece) for piece in layer_tar(layer))
        assert 0.4 < len(zlib.compress(tar, 6)) / len(tar) < 0.6

    def test_pulled_bytes_and_the_bytes_of_the_tag_are_distinct(self, story: Story) -> None:
        cell = story.judge()[0]
        assert cell.image_bytes == 1_000_000
        assert parse_tag(cell.tag).size_bytes == 48_702_097


class TestDefect5PullTimeIsNotTheCost:
    """70 to 99 % of what an image cost came after its pull, and was in no table."""

    def test_every_phase_after_the_pull_is_recorded_and_accounted_for(self, story: Story) -> None:
        end = START + timedelta(seconds=9)
        job = JobRecord(job=story.trial.job, uid="j", at=end, complete=True)
        cells = story.judge(RunHistory(trials=[story.trial], jobs=[job]))
        for cell in cells:
            phases = cell.phases
            after = (phases.created_at, phases.started_at, phases.finished_at)
            assert None not in (*after, phases.job_complete_at)
        measure = PhaseRecord(
            phase=Phase.MEASURE, started_at=START, ended_at=START + timedelta(seconds=10)
        )
        time = run_wall_time(run_record(story), [measure], [story.trial], cells)
        assert time.explained >= 0.99
        assert time.parts["settling"] > 0


class TestDefect6Streaming:
    """Streaming looked 200 times as fast by pull time, and was 1.5 times by the Job's time."""

    def test_a_streamed_images_cells_note_that_the_pull_does_not_cover_its_bytes(
        self, story: Story
    ) -> None:
        story.node_event("ImageStreaming", 0, "Image is backed by image streaming.")
        for cell in story.judge():
            assert any("streamed" in mark for mark in cell.marks)

    def test_without_streaming_a_pull_too_quick_for_its_bytes_is_no_pull(
        self, story: Story
    ) -> None:
        tag = "9-layers-size-19034736629-bytes"
        image = story.planned.image.model_copy(update={"tag": tag})
        story.planned = story.planned.model_copy(update={"image": image})
        story.events = []
        for pod in story.pods:
            story.pull(pod, seconds=0.6)
        cells = story.judge()
        assert {cell.status for cell in cells} == {Status.CACHED}
        assert "they were on the node" in cells[0].reason


class TestDefect7OrderAndWarmNodes:
    """Always ascending, once, on warm nodes: size, time and cache could not be told apart."""

    def test_the_order_is_shuffled_by_a_recorded_seed_by_default(self) -> None:
        assert STUDY.order is Order.SHUFFLED
        images = [
            PlannedImage(repository="a/b", tag=f"t{n}", digest=f"sha256:{n}", layers=())
            for n in range(9)
        ]
        orders = {
            tuple(trial.image.tag for trial in order_trials(STUDY, images, seed))
            for seed in range(5)
        }
        assert len(orders) == 5
        assert order_trials(STUDY, images, 3) == order_trials(STUDY, images, 3)

    def test_an_image_pulled_again_without_proof_of_its_removal_is_not_cold(
        self, story: Story
    ) -> None:
        past = {"attempt": 0, "released_at": START - timedelta(minutes=1), "cluster": "c"}
        story.cluster = "c"
        known = RunHistory(trials=[story.trial.model_copy(update=past), story.trial])
        cells = story.judge(known)
        assert {cell.status for cell in cells} == {Status.WARM_LAYERS}
        assert "not proved" in cells[0].reason

    def test_layers_of_another_image_are_counted(self, story: Story) -> None:
        base = Layer(digest="sha256:e", size_bytes=700_000, diff_id="sha256:b")
        other = PlannedTrial(
            trial=2,
            repetition=1,
            image=PlannedImage(repository="a/b", tag="t", digest="sha256:o", layers=(base,)),
            warm_bytes=0,
        )
        begun = START - timedelta(minutes=1)
        past = story.trial.model_copy(update={"trial": 2, "released_at": begun})
        cells = story.judge(RunHistory(trials=[past, story.trial]), plan=[other])
        assert {cell.status for cell in cells} == {Status.WARM_LAYERS}
        assert {cell.warm_bytes for cell in cells} == {500_000}  # of its own layer's compression


class TestDefect8DisturbedPulls:
    """28 FreeDiskSpaceFailed, 51 EvictionThresholdMet, 41 Evicted: none marked a pull."""

    @pytest.mark.parametrize(
        "reason",
        ["FreeDiskSpaceFailed", "EvictionThresholdMet", "NodeHasDiskPressure", "ImageGCFailed"],
    )
    def test_a_node_short_of_disk_marks_the_cell_that_it_touches(
        self, story: Story, reason: str
    ) -> None:
        story.node_event(reason, 1, "short of disk")
        assert story.statuses() == [Status.DISK_PRESSURE, *[Status.VALID] * 3]

    def test_an_eviction_and_a_retry_are_statuses(self, story: Story) -> None:
        failure = "Evicted: The node had condition: [DiskPressure]."
        story.change_pod(0, phase="Failed", failure=failure)
        story.add(story.pods[1], "BackOff", 0.5, "Back-off pulling image")
        found = story.statuses()
        assert found == [Status.EVICTED, Status.RETRIED, Status.VALID, Status.VALID]


class TestDefect9MutableTags:
    """Tags without digest, and a README that names the wrong study file."""

    def test_pods_name_the_digest_and_the_run_keeps_the_study(
        self, story: Story, tmp_path: Path
    ) -> None:
        job = trial_job(
            story.planned, run_id="r", attempt=1, nodes=4, command=("sleep", "1"), deadline_s=9
        )
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["image"].endswith(f"{TAG}@{story.planned.image.digest}")
        folder = RunFolder(tmp_path)
        folder.write_run(run_record(story))
        kept = folder.read_run()
        assert (kept.study_file, kept.seed, kept.study) == ("smoke.yaml", 7, STUDY)

    def test_a_pull_of_another_digest_is_no_evidence(self, story: Story) -> None:
        record = story.of(0, "Pulled")
        message = record.event["message"].replace("a" * 64, "f" * 64)
        story.drop(0, "Pulled")
        event = {**record.event, "message": message}
        story.events.append(record.model_copy(update={"event": event}))
        cell = story.judge()[0]
        assert cell.status is Status.MISSING_EVENTS
        assert "another image" in cell.reason


class TestDefect10WholeSeconds:
    """Time stamps of 1 s, though the event's name holds nanoseconds."""

    def test_moments_are_those_of_the_events_names(self, story: Story) -> None:
        phases = story.judge()[0].phases
        assert phases.pulling_at == START + timedelta(seconds=0.2)
        assert phases.pulled_at == START + timedelta(seconds=1.7)

    def test_a_duration_that_contradicts_them_is_no_evidence(self, story: Story) -> None:
        record = story.of(0, "Pulled")
        message = record.event["message"].replace("1.5s", "9.5s")
        story.drop(0, "Pulled")
        event = {**record.event, "message": message}
        story.events.append(record.model_copy(update={"event": event}))
        cell = story.judge()[0]
        assert cell.status is Status.MISSING_EVENTS
        assert "9.500 s by the Pulled event's message and 1.500 s" in cell.reason

    def test_nodes_that_work_faster_than_the_clock_contradict_nothing(self, story: Story) -> None:
        story.events = []
        for pod in story.pods:
            story.pull(pod, seconds=1.5)
        for record in story.events:
            if record.event["reason"] == "Pulled":
                text = record.event["message"].replace("1.5s", "15s")
                record.event["message"] = text
        known = RunHistory(trials=[story.trial], speed=10.0)
        assert {cell.status for cell in story.judge(known)} == {Status.VALID}
