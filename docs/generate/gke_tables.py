"""The tables of docs/running-on-gke.md that are facts of the code."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from docs.generate.markdown import filled, table
from infra.config import parse_settings
from infra.needs import stack_needs
from infra.program import cluster_usd_per_hour
from infra.settings import NAMESPACE, Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "running-on-gke.md"
_RUN1_S = {4: 1384, 8: 1393, 16: 1408, 32: 1427, 64: 1535, 128: 1941, 256: 2884}
"""Measured seconds of run1 by cluster size, from the original study's README."""
_UP_AND_DOWN_S = 12 * 60


def settings_of(stack: str) -> Settings:
    """Return a committed stack's settings."""
    config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    values = {
        key.removeprefix(f"{NAMESPACE}:"): value if isinstance(value, str) else json.dumps(value)
        for key, value in config.items()
    }
    return parse_settings(values, stack=stack, project="a-project", now=datetime.now(UTC))


def tables() -> dict[str, str]:
    """Return Markdown by marker."""
    return {"stacks": _stacks(), "quotas": _quotas(), "settings": _settings()}


def updated(page: str) -> str:
    """Return the page with its tables as the code says."""
    return filled(page, tables())


def _stacks() -> str:
    return table(
        ("stack", "nodes", "machine type", "USD an hour", "run1 takes", "run1 costs, USD"),
        (_stack_row(stack, settings_of(stack)) for stack in _by_size()),
    )


_METRICS = (
    "CPUS",
    "CPUS_ALL_REGIONS",
    "SSD_TOTAL_GB",
    "LOCAL_SSD_TOTAL_GB",
    "IN_USE_ADDRESSES",
)


def _stack_row(stack: str, settings: Settings) -> tuple[str, ...]:
    price, nodes = cluster_usd_per_hour(settings), settings.node_count
    row = (f"`{stack}`", str(nodes), settings.machine_type, f"{price:.2f}")
    if stack != f"size-{nodes}" or nodes not in _RUN1_S:
        return (*row, "", "")
    seconds = _RUN1_S[nodes] + _UP_AND_DOWN_S
    return (*row, f"{seconds / 60:.0f} min", f"{price * seconds / 3600:.2f}")


def _quotas() -> str:
    return table(
        ("stack", *(f"`{metric}`" for metric in _METRICS)),
        (_quota_row(stack, settings_of(stack)) for stack in _by_size()),
    )


def _quota_row(stack: str, settings: Settings) -> tuple[str, ...]:
    needs = stack_needs(settings).quotas
    return (f"`{stack}`", *(str(needs.get(metric, 0)) for metric in _METRICS))


def _settings() -> str:
    rows = []
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    declared: dict[str, Any] = project["config"]
    for name, schema in declared.items():
        key = name.removeprefix(f"{NAMESPACE}:")
        default = schema.get("default")
        shown = "" if default in ("", None, {}) else f"`{json.dumps(default)}`"
        if isinstance(default, str) and default:
            shown = f"`{default}`"
        rows.append((f"`{key}`", schema["type"], shown, schema["description"]))
    return table(("key", "type", "default", "what it is"), rows)


def _by_size() -> list[str]:
    stacks = (path.name.split(".")[1] for path in ROOT.glob("Pulumi.*.yaml"))
    return sorted(stacks, key=lambda stack: (settings_of(stack).node_count, stack))
