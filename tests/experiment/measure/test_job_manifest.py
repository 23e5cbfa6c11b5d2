from experiment.measure.job_manifest import (
    SCHEDULER,
    is_of_run,
    job_name,
    minicluster,
    trial_job,
    view_job,
)
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


def test_a_minicluster_is_staged_as_a_job_is_and_leaves_no_default_to_its_crd(
    story: Story,
) -> None:
    body = minicluster(
        story.planned, "r/view:t@d", run_id="r", attempt=1, nodes=4, command=("sh", "-c", "a b")
    )
    spec = body["spec"]
    assert (body["apiVersion"], body["kind"]) == ("flux-framework.org/v1alpha2", "MiniCluster")
    assert body["metadata"]["name"] == job_name("r", 1, 1)
    assert (spec["size"], spec["tasks"], spec["cleanup"], spec["backoffLimit"]) == (
        4,
        4,
        False,
        1000,
    )
    assert spec["pod"]["schedulerName"] == SCHEDULER
    assert spec["pod"]["tolerations"] == list(MEASURED_TOLERATIONS)
    assert spec["pod"]["labels"] == spec["jobLabels"] == body["metadata"]["labels"]
    assert spec["flux"]["container"]["image"] == "r/view:t@d"
    assert spec["flux"]["completeWorkers"] is True
    (container,) = spec["containers"]
    assert container["command"] == "sh -c 'a b'"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert "@sha256:" in container["image"]


def test_what_asks_the_operator_and_brings_the_view_are_of_the_run_and_of_no_trial() -> None:
    ask = minicluster(None, "v", run_id="r", attempt=1, nodes=1, command=("true",))
    bring = view_job("v", run_id="r", attempt=1, nodes=4, deadline_s=9)
    names = [each["metadata"]["name"] for each in (ask, bring)]
    assert names == ["r-v000-a1", "r-v001-a1"]
    assert all(is_of_run(name, "r") for name in names)
    (container,) = bring["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("v", "IfNotPresent")


def test_a_jobs_name_fits_a_label_for_the_longest_run_id() -> None:
    name = job_name("r" * 48, 999, 99)
    assert len(name) <= 63
    assert job_name("r", 1, 1) != job_name("r", 1, 2)
