import re

import pytest

from docs.generate.gke_tables import PAGE, updated
from tests.infra.conftest import Declare
from tests.infra.stack_files import ROOT, stacks, values_of

TEXT = PAGE.read_text(encoding="utf-8")


def test_tables_are_what_the_code_says() -> None:
    assert updated(TEXT) == TEXT, "stale: make docs"


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert links
    assert all((PAGE.parent / link).exists() for link in links)


@pytest.mark.parametrize(
    "key", sorted({*re.findall(r"pull-study:([a-z]+[A-Za-z]*)", TEXT)} - {"KEY"})
)
def test_keys_in_commands_exist(key: str) -> None:
    assert f"pull-study:{key}:" in (ROOT / "Pulumi.yaml").read_text(encoding="utf-8")


OPTIONAL: tuple[dict[str, object], ...] = (
    {"minCpuPlatform": "Intel Skylake", "kubernetesVersion": "1.34", "privateNodes": True},
    {"workloadMetadata": "GKE_METADATA", "registryHosts": {"ghcr.io": ["https://m.example"]}},
)
"""Settings, besides those of the committed stacks, with which more is sent."""
NEEDED = {
    "artifactregistry/": ("artifactregistry.googleapis.com", "roles/artifactregistry.admin"),
    "cloudscheduler": ("cloudscheduler.googleapis.com", "roles/cloudscheduler.admin"),
    "container": ("container.googleapis.com", "roles/container.admin"),
    "logging": ("logging.googleapis.com", "roles/logging.configWriter"),
    "projects/iAMMember": (
        "cloudresourcemanager.googleapis.com", "roles/resourcemanager.projectIamAdmin",
    ),
    "projects/service": ("serviceusage.googleapis.com", "roles/serviceusage.serviceUsageAdmin"),
    "serviceaccount": ("iam.googleapis.com", "roles/iam.serviceAccountAdmin"),
    "storage": ("storage.googleapis.com", "roles/storage.admin"),
}  # fmt: skip
"""API and role that a resource type needs, by the beginning of its type."""


def _documented_properties() -> dict[str, set[str]]:
    """What the table of values names, by c, p and n."""
    named: dict[str, set[str]] = {"c": set(), "p": set(), "n": set()}
    table = TEXT.partition("| value | gcloud sent |")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        for kind, names in re.findall(r"\b([cpn]) ((?:`\w+` ?)+)", row.split("|")[4]):
            named[kind] |= set(re.findall(r"`(\w+)`", names))
    return named


def test_table_of_values_names_every_property_that_is_sent_and_no_other(
    declare_stack: Declare,
) -> None:
    sent: dict[str, set[str]] = {"c": set(), "p": set(), "n": set()}
    declared = [declare_stack(stack, **values_of(stack)) for stack in stacks()]
    declared += [declare_stack(**values) for values in OPTIONAL]
    for each in declared:
        sent["c"] |= set(each.only("container/cluster:Cluster").inputs)
        for pool in each.of_type("container/nodePool:NodePool"):
            sent["p"] |= set(pool.inputs) - {"nodeConfig"}
            sent["n"] |= set(pool.inputs["nodeConfig"])
    assert _documented_properties() == sent


def test_apis_and_roles_cover_every_type_of_every_stack(declare_stack: Declare) -> None:
    enabled = TEXT.partition("gcloud services enable")[2].partition("```")[0]
    roles = TEXT.partition("Roles of the account that runs Pulumi")[2].partition("\n\n## ")[0]
    for stack in stacks():
        for resource in declare_stack(stack, **values_of(stack)).custom:
            if resource.type.startswith("kubernetes:"):
                continue
            kind = resource.type.removeprefix("gcp:")
            api, role = next(need for start, need in NEEDED.items() if kind.startswith(start))
            assert api in enabled, resource.type
            assert f"`{role}`" in roles, resource.type
