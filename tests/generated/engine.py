"""A fake of Pulumi's engine under the Automation API: the part of automation.Stack that is used.

It makes the calls of the real program's resources through the rehearsal's providers, which are held
to the official ones, and keeps a state as the real engine does: an operation is pending from its
start to its end, also when it fails; what a killed engine was doing stays pending, and its lock
stays. tests/live/stack/test_fake_engine.py compares it with a real engine.

Resources whose needs are met are made at once, as the engine's workers do: all of them are pending
when the first of them makes its calls.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from pulumi import automation

from rehearsal.google.state import copied
from rehearsal.pulumi.providers.protocol import ProviderError
from tests.generated.backend import Backend, Cli, Json, OnEvent, Pulumi, is_cloud
from tests.generated.google import Killed
from tests.generated.program import Program, filled, program_of
from tests.generated.steps import Destroy, Update, resource_of


class FakeStack:
    """One stack as automation.create_or_select_stack returns it."""

    def __init__(self, pulumi: Pulumi, name: str, work_dir: Path) -> None:
        self._pulumi = pulumi
        self._backend = pulumi.backend
        self._name = name
        self._work_dir = work_dir

    def export_stack(self) -> automation.Deployment:
        self._alive()
        state: Json = {"manifest": {}, "resources": self._backend.resources}
        if self._backend.pending:
            state["pending_operations"] = self._backend.pending
        return automation.Deployment(version=3, deployment=copied(state))

    def import_stack(self, state: automation.Deployment) -> None:
        self._alive()
        with self._pulumi.cli():
            deployment = copied(state.deployment or {})
            self._backend.resources = list(deployment.get("resources", []))
            self._backend.pending = list(deployment.get("pending_operations", []))

    def outputs(self) -> dict[str, Any]:
        self._alive()
        values = self._backend.exports.items()
        return {key: automation.OutputValue(value, secret=False) for key, value in values}

    def cancel(self) -> None:
        self._alive()
        self._backend.holder = 0

    def preview(self, on_event: OnEvent) -> None:
        self._alive()
        with self._pulumi.cli(locks=False) as cli:
            Update(self._pulumi, cli, self._program(), on_event, dry=True).run()

    def up(self, on_event: OnEvent) -> Any:
        self._alive()
        with self._pulumi.cli() as cli:
            program = self._program()
            update = Update(self._pulumi, cli, program, on_event)
            update.run()
            if cli.begins:
                exports = filled(program.exports, update.outputs)

                def export(backend: Backend) -> None:
                    backend.exports = exports

                self._pulumi.save(cli, export)
        return SimpleNamespace(outputs=self.outputs())

    def refresh(self, on_event: OnEvent) -> None:
        self._alive()
        with self._pulumi.cli() as cli:
            refreshed: list[Json] = []
            for entry in self._backend.resources:
                found = self._read(cli, entry, on_event)
                if found is not None:
                    refreshed.append(found)
            if cli.begins:
                kept = {entry["urn"] for entry in refreshed}
                for entry in refreshed:
                    wanted = entry.get("dependencies") or []
                    entry["dependencies"] = [urn for urn in wanted if urn in kept]

                def replace(backend: Backend) -> None:
                    backend.resources = refreshed

                self._pulumi.save(cli, replace)

    def _read(self, cli: Cli, entry: Json, on_event: OnEvent) -> Json | None:
        if not is_cloud(entry["type"]) or not cli.begins:
            return dict(copied(entry))
        try:
            cli.reach()
            found = self._pulumi.session(entry["type"]).read(
                resource_of(entry), entry["id"], entry["inputs"]
            )
        except ProviderError as error:
            cli.fail(error, on_event)
            return dict(copied(entry))
        if found is None:
            return None
        return {**copied(entry), "inputs": found.inputs, "outputs": found.outputs}

    def destroy(self, on_event: OnEvent) -> None:
        self._alive()
        with self._pulumi.cli() as cli:
            Destroy(self._pulumi, cli, on_event).run()

    def _program(self) -> Program:
        path = self._work_dir / f"Pulumi.{self._name}.yaml"
        values = _config(path.read_text("utf-8"))
        return program_of(self._name, values, self._backend.exports, self._pulumi.google.clock.date)

    def _alive(self) -> None:
        if self._pulumi.google.dead():
            raise Killed


_CONFIGS: dict[str, dict[str, str]] = {}


def _config(text: str) -> dict[str, str]:
    """The program's values in a stack's file."""
    if text not in _CONFIGS:
        config = (yaml.safe_load(text) or {}).get("config") or {}
        _CONFIGS[text] = {
            key.removeprefix("pull-study:"): value if isinstance(value, str) else json.dumps(value)
            for key, value in config.items()
            if key.startswith("pull-study:")
        }
    return _CONFIGS[text]
