"""One stack through Pulumi's Automation API.

It works on the copies of experiment.provision.stack_files, and never sets configuration: users do,
by `pulumi config set`. experiment.provision.stack_cluster checks the results with Google.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi import automation
from pulumi.automation.events import EngineEvent, OpType
from pydantic import ValidationError

from experiment.errors import Failure, OwnershipError, PreflightError, ProvisionError
from experiment.provision import state_repair
from experiment.provision.provider_messages import Explained, explain, is_conflict, is_not_yet_known
from experiment.provision.pulumi_process import DetachedCommand, lock_holders, repair_state_files
from experiment.provision.state_repair import Adoption, Deployment, Resource
from experiment.terminal.progress import Say
from infra.program import declare
from schema.stack_outputs import StackOutputs

_PROJECT_NAME = "pull-study"
_QUIET = {OpType.SAME, OpType.READ, OpType.REFRESH}
_ROUNDS = 3
"""Adopting an account reveals its IAM bindings, adopting a cluster its pools: two, plus a spare."""


def _silence_pulumi() -> None:
    # grpc would print a traceback when a failed engine closes the connection to its program.
    logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
    # A killed CLI breaks its stream of events; the error that it ends with says so.
    warnings.filterwarnings("ignore", "Error in event stream", UserWarning)


@dataclass(frozen=True, slots=True)
class Change:
    """What an `up` would do to one resource.

    Attributes:
        op: create, update, replace, delete and the like.
        resource: as declared.
        keys: top-level properties that differ.
    """

    op: str
    resource: Resource
    keys: tuple[str, ...]


class StudyStack:
    """A stack on a work_dir that `copy_stack_files` filled.

    Args:
        name: such as size-64.
        work_dir: has the copies.
        project: Google Cloud project id.
        say: shows progress.

    Raises:
        PreflightError: the Pulumi CLI or its backend cannot be used.
    """

    def __init__(self, name: str, work_dir: Path, project: str, say: Say) -> None:
        self.name = name
        self._project = project
        self._say = say
        self._errors: list[str] = []
        self._started = self._done = 0
        """Resources of the current operation."""
        _silence_pulumi()
        self._options = automation.LocalWorkspaceOptions(work_dir=str(work_dir))
        try:
            self._options.pulumi_command = DetachedCommand(self._ask_to_wait)
            self._stack = self._opened()
        except FileNotFoundError as error:
            raise PreflightError(
                "The Pulumi CLI is not on PATH, and a run needs it.",
                "install it from https://www.pulumi.com/docs/install/",
            ) from error
        except automation.CommandError as error:
            raise PreflightError(
                f"Pulumi cannot open the stack {name}: {_last_line(str(error))}.",
                "pulumi login, and for the committed stacks: export PULUMI_CONFIG_PASSPHRASE=''",
            ) from error

    def _opened(self) -> automation.Stack:
        """Select or create the stack; retry once if a killed CLI left its state unreadable."""
        try:
            return self._select()
        except automation.CommandError:
            options = self._options
            workspace = automation.LocalWorkspace(
                work_dir=options.work_dir, pulumi_command=options.pulumi_command
            )
            if not repair_state_files(workspace.who_am_i().url or ""):
                raise
            return self._select()

    def _select(self) -> automation.Stack:
        return automation.create_or_select_stack(
            stack_name=self.name,
            project_name=_PROJECT_NAME,
            program=declare,
            opts=self._options,
        )

    def recover(self) -> bool:
        """Settle what a killed engine left: its lock and its pending operations.

        Each pending creation is added to the state under its deterministic id, and a refresh keeps
        it if it exists: `pulumi cancel` and `destroy` alone would leave an unknown cluster.

        Returns:
            Whether there was a pending operation.

        Raises:
            PreflightError: a live process locks the stack, or the state cannot be used.
            ProvisionError: the cloud could not be read.
        """
        deployment = self._export()
        pending = deployment.get("pending_operations") or []
        if not pending:
            return False
        self._say(f"an earlier command was killed during {len(pending)} operations")
        self._import_and_refresh(
            state_repair.adopt(deployment, state_repair.pending_creates(deployment), self._project)
        )
        return True

    def adopt(self) -> list[str]:
        """Add to the state what the program declares, the cloud has and the state lacks.

        A killed provider leaves such resources without a trace in the state.

        Returns:
            URNs of the adopted resources.

        Raises:
            PreflightError: a resource of that name is not this program's, or the state cannot be
                used.
            ProvisionError: the program cannot be previewed, or the cloud could not be read.
        """
        adopted: list[str] = []
        tried: set[str] = set()
        for _ in range(_ROUNDS):
            missing = [
                change.resource
                for change in self.changes()
                if change.op == "create" and change.resource.urn not in tried
            ]
            adoption = state_repair.adopt(self._export(), missing, self._project)
            tried |= adoption.declared.keys()
            if not adoption.declared:
                break
            adopted += self._import_and_refresh(adoption)
        for urn in adopted:
            self._say(f"adopted {urn.rpartition('::')[2]}, which the state did not have")
        return adopted

    def _import_and_refresh(self, adoption: Adoption) -> list[str]:
        """Import a state and refresh it; return the URNs of added resources that exist."""
        self._import(adoption.deployment)
        # Its steps are not shown: dropping an entry that does not exist looks like a deletion.
        self._run("refreshed", lambda **_: self._stack.refresh(on_event=self._note_error))
        deployment = self._export()
        existing = state_repair.found(deployment, adoption.declared)
        if foreign := state_repair.foreign_resources(deployment, adoption.declared):
            urns = {entry["urn"] for entry in deployment["resources"] if entry["id"] in foreign}
            self._import(state_repair.without(deployment, urns))
            raise OwnershipError(
                f"{' and '.join(foreign)} has a name that the stack {self.name} needs, but does "
                "not belong to this program; it was left alone.",
                "remove or rename it, or use another project",
            )
        return existing

    def knows_cluster(self) -> bool:
        """Whether the state has the cluster."""
        return state_repair.entry_of(self._export(), state_repair.CLUSTER) is not None

    def is_up(self) -> bool:
        """Whether the state has any resource in Google Cloud or in the cluster."""
        resources = self._export().get("resources") or []
        return any(state_repair.is_cloud(entry["type"]) for entry in resources)

    def outputs(self) -> StackOutputs | None:
        """Return the exports of the last update; None if some are missing."""
        try:
            values = {name: output.value for name, output in self._stack.outputs().items()}
            return StackOutputs.model_validate(values)
        except ValidationError:
            return None
        except automation.CommandError as error:
            raise self._unreadable(error) from error

    def changes(self) -> list[Change]:
        """Return what `up` would change.

        Raises:
            ProvisionError: the program or a provider failed.
        """
        found: list[Change] = []

        def note(event: EngineEvent) -> None:
            self._note_error(event)
            step = event.resource_pre_event
            if step and step.metadata.op not in _QUIET and step.metadata.new:
                found.append(_change(step.metadata))

        self._run("previewed", lambda **_: self._stack.preview(on_event=note))
        return found

    def up(self) -> StackOutputs:
        """Bring the cluster up.

        Raises:
            ProvisionError: Pulumi failed, or the program's exports are not what the runner needs.
        """
        result = self._run("brought up", self._stack.up)
        try:
            return StackOutputs.model_validate({k: v.value for k, v in result.outputs.items()})
        except ValidationError as error:
            first = error.errors()[0]
            raise ProvisionError(
                f"The stack {self.name} exports no usable {'.'.join(map(str, first['loc']))}: "
                f"{first['msg']}.",
                f"pulumi stack output --stack {self.name}",
            ) from error

    @property
    def met_conflict(self) -> bool:
        """The last operation failed because a resource of the same name exists."""
        return any(map(is_conflict, self._errors))

    @property
    def met_new_account(self) -> bool:
        """The last operation failed because a service did not know a new account or grant yet."""
        return any(map(is_not_yet_known, self._errors))

    def destroy(self) -> None:
        """Take the cluster down; the archive bucket stays.

        Raises:
            ProvisionError: something may be left.
        """
        self._run("taken down", self._stack.destroy)

    def _ask_to_wait(self) -> None:
        self._say(
            "waiting for the operations in progress, so that no resource is left without a state"
        )

    def _run(self, done: str, operation: Callable[..., Any]) -> Any:
        """Run an operation of the engine, after removing a dead process's lock."""
        self._errors.clear()
        self._started = self._done = 0
        try:
            return self._guarded(lambda: operation(on_event=self._on_event))
        except automation.CommandError as error:
            why = self._why(str(error))
            raise ProvisionError(
                f"The stack {self.name} was not {done}: {why.why}.", why.fix, failure=why.failure
            ) from error

    def _export(self) -> Deployment:
        try:
            return dict(self._stack.export_stack().deployment or {})
        except automation.CommandError as error:
            raise self._unreadable(error) from error

    def _import(self, deployment: Deployment) -> None:
        state = automation.Deployment(version=3, deployment=deployment)
        try:
            self._guarded(lambda: self._stack.import_stack(state))
        except automation.CommandError as error:
            raise PreflightError(
                f"The state of stack {self.name} cannot be written: {_last_line(str(error))}.",
                f"pulumi stack export --stack {self.name}",
                failure=Failure.PROVIDER_ERROR,
            ) from error

    def _unreadable(self, error: automation.CommandError) -> PreflightError:
        return PreflightError(
            f"The state of stack {self.name} cannot be read: {_last_line(str(error))}.",
            f"pulumi stack export --stack {self.name}",
        )

    def _guarded(self, operation: Callable[[], Any]) -> Any:
        try:
            return operation()
        except automation.ConcurrentUpdateError as error:
            self._unlock(str(error))
            return operation()

    def _unlock(self, message: str) -> None:
        """Remove the lock of a dead process of this machine, and no other."""
        holders = lock_holders(message)
        for holder in holders:
            if holder.may_be_alive:
                raise OwnershipError(
                    f"The stack {self.name} is in use by process {holder.pid} on {holder.host}.",
                    f"wait for it, or if it has ended: pulumi cancel --stack {self.name}",
                )
        if not holders:
            raise OwnershipError(
                f"Another update of the stack {self.name} is in progress.",
                f"wait for it, or if it has ended: pulumi cancel --stack {self.name}",
            )
        self._stack.cancel()

    def _on_event(self, event: EngineEvent) -> None:
        if event.resource_pre_event and not event.resource_pre_event.planning:
            self._say_step(event.resource_pre_event.metadata, "...")
        elif event.res_outputs_event and not event.res_outputs_event.planning:
            self._say_step(event.res_outputs_event.metadata, "done")
        else:
            self._note_error(event)

    def _note_error(self, event: EngineEvent) -> None:
        diagnostic = event.diagnostic_event
        if diagnostic and diagnostic.severity == "error":
            self._errors.append(diagnostic.message)

    def _say_step(self, metadata: Any, outcome: str) -> None:
        if metadata.op not in _QUIET and state_repair.is_cloud(metadata.type):
            kind, name = metadata.type.rpartition(":")[2], metadata.urn.rpartition("::")[2]
            self._started += outcome != "done"
            self._done += outcome == "done"
            self._say(
                f"{self._done} of {self._started} started resources are done: "
                f"{metadata.op.value} {kind} {name} {outcome}"
            )

    def _why(self, text: str) -> Explained:
        """Return the most specific of the engine's errors, else the first."""
        lines = [line for line in self._errors if line.strip() and "update failed" not in line]
        found = [explain(line, self.name) for line in lines] or [
            explain(_last_line(text), self.name)
        ]
        named = (each for each in found if each.failure is not Failure.PROVIDER_ERROR)
        return next(named, found[0])


def _change(metadata: Any) -> Change:
    new = metadata.new
    return Change(
        op=str(metadata.op.value),
        resource=Resource(
            urn=metadata.urn,
            type=metadata.type,
            inputs=new.inputs or {},
            parent=new.parent or "",
            provider=new.provider or "",
            custom=bool(new.custom),
            retained=bool(new.retain_on_delete),
        ),
        keys=tuple(metadata.diffs or ()),
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "error:" in line), lines[-1] if lines else "")
