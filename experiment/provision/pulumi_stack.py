"""One stack's life through Pulumi's Automation API: the only module that knows it.

It works on the copies of experiment.provision.stack_files. It never sets configuration: that is the
user's, by `pulumi config set`. What Google itself says is asked in
experiment.provision.stack_cluster.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi import automation
from pulumi.automation.events import EngineEvent, OpType
from pydantic import ValidationError

from experiment.errors import Failure, PreflightError, ProvisionError, TeardownError
from experiment.provision import state_repair
from experiment.provision.provider_messages import Explained, explain, is_conflict
from experiment.provision.pulumi_process import ApartCommand, lock_holders, mend_state_files
from experiment.provision.state_repair import Adoption, Deployment, Resource
from infra.program import declare
from schema.stack_outputs import StackOutputs

_PROJECT_NAME = "pull-study"
_QUIET = {OpType.SAME, OpType.READ, OpType.REFRESH}
_ROUNDS = 3
"""An adopted account makes its grants known, an adopted cluster its pools: two rounds, one more."""

# An engine that has failed hangs up on its program, of which grpc would print a traceback.
logging.getLogger("grpc._server").setLevel(logging.CRITICAL)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Change:
    """What an `up` would do to one resource.

    Attributes:
        op: create, update, replace, delete and the like.
        resource: it, as wanted.
        keys: top-level properties that differ.
    """

    op: str
    resource: Resource
    keys: tuple[str, ...]


class StudyStack:
    """A stack on a work_dir that `copy_stack_files` filled.

    Args:
        name: such as size-64.
        work_dir: holds the copies.
        project: Google Cloud project id.
        say: told what happens, a line each.

    Raises:
        PreflightError: the Pulumi CLI or its backend cannot be used.
    """

    def __init__(self, name: str, work_dir: Path, project: str, say: Say) -> None:
        self.name = name
        self._project = project
        self._say = say
        self._errors: list[str] = []
        self._begun = self._done = 0
        """Resources of the operation under way."""
        self._options = automation.LocalWorkspaceOptions(work_dir=str(work_dir))
        try:
            self._options.pulumi_command = ApartCommand(self._tell_to_wait)
            self._stack = self._opened()
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

    def _opened(self) -> automation.Stack:
        """Select the stack, or make it; once more where a killed CLI left its state unreadable."""
        try:
            return self._select()
        except automation.CommandError:
            options = self._options
            workspace = automation.LocalWorkspace(
                work_dir=options.work_dir, pulumi_command=options.pulumi_command
            )
            if not mend_state_files(workspace.who_am_i().url or ""):
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
        """Mend what a killed engine left: its lock, and operations that it had begun.

        Each pending creation is put into the state under the id that it must have, and a refresh
        keeps it if it exists: `pulumi cancel` and `destroy` alone would leave a cluster that nobody
        knows of.

        Returns:
            Whether there was anything to mend.

        Raises:
            PreflightError: the stack is locked by someone who lives, or the state cannot be used.
            ProvisionError: the cloud could not be read.
        """
        deployment = self._export()
        pending = deployment.get("pending_operations") or []
        if not pending:
            return False
        self._say(f"an earlier command was killed while {len(pending)} operations were under way")
        self._take_in(
            state_repair.adopt(deployment, state_repair.pending_creates(deployment), self._project)
        )
        return True

    def adopt(self) -> list[str]:
        """Put into the state what the program wants, the cloud has and the state does not know.

        A killed provider leaves such things without a trace in the state.

        Returns:
            Names of what was found.

        Raises:
            PreflightError: something of a name of ours is not ours, or the state cannot be used.
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
            tried |= adoption.wanted.keys()
            if not adoption.wanted:
                break
            adopted += self._take_in(adoption)
        for urn in adopted:
            self._say(f"found {urn.rpartition('::')[2]} in the cloud, unknown to the state")
        return adopted

    def _take_in(self, adoption: Adoption) -> list[str]:
        """Import a state and refresh it; URNs of what was put in and exists."""
        self._import(adoption.deployment)
        self._run("refreshed", self._stack.refresh)
        deployment = self._export()
        there = state_repair.found(deployment, adoption.wanted)
        if foreign := state_repair.strangers(deployment, adoption.wanted):
            urns = {entry["urn"] for entry in deployment["resources"] if entry["id"] in foreign}
            self._import(state_repair.without(deployment, urns))
            raise PreflightError(
                f"{' and '.join(foreign)} has a name that the stack {self.name} needs, but is not "
                "of this program, so it was left alone.",
                "remove or rename it, or use another project",
            )
        return there

    def knows_cluster(self) -> bool:
        """Whether the state holds the cluster."""
        return state_repair.entry_of(self._export(), state_repair.CLUSTER) is not None

    def is_up(self) -> bool:
        """Whether the state holds anything in Google Cloud or in the cluster."""
        resources = self._export().get("resources") or []
        return any(state_repair.is_cloud(entry["type"]) for entry in resources)

    def outputs(self) -> StackOutputs | None:
        """The exports of the last update; None if they are not all there."""
        try:
            values = {name: output.value for name, output in self._stack.outputs().items()}
            return StackOutputs.model_validate(values)
        except ValidationError:
            return None
        except automation.CommandError as error:
            raise self._unreadable(error) from None

    def changes(self) -> list[Change]:
        """What `up` would do; what stays as it is is left out.

        Raises:
            ProvisionError: the program or a provider refuses.
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
            ) from None

    @property
    def met_conflict(self) -> bool:
        """The last operation failed since something of the same name exists."""
        return any(map(is_conflict, self._errors))

    def destroy(self) -> None:
        """Take the cluster down; the archive bucket stays.

        Raises:
            TeardownError: something may be left.
        """
        try:
            self._run("taken down", self._stack.destroy)
        except ProvisionError as error:
            raise TeardownError(
                f"{error.problem.rstrip('.')}; its cluster costs money while it exists.",
                error.fix,
            ) from None

    def _tell_to_wait(self) -> None:
        self._say("waiting for what is under way, so that nothing is left that nobody knows of")

    def _run(self, done: str, operation: Callable[..., Any]) -> Any:
        """Run an operation of the engine, after taking away a dead process's lock."""
        self._errors.clear()
        self._begun = self._done = 0
        try:
            return self._guarded(lambda: operation(on_event=self._on_event))
        except automation.CommandError as error:
            why = self._why(str(error))
            raise ProvisionError(
                f"The stack {self.name} was not {done}: {why.why}.", why.fix, failure=why.failure
            ) from None

    def _export(self) -> Deployment:
        try:
            return dict(self._stack.export_stack().deployment or {})
        except automation.CommandError as error:
            raise self._unreadable(error) from None

    def _import(self, deployment: Deployment) -> None:
        state = automation.Deployment(version=3, deployment=deployment)
        try:
            self._guarded(lambda: self._stack.import_stack(state))
        except automation.CommandError as error:
            raise PreflightError(
                f"The state of stack {self.name} cannot be written: {_last_line(str(error))}.",
                f"pulumi stack export --stack {self.name}",
                failure=Failure.PROVIDER_ERROR,
            ) from None

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
        """Take away the lock of a dead process of this machine, and of no other."""
        holders = lock_holders(message)
        for holder in holders:
            if holder.may_live:
                raise PreflightError(
                    f"The stack {self.name} is in use by process {holder.pid} on {holder.host}, "
                    "and two at once would break its state.",
                    f"wait for it, or if it is gone: pulumi cancel --stack {self.name}",
                )
        if not holders:
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
        else:
            self._note_error(event)

    def _note_error(self, event: EngineEvent) -> None:
        diagnostic = event.diagnostic_event
        if diagnostic and diagnostic.severity == "error":
            self._errors.append(diagnostic.message)

    def _say_step(self, metadata: Any, outcome: str) -> None:
        if metadata.op not in _QUIET and state_repair.is_cloud(metadata.type):
            kind, name = metadata.type.rpartition(":")[2], metadata.urn.rpartition("::")[2]
            self._begun += outcome != "done"
            self._done += outcome == "done"
            self._say(
                f"{self._done} of {self._begun} resources begun are done: "
                f"{metadata.op.value} {kind} {name} {outcome}"
            )

    def _why(self, said: str) -> Explained:
        """The most telling of the engine's errors: one with a name of its own, else the first."""
        told = [line for line in self._errors if line.strip() and "update failed" not in line]
        found = [explain(line, self.name) for line in told] or [
            explain(_last_line(said), self.name)
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
