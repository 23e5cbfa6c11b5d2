from experiment.measure.job_manifest import SCHEDULER, job_name, trial_job
from schema.names import JOB_NAMESPACE, MEASURED_TOLERATIONS
from tests.experiment.conftest import Story


def test_a_trials_job_is_indexed_staged_and_never_retried(story: Story) -> None:
    job = trial_job(
        story.planned, run_id="r", attempt=1, nodes=4, command=("sleep", "1"), deadline_s=200
    )
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert job["metadata"]["namespace"] == JOB_NAMESPACE
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (0, 4)
    assert "backoffLimit" not in spec
    assert "activeDeadlineSeconds" not in spec  # it would count from staging
    assert pod["activeDeadlineSeconds"] == 200
    assert pod["schedulerName"] == SCHEDULER
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] == 0
    assert pod["tolerations"] == list(MEASURED_TOLERATIONS)
    assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert "@sha256:" in pod["containers"][0]["image"]


def test_a_jobs_name_fits_a_label_for_the_longest_run_id() -> None:
    name = job_name("r" * 48, 999, 99)
    assert len(name) <= 63
    assert job_name("r", 1, 1) != job_name("r", 1, 2)
