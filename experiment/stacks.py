"""One stack's life through Pulumi's Automation API: the only module that knows it.

It works on the copies of experiment.stack_files. It never sets configuration: that is the user's,
by `pulumi config set`.
"""

import json
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pulumi import automation
from pulumi.automation.events import EngineEvent, OpType
from pydantic import ValidationError

from experiment.errors import PlanError, PreflightError, ProvisionError, TeardownError
from infra.catalogue import LOCAL_SSD_GB
from infra.program import cluster_usd_per_hour, declare
from infra.settings import NAMESPACE, parse_settings
from schema.names import PROJECT_VARIABLE
from schema.stack_outputs import StackOutputs

_PROJECT_NAME = "pull-study"
_LOCKED_BY = re.compile(r"created by \S+?@(?P<host>\S+) \(pid (?P<pid>\d+)\)")
_URN_TYPE = re.compile(r"^urn:pulumi:[^:]+::[^:]+::(?:[^:]+\$)?(?P<type>[^$]+)::(?P<name>.+)$")
_QUIET = {OpType.SAME, OpType.READ, OpType.REFRESH}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What a stack's settings say before it is up."""

    project: str
    location: str
    cluster_name: str
    node_count: int
    machine_type: str
    disk_gb: int
    """Where a measured node unpacks images: its local SSDs, or else its boot disk."""
    usd_per_hour: float


def stack_facts(stack: str, work_dir: Path) -> StackFacts:
    """Read the settings of the stack's copy in a run's folder.

    Raises:
        infra.settings.SettingsError: a setting breaks a rule.
        PlanError: the stack's file cannot be read.
    """
    path = work_dir / f"Pulumi.{stack}.yaml"
    try:
        config = (yaml.safe_load(path.read_text("utf-8")) or {}).get("config") or {}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise PlanError(f"The stack file {path} cannot be read: {error}.", f"cat {path}") from None
    prefix = f"{NAMESPACE}:"
    values = {
        key.removeprefix(prefix): value if isinstance(value, str) else json.dumps(value)
        for key, value in config.items()
        if key.startswith(prefix)
    }
    project = str(config.get("gcp:project") or os.environ.get(PROJECT_VARIABLE, ""))
    settings = parse_settings(values, stack=stack, project=project, now=datetime.now(UTC))
    return StackFacts(
        project=settings.project,
        location=settings.location,
        cluster_name=settings.cluster_name,
        node_count=settings.node_count,
        machine_type=settings.machine_type,
        disk_gb=settings.local_ssd_count * LOCAL_SSD_GB or settings.disk_size_gb,
        usd_per_hour=cluster_usd_per_hour(settings),
    )


class StudyStack:
    """A stack on a work_dir that `copy_stack_files` filled.

    Args:
        name: such as size-64.
        work_dir: holds the copies.
        say: told what happens, a line each.

    Raises:
        PreflightError: the Pulumi CLI or its backend cannot be used.
    """

    def __init__(self, name: str, work_dir: Path, say: Say) -> None:
        self.name = name
        self._say = say
        self._errors: list[str] = []
        try:
            self._stack = automation.create_or_select_stack(
                stack_name=name,
                project_name=_PROJECT_NAME,
                program=declare,
                opts=automation.LocalWorkspaceOptions(work_dir=str(work_dir)),
            )
        except FileNotFoundError:
            raise PreflightError(
                "The Pulumi CLI is not on PATH, and without it no cluster can be made.",
                "install it from https://www.pulumi.com/docs/install/",
            ) from None
        except automation.CommandError as error:
            raise PreflightError(
                f"Pulumi cannot open the stack {name}: {_last_line(str(error))}.",
                "pulumi login, and for the committed stacks: export PULUMI_CONFIG_PASSPHRASE=''",
            ) from None

    def recover(self) -> None:
        """Mend what a killed run left: its lock, and resources whose creation had begun.

        A pending creation is put into the state with the id that it must have, and a refresh keeps
        it if it exists: `pulumi cancel` and `destroy` alone would leave a cluster that nobody
        knows of.

        Raises:
            PreflightError: the stack is locked by someone who lives.
        """
        deployment = self._export()
        pending = deployment.get("pending_operations") or []
        if not pending:
            return
        self._say(f"an earlier run was killed while {len(pending)} operations were under way")
        # Refreshing takes the lock: it refuses while somebody lives who holds it.
        self._guarded(lambda: self._stack.refresh(on_event=self._on_event))
        deployment = self._export()
        pending = deployment.pop("pending_operations", None) or []
        resources = deployment.get("resources") or []
        known = {resource["urn"] for resource in resources}
        adopted = [found for found in map(_adopted, pending) if found and found["urn"] not in known]
        deployment["resources"] = [*resources, *adopted]
        self._stack.import_stack(automation.Deployment(version=3, deployment=deployment))
        self._guarded(lambda: self._stack.refresh(on_event=self._on_event))

    def is_up(self) -> bool:
        """Whether the state holds any resource of Google's or the cluster's."""
        types = [resource["type"] for resource in self._export().get("resources") or []]
        return any(not kind.startswith(("pulumi:", "pull-study:")) for kind in types)

    def up(self) -> StackOutputs:
        """Bring the cluster up.

        Raises:
            ProvisionError: Pulumi failed, or the program's exports are not what the runner needs.
        """
        self._errors.clear()
        try:
            result = self._guarded(lambda: self._stack.up(on_event=self._on_event))
        except automation.CommandError as error:
            raise ProvisionError(
                f"The stack {self.name} did not come up: {self._why(error)}.",
                f"mend the cause, then run again (pulumi preview --stack {self.name} shows the "
                "plan)",
            ) from None
        try:
            return StackOutputs.model_validate({k: v.value for k, v in result.outputs.items()})
        except ValidationError as error:
            first = error.errors()[0]
            raise ProvisionError(
                f"The stack {self.name} exports no usable {'.'.join(map(str, first['loc']))}: "
                f"{first['msg']}.",
                f"pulumi stack output --stack {self.name}",
            ) from None

    def destroy(self) -> None:
        """Take the cluster down; the archive bucket stays.

        Raises:
            TeardownError: something may be left.
        """
        self._errors.clear()
        try:
            self._guarded(lambda: self._stack.destroy(on_event=self._on_event))
        except automation.CommandError as error:
            raise TeardownError(
                f"The stack {self.name} was not taken down, and its cluster costs money while it "
                f"exists: {self._why(error)}.",
                f"pulumi destroy --stack {self.name}",
            ) from None

    def _export(self) -> dict[str, Any]:
        try:
            return dict(self._stack.export_stack().deployment or {})
        except automation.CommandError as error:
            raise PreflightError(
                f"The state of stack {self.name} cannot be read: {_last_line(str(error))}.",
                f"pulumi stack export --stack {self.name}",
            ) from None

    def _guarded(self, operation: Callable[[], Any]) -> Any:
        try:
            return operation()
        except automation.ConcurrentUpdateError as error:
            self._unlock(str(error))
            return operation()

    def _unlock(self, message: str) -> None:
        """Take away the lock of a dead process of this machine, and of no other."""
        for match in _LOCKED_BY.finditer(message):
            if match["host"] != socket.gethostname() or _alive(int(match["pid"])):
                raise PreflightError(
                    f"The stack {self.name} is in use by process {match['pid']} on "
                    f"{match['host']}, and two at once would break its state.",
                    f"wait for it, or if it is gone: pulumi cancel --stack {self.name}",
                )
        if not _LOCKED_BY.search(message):
            raise PreflightError(
                f"Another update of the stack {self.name} is under way.",
                f"wait for it, or if it is gone: pulumi cancel --stack {self.name}",
            )
        self._stack.cancel()

    def _on_event(self, event: EngineEvent) -> None:
        if event.resource_pre_event and not event.resource_pre_event.planning:
            self._say_step(event.resource_pre_event.metadata, "...")
        elif event.res_outputs_event and not event.res_outputs_event.planning:
            self._say_step(event.res_outputs_event.metadata, "done")
        elif event.diagnostic_event and event.diagnostic_event.severity == "error":
            self._errors.append(_plain(event.diagnostic_event.message))

    def _say_step(self, metadata: Any, outcome: str) -> None:
        match = _URN_TYPE.match(metadata.urn)
        if match and metadata.op not in _QUIET and not match["type"].startswith("pulumi:"):
            kind = match["type"].rpartition(":")[2]
            self._say(f"{metadata.op.value} {kind} {match['name']} {outcome}")

    def _why(self, error: automation.CommandError) -> str:
        causes = [line for line in self._errors if line and "update failed" not in line]
        return (causes[-1] if causes else _last_line(str(error))).rstrip(".")


def _adopted(operation: dict[str, Any]) -> dict[str, Any] | None:
    """The state of a resource whose creation had begun, with the id that it must have.

    Only what costs money and would be lost is adopted; the rest is created again by the next `up`
    or was never seen by anybody.
    """
    resource = dict(operation["resource"])
    inputs = resource.get("inputs", {})
    if operation["type"] != "creating":
        return None
    place = f"projects/{inputs.get('project')}/locations/{inputs.get('location')}"
    if resource["type"] == "gcp:container/cluster:Cluster":
        resource["id"] = f"{place}/clusters/{inputs['name']}"
    elif resource["type"] == "gcp:container/nodePool:NodePool":
        cluster = str(inputs["cluster"]).rpartition("/")[2]
        resource["id"] = f"{place}/clusters/{cluster}/nodePools/{inputs['name']}"
    else:
        return None
    return resource


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _plain(message: str) -> str:
    text = re.sub(r"<\{%[^%]*%\}>", "", message)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[:500]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "error:" in line), lines[-1] if lines else "")
