"""Tells what of a rehearsal's parts is on this machine, and how to get the rest."""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rehearsal.machine import requirements
from rehearsal.machine.home import Home
from rehearsal.machine.programs import PROVIDERS, official_plugin
from tools import packages, programs
from tools.part import Part


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's table."""

    name: str
    state: str
    """`ok`, `missing` (a rehearsal needs it) or `note`."""
    detail: str
    fix: str = ""


def examine(home: Home) -> list[Finding]:
    """All findings, programs first."""
    parts = [*programs.report(), *packages.report()]
    plugins = [_plugin(name, package) for name, package in PROVIDERS.items()]
    return [*(_part(part) for part in parts), *plugins, *_machine(home)]


def is_ready(findings: list[Finding]) -> bool:
    """Whether nothing that a rehearsal needs is missing."""
    return all(finding.state != "missing" for finding in findings)


def _part(part: Part) -> Finding:
    detail = " ".join(word for word in (part.version, part.origin) if word)
    return Finding(part.name, "ok" if part.found else "missing", detail, part.fix)


def _plugin(name: str, package: str) -> Finding:
    """A stand-in does for an official plugin, so none is missing."""
    folder = official_plugin(name)
    title = f"Pulumi's {name} provider"
    if folder:
        return Finding(title, "ok", f"{version(package)} official plugin {folder}")
    return Finding(title, "ok", f"{version(package)} stand-in, no official plugin installed")


def _machine(home: Home) -> list[Finding]:
    hindering = requirements.obstacles(home.folder)
    if hindering:
        nodes = [Finding("real nodes", "missing", each.problem, each.fix) for each in hindering]
    else:
        free = f"{requirements.free_bytes(home.folder) / 1e9:.0f} GB free"
        kind = requirements.file_system(home.folder)
        detail = f"up to {requirements.LARGEST_FLEET}, in {home.folder} ({kind}, {free})"
        nodes = [Finding("real nodes", "ok", detail)]
    storage = programs.cache_root() / "registry"
    images = f"{_size(storage) / 1e9:.2f} GB in {storage}, removed by hand"
    return [
        *nodes,
        Finding("kernel", "note", f"{platform.system()} {platform.release()}"),
        Finding("control groups", "note", requirements.control_group_version()),
        Finding("images made", "note", images),
    ]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
