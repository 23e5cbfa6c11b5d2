from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from experiment.errors import Failure, PreflightError
from experiment.preflight.findings import Finding, Level
from experiment.preflight.google_checks import GoogleChecks, clock_finding
from experiment.preflight.quota_checks import check_quotas_together
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_files import stack_names
from experiment.provision.stack_settings import StackFacts, stack_facts
from rehearsal.faults.faults import Faults
from rehearsal.google.collections import default_account
from rehearsal.google.environment import PROJECT
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.state import Kind
from schema.errors import ExitCode
from schema.project_files import PROJECT_DIR
from tests.rehearsal.local_google import Google

US = f"projects/{PROJECT}/regions/us-central1"
CLUSTERS = f"container/v1beta1/projects/{PROJECT}/locations/us-central1-a/clusters"


def facts(stack: str = "size-64", **needs: Any) -> StackFacts:
    found = stack_facts(stack, PROJECT_DIR)
    return replace(found, needs=replace(found.needs, **needs))


def found(of: StackFacts | None = None, checks_until: str = "") -> list[Finding]:
    checks = GoogleChecks(of or facts())
    names = [check.__name__ for check in checks.all()]
    last = names.index(checks_until) if checks_until else len(names)
    try:
        return [finding for check in checks.all()[: last + 1] for finding in check()]
    finally:
        checks.close()


def bad(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.OK]


def create_cluster(google: Google, name: str, pool: str, nodes: int) -> None:
    config = {"machineType": "n1-standard-16", "diskSizeGb": 100}
    body = {
        "name": name,
        "resourceLabels": {"project": "pull-study", "stack": "size-8"},
        "nodePools": [{"name": pool, "initialNodeCount": nodes, "config": config}],
    }
    google.done("POST", CLUSTERS, {"cluster": body})


def test_a_project_that_has_all_is_well(google: Google) -> None:
    del google
    findings = found()
    assert bad(findings) == []
    assert {finding.check for finding in findings} == {
        *("credentials", "clock", "APIs", "permissions"),
        *("zones", "scheduler", "network", "account", "quotas"),
    }
    texts = {finding.text for finding in findings}
    assert "CPUS in us-central1: 1030 needed, 20000 of 20000 free" in texts
    everywhere = f"CPUS_ALL_REGIONS in all regions of the project {PROJECT}: 1030 needed"
    assert any(text.startswith(everywhere) for text in texts)


def test_a_disk_image_that_is_ready_is_well(google: Google) -> None:
    del google
    findings = found(facts("size-16-preloaded"))
    assert bad(findings) == []
    image = f"projects/{PROJECT}/global/images/pull-study-preloaded"
    assert f"{image} is ready: a disk of 50 GB for each node" in {each.text for each in findings}


@pytest.mark.parametrize(
    ("kind", "body", "is_what"),
    [(Kind.ABSENT, {}, "does not exist"), (Kind.IMAGE, {"status": "PENDING"}, "is PENDING")],
)
def test_a_disk_image_that_cannot_be_used_stops(
    google: Google, kind: Kind, body: dict[str, str], is_what: str
) -> None:
    name = f"projects/{PROJECT}/global/images/pull-study-preloaded"
    google.state.put(kind, name, body)
    (finding,) = bad(found(facts("size-16-preloaded"), checks_until="check_preloaded"))
    assert finding.level is Level.STOP
    assert finding.text.startswith(f"The disk image {name} {is_what}, so no measured node")
    assert finding.fix.startswith(f"gcloud compute images describe {name}")


def test_an_api_that_is_off_stops_with_the_command_that_switches_it_on(google: Google) -> None:
    service = f"serviceusage/v1/projects/{PROJECT}/services/cloudscheduler.googleapis.com"
    google.ok("POST", f"{service}:disable")
    (finding,) = bad(found(checks_until="check_apis"))
    assert (finding.level, finding.failure) == (Level.STOP, Failure.API_OFF)
    assert finding.fix == (
        f"gcloud services enable --project {PROJECT} cloudscheduler.googleapis.com"
    )


def test_permissions_that_are_missing_are_named(google: Google) -> None:
    lacking = {"container.clusters.create": True, "logging.sinks.create": True}
    google.state.put(Kind.DENIED_PERMISSIONS, f"projects/{PROJECT}", lacking)
    (finding,) = bad(found())
    assert (finding.level, finding.failure) == (Level.STOP, Failure.PERMISSION)
    assert "container.clusters.create and logging.sinks.create" in finding.text


@pytest.mark.parametrize(
    ("zones", "problem"),
    [
        (("us-central1-z",), "no zone us-central1-z; its region has us-central1-a,"),
        (("northamerica-south1-a",), "northamerica-south1-a has no machine type n1-standard-16."),
        (("us-central1-a", "nowhere-west1-a"), "no zone nowhere-west1-a."),
    ],
)
def test_a_zone_that_lacks_something_stops_or_warns_where_it_is_a_fallback(
    google: Google, zones: tuple[str, ...], problem: str
) -> None:
    del google
    finding = next(each for each in bad(found(facts(zones=zones))) if each.check == "zones")
    assert finding.level is (Level.WARNING if len(zones) > 1 else Level.STOP)
    assert problem in finding.text
    assert finding.fix == f"pulumi config set --path 'pull-study:zones[{len(zones) - 1}]' ZONE"


def test_a_zone_must_have_the_cpu_platform(google: Google) -> None:
    del google
    assert bad(found(facts(min_cpu_platform="Intel Skylake"))) == []
    (finding,) = bad(found(facts(min_cpu_platform="Intel Skylark")))
    assert "no CPU platform Intel Skylark; it has Intel " in finding.text


def test_a_region_without_cloud_scheduler_stops(google: Google) -> None:
    del google
    (finding,) = bad(found(facts(scheduler_region="southamerica-west1")))
    assert (finding.check, finding.level) == ("scheduler", Level.STOP)


def test_a_project_without_the_default_network_stops_with_the_command(google: Google) -> None:
    google.state.put(Kind.ABSENT, f"projects/{PROJECT}/global/networks/default", {})
    (finding,) = bad(found())
    assert finding.fix == (
        f"gcloud compute networks create default --subnet-mode auto --project {PROJECT}"
    )


@pytest.mark.parametrize(
    ("kind", "change", "fix"),
    [
        (Kind.ABSENT, {}, "undelete it within 30 days"),
        (Kind.SERVICE_ACCOUNT, {"disabled": True}, "gcloud iam service-accounts enable "),
    ],
)
def test_a_default_account_that_is_deleted_or_disabled_stops(
    google: Google, kind: Kind, change: dict[str, Any], fix: str
) -> None:
    name = f"projects/{PROJECT}/serviceAccounts/{default_account(PROJECT)}"
    google.state.put(kind, name, change)
    (finding,) = bad(found())
    assert (finding.level, finding.failure) == (Level.STOP, Failure.PERMISSION)
    assert finding.fix.startswith(fix)


@pytest.mark.parametrize(
    ("metric", "limit", "need", "where"),
    [
        ("CPUS", 1000, 1030, "us-central1"),
        ("SSD_TOTAL_GB", 6000, 6600, "us-central1"),
        ("IN_USE_ADDRESSES", 8, 66, "us-central1"),
        ("CPUS_ALL_REGIONS", 32, 1030, "all regions of the project"),
    ],
)
def test_a_quota_that_is_too_small_names_the_required_one(
    google: Google, metric: str, limit: int, need: int, where: str
) -> None:
    scope = f"projects/{PROJECT}" if metric == "CPUS_ALL_REGIONS" else US
    google.state.put(Kind.QUOTA, scope, {metric: limit})
    (finding,) = bad(found())
    assert (finding.level, finding.failure) == (Level.STOP, Failure.QUOTA)
    assert finding.text.startswith(f"The stack needs {need} of {metric} in {where}")
    assert finding.text.endswith(f", but only {limit} of {limit} are free.")
    assert finding.fix.startswith(f"request {need} {metric} ")


@pytest.mark.parametrize("stack", stack_names())
def test_no_stack_fits_the_quotas_of_a_new_project(google: Google, stack: str) -> None:
    GoogleFaults(Faults.read(["new-project"])).limit_quotas(google.state)
    findings = bad(found(facts(stack)))
    assert {finding.failure for finding in findings} == {Failure.QUOTA}
    assert any("of CPUS_ALL_REGIONS in all regions" in finding.text for finding in findings)


def test_a_quota_of_a_fallback_region_only_warns(google: Google) -> None:
    google.state.put(Kind.QUOTA, f"projects/{PROJECT}/regions/us-east1", {"CPUS": 24})
    (finding,) = bad(found(facts(zones=("us-central1-a", "us-east1-b"))))
    assert finding.level is Level.WARNING
    assert finding.text.endswith("The run could not move there.")


@pytest.mark.parametrize(("granted", "metric"), [(0, "CPUS"), (50, "PREEMPTIBLE_CPUS")])
def test_spot_nodes_count_as_ordinary_ones_where_no_spot_quota_was_granted(
    google: Google, granted: int, metric: str
) -> None:
    google.state.put(Kind.QUOTA, US, {"CPUS": 50, "PREEMPTIBLE_CPUS": granted})
    spot = {"measured": {"PREEMPTIBLE_CPUS": 64, "PREEMPTIBLE_LOCAL_SSD_GB": 0}}
    (finding,) = bad(found(facts("size-4", pools=spot)))
    assert finding.text.startswith(f"The stack needs 64 of {metric} in us-central1, but only 50 ")


def test_what_other_clusters_use_of_a_quota_is_not_free(google: Google) -> None:
    google.state.put(Kind.QUOTA, US, {"CPUS": 1100})
    create_cluster(google, "c", "measured", 8)
    (finding,) = bad(found())
    assert "but only 972 of 1100 are free" in finding.text


def test_what_the_run_s_own_cluster_holds_is_not_needed_again(google: Google) -> None:
    google.state.put(Kind.QUOTA, US, {"CPUS": 140})
    create_cluster(google, "pull-study-size-8", "measured", 8)
    assert bad(found(facts("size-8"))) == []


@pytest.mark.parametrize("stack", stack_names())
def test_a_new_project_is_refused_for_every_stack_before_it_costs_anything(
    google: Google, stack: str
) -> None:
    GoogleFaults(Faults.read(["new-project"])).limit_quotas(google.state)
    stops = [each for each in bad(found(facts(stack))) if each.level is Level.STOP]
    assert {finding.failure for finding in stops} == {Failure.QUOTA}
    assert any("CPUS_ALL_REGIONS" in finding.text for finding in stops)


@pytest.mark.parametrize(("parallel", "need"), [(1, 0), (2, 134 + 262), (3, 70 + 134 + 262)])
def test_stacks_that_are_up_at_the_same_time_share_the_quotas(
    google: Google, parallel: int, need: int
) -> None:
    google.state.put(Kind.QUOTA, US, {"CPUS": 300})
    google.state.put(Kind.QUOTA, f"projects/{PROJECT}", {"CPUS_ALL_REGIONS": 300})
    stacks = [facts(name) for name in ("size-4", "size-8", "size-16")]
    findings = bad(check_quotas_together(GoogleApi(PROJECT), stacks, parallel))
    assert [finding.failure for finding in findings] == [Failure.QUOTA] * (2 if need else 0)
    for finding in findings:
        start = f"The {parallel} largest stacks, up at the same time, need {need} of CPUS"
        assert finding.text.startswith(start)


def test_google_that_refuses_is_a_finding_and_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent.json")
    checks = GoogleChecks(facts())
    with pytest.raises(PreflightError, match="There are no Google credentials") as caught:
        list(checks.check_credentials())
    assert caught.value.exit_code is ExitCode.PERMISSION
    assert [finding for check in checks.all()[1:] for finding in check()] == []


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [
        (0.4, Level.OK, "agree"),
        (-20, Level.WARNING, "20 s behind Google's"),
        (20, Level.WARNING, "20 s ahead of Google's"),
        (600, Level.STOP, "600 s ahead of Google's"),
    ],
)
def test_clocks_that_differ_are_reported_and_minutes_stop(
    seconds: float, level: Level, words: str
) -> None:
    (finding,) = clock_finding(timedelta(seconds=seconds))
    assert finding.level is level
    assert words in finding.text
