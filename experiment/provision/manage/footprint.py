"""What of a stack is in a project, by Google's own lists; Pulumi's state is not asked.

GKE gives a cluster's labels to its machines and disks, also to those of persistent volumes, which
outlive their cluster (elastic/cloud-on-k8s pull 5937, kubernetes/ingress-gce issue 1195). Firewall
rules have no labels: their names begin with that of the cluster and eight digits. The program makes
no custom role. The archive (bucket, log sink and the sink's grant) outlives a stack on purpose.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from experiment.errors import RunError
from experiment.provision.cluster_state import Json
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_settings import account_ids
from schema.names import PROJECT_LABEL

_DELETED = "deleted:"
"""Begins a member whose account was deleted: `deleted:serviceAccount:E-MAIL?uid=N`."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something of a stack."""

    kind: str
    name: str
    command: str
    """Deletes it."""
    costs: bool
    """It costs money while it exists."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What Google's lists have of a stack."""

    items: tuple[Item, ...]
    unread: tuple[str, ...]
    """Why a list could not be read, a sentence each."""

    def counted(self) -> str:
        """Return how many there are of each kind: `1 cluster, 5 disks`; empty for none."""
        counts = Counter(item.kind for item in self.items)
        return ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items())

    def named(self) -> str:
        """Return the items: `disk pvc-1 (costs money), grant of roles/viewer to a@b`."""
        return ", ".join(
            f"{item.kind} {item.name}{' (costs money)' if item.costs else ''}"
            for item in self.items
        )

    def commands(self) -> str:
        """Return the commands that delete the items."""
        return "; ".join(dict.fromkeys(item.command for item in self.items))


def footprint(api: GoogleApi, stack: str, cluster: str, repository: str = "") -> Footprint:
    """Return what of a stack exists in a project.

    Args:
        api: of the project.
        stack: its name.
        cluster: the name of its cluster.
        repository: its remote repository's full name, projects/P/...; empty if it has none.
    """
    items: list[Item] = []
    unread: list[str] = []
    for read in (_clusters, _machines, _firewall_rules, _accounts, _grants, _jobs):
        try:
            items += read(api, stack, cluster)
        except RunError as error:
            unread.append(error.problem)
    try:
        if repository and api.get("ARTIFACT_REGISTRY", repository) is not None:
            _, _, _, location, _, name = repository.split("/")
            command = f"gcloud artifacts repositories delete {name} --location {location}"
            items.append(_item(api, "remote repository", name, command, costs=True))
    except RunError as error:
        unread.append(error.problem)
    return Footprint(tuple(items), tuple(unread))


def _clusters(api: GoogleApi, stack: str, cluster: str) -> Iterator[Item]:
    found_clusters = api.clusters()
    if api.unlisted:
        raise RunError(f"GKE cannot reach {', '.join(api.unlisted)} now.")
    for found in found_clusters:
        if found.name == cluster and _is_labelled(found.labels, stack, cluster):
            command = f"gcloud container clusters delete {cluster} --location {found.location}"
            yield _item(api, "cluster", cluster, command, costs=True)


def _machines(api: GoogleApi, stack: str, cluster: str) -> Iterator[Item]:
    kinds = (("instance", "instances"), ("disk", "disks"), ("address", "addresses"))
    own = re.compile(rf"gke-{re.escape(cluster)}-[0-9a-f]{{8}}(-.*)?")
    for kind, collection in kinds:
        for found in api.get_aggregated(collection):
            name = str(found["name"])
            if _is_labelled(found.get("labels", {}), stack, cluster) or own.fullmatch(name):
                command = f"gcloud compute {collection} delete {name} {_place(found)}"
                yield _item(api, kind, name, command, costs=True)


def _firewall_rules(api: GoogleApi, _stack: str, cluster: str) -> Iterator[Item]:
    own = re.compile(rf"gke-{re.escape(cluster)}-[0-9a-f]{{8}}(-.*)?")
    path = f"projects/{api.project}/global/firewalls"
    for found in api.get_all("COMPUTE", path, "items"):
        name = str(found["name"])
        if any(own.fullmatch(each) for each in (name, *found.get("targetTags", ()))):
            command = f"gcloud compute firewall-rules delete {name}"
            yield _item(api, "firewall rule", name, command)


def _accounts(api: GoogleApi, stack: str, _cluster: str) -> Iterator[Item]:
    own = _emails(api, stack)
    path = f"projects/{api.project}/serviceAccounts"
    for found in api.get_all("IAM_BETA", path, "accounts"):
        email = str(found["email"])
        if email in own:
            yield _item(api, "account", email, f"gcloud iam service-accounts delete {email}")


def _grants(api: GoogleApi, stack: str, _cluster: str) -> Iterator[Item]:
    own = {f"serviceAccount:{email}" for email in _emails(api, stack)}
    for role, member in api.grants():
        if member.removeprefix(_DELETED).partition("?")[0] in own:
            command = (
                f"gcloud projects remove-iam-policy-binding {api.project} --all "
                f"--role {role} --member '{member}'"
            )
            name = f"of {role} to {member.rpartition(':')[2]}"
            yield Item("grant", name, command, costs=False)


def _jobs(api: GoogleApi, _stack: str, cluster: str) -> Iterator[Item]:
    for job in api.dead_man_jobs():
        if job.cluster == cluster:
            command = f"gcloud scheduler jobs delete {job.name} --location {job.region}"
            yield _item(api, "scheduler job", job.name, command)


def _item(api: GoogleApi, kind: str, name: str, command: str, *, costs: bool = False) -> Item:
    return Item(kind, name, f"{command} --project {api.project}", costs)


def _emails(api: GoogleApi, stack: str) -> set[str]:
    return {f"{each}@{api.project}.iam.gserviceaccount.com" for each in account_ids(stack)}


def _is_labelled(labels: Json, stack: str, cluster: str) -> bool:
    ours = {"project": PROJECT_LABEL, "stack": stack}
    return ours.items() <= labels.items() or labels.get("goog-k8s-cluster-name") == cluster


def _place(found: Json) -> str:
    for kind in ("zone", "region"):
        if kind in found:
            return f"--{kind} {str(found[kind]).rpartition('/')[2]}"
    return "--global"
