"""The programs that a rehearsal runs: their pins and where they are on this machine.

The go.mod of each folder here holds the version; everything else asks this module. A program of a
suitable version on PATH is preferred, for example an official Pulumi with its language host beside
it; otherwise the one that setup built into the cache is used. Standard library only, since setup
runs before the environment exists. Building is in tools.build.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schema.errors import ExitCode, UserError
from schema.project_files import SETUP
from tools.part import Part

MODULES = Path(__file__).resolve().parent
"""The folder that holds one pinned Go module a program, or a family of programs."""


class MissingProgram(UserError):
    """A program is neither on PATH in a suitable version nor in the cache."""

    exit_code = ExitCode.PREFLIGHT


@dataclass(frozen=True)
class Program:
    """How one program is built, and which versions are suitable."""

    name: str
    folder: str
    """Of its go.mod and go.sum, beside this file."""
    module: str
    """The Go module that the version is of."""
    package: str
    """The Go package of its main function."""
    defines: tuple[str, ...] = ()
    """Linker's -X definitions; {version}, {major} and {minor} stand for the parts of the pin."""
    version_arguments: tuple[str, ...] = ()
    """Arguments that print its version; empty if it cannot, so only the built one is trusted."""
    exact_parts: int = 3
    """How many leading parts of a version on PATH must equal the pin: 3 all, 2 the minor."""
    tests_only: bool = False
    """Built by `make test`, not by `make setup`."""

    @property
    def version(self) -> str:
        """The pinned version, without a leading v."""
        return _required_version(self.folder, self.module)

    @property
    def linker_flags(self) -> str:
        """For go build's -ldflags: no symbol tables, and the version where upstream puts it."""
        major, minor, _ = self.version.split(".", 2)
        parts = {"version": self.version, "major": major, "minor": minor}
        definitions = (f"-X {define.format(**parts)}" for define in self.defines)
        return " ".join(["-s", "-w", *definitions])

    def accepts(self, version: str) -> bool:
        """Whether a program of this version on PATH can replace the pinned one."""
        pin, other = self.version.split("."), version.split(".")
        return pin[: self.exact_parts] == other[: self.exact_parts]


def _kubernetes(name: str, *version_arguments: str, tests_only: bool = False) -> Program:
    version_package = "k8s.io/component-base/version"
    return Program(
        name=name,
        folder="kubernetes",
        module="k8s.io/kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        defines=(
            f"{version_package}.gitVersion=v{{version}}",
            f"{version_package}.gitMajor={{major}}",
            f"{version_package}.gitMinor={{minor}}",
        ),
        version_arguments=version_arguments or ("--version",),
        exact_parts=2,
        tests_only=tests_only,
    )


def _kwok(name: str) -> Program:
    return Program(
        name=name,
        folder="kwok",
        module="sigs.k8s.io/kwok",
        package=f"sigs.k8s.io/kwok/cmd/{name}",
        version_arguments=("--version",),
    )


def _containerd(name: str, *version_arguments: str) -> Program:
    module = "github.com/containerd/containerd/v2"
    return Program(
        name=name,
        folder="containerd",
        module=module,
        package=f"{module}/cmd/{name}",
        defines=(f"{module}/version.Version={{version}}",),
        version_arguments=version_arguments,
    )


PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubelet"),
        _kubernetes("kubectl", "version", "--client", tests_only=True),
        Program(
            name="pulumi",
            folder="pulumi",
            module="github.com/pulumi/pulumi/pkg/v3",
            package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
            defines=("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{version}",),
            version_arguments=("version",),
        ),
        _containerd("containerd", "--version"),
        _containerd("containerd-shim-runc-v2", "-v"),
        _containerd("ctr", "--version"),
        Program(
            name="kubernetes-event-exporter",
            folder="kubernetes-event-exporter",
            module="github.com/resmoio/kubernetes-event-exporter",
            package="github.com/resmoio/kubernetes-event-exporter",
            defines=(
                "github.com/resmoio/kubernetes-event-exporter/pkg/version.Version=v{version}",
            ),
        ),
        _kwok("kwok"),
        _kwok("kwokctl"),
        Program(
            name="actionlint",
            folder="actionlint",
            module="github.com/rhysd/actionlint",
            package="github.com/rhysd/actionlint/cmd/actionlint",
            defines=("github.com/rhysd/actionlint.version={version}",),
            version_arguments=("-version",),
            tests_only=True,
        ),
        Program(
            name="etcd",
            folder="etcd",
            module="go.etcd.io/etcd/server/v3",
            package="go.etcd.io/etcd/server/v3",
            version_arguments=("--version",),
            exact_parts=2,
        ),
    )
}
"""By name; in the order in which they are built, the longest first."""


@dataclass(frozen=True)
class Located:
    """A program that can be run."""

    name: str
    path: Path
    version: str
    origin: Literal["PATH", "cache"]


def locate(name: str) -> Located:
    """Find a program of a suitable version on PATH, else in the cache.

    Raises:
        MissingProgram: neither has it; the message names what was found and is not suitable.
    """
    program = PROGRAMS[name]
    refused: list[str] = []
    for path in _on_path(name):
        version = _printed_version(path, program.version_arguments)
        if version and program.accepts(version):
            return Located(name, path, version, "PATH")
        refused.append(f"{path} is {version or 'of unknown version'}")
    built = cached_path(program)
    if os.access(built, os.X_OK):
        return Located(name, built, program.version, "cache")
    detail = f" ({'; '.join(refused)})" if refused else ""
    raise MissingProgram(
        f"{name} {program.version} is not on this machine{detail}, and "
        f"{'tests need' if program.tests_only else 'rehearsals need'} it.",
        "make test" if program.tests_only else SETUP,
    )


def report() -> tuple[Part, ...]:
    """Return what the doctor shows: each program that a rehearsal needs."""
    parts = []
    for name in (each.name for each in PROGRAMS.values() if not each.tests_only):
        try:
            located = locate(name)
        except MissingProgram as missing:
            parts.append(Part(name, found=False, version="", origin="", fix=missing.fix))
        else:
            parts.append(
                Part(name, found=True, version=located.version, origin=str(located.path), fix="")
            )
    return tuple(parts)


def cache_root() -> Path:
    """Return where setup keeps what it builds: $XDG_CACHE_HOME or ~/.cache, then pull-study."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "pull-study"


def cached_path(program: Program) -> Path:
    """Return where setup puts the built program; another pin or recipe has another path."""
    recipe = hashlib.sha256(
        b"\0".join(
            [
                (MODULES / program.folder / "go.mod").read_bytes(),
                (MODULES / program.folder / "go.sum").read_bytes(),
                program.package.encode(),
                program.linker_flags.encode(),
            ]
        )
    ).hexdigest()[:12]
    return cache_root() / "programs" / f"{program.name}-{program.version}-{recipe}" / program.name


@functools.cache
def _required_version(folder: str, module: str) -> str:
    text = (MODULES / folder / "go.mod").read_text(encoding="utf-8")
    match = re.search(rf"^\s*(?:require\s+)?{re.escape(module)} v(\S+)", text, re.MULTILINE)
    if match is None:
        msg = f"tools/{folder}/go.mod does not require {module}"
        raise LookupError(msg)
    return match[1]


def _on_path(name: str) -> list[Path]:
    """Return every executable of that name on PATH, in order, without those of our own cache."""
    folders = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    candidates = (folder / name for folder in folders)
    return [
        path
        for path in dict.fromkeys(candidates)
        if path.is_file()
        and os.access(path, os.X_OK)
        and not path.resolve().is_relative_to(cache_root().resolve())
    ]


def _printed_version(path: Path, arguments: tuple[str, ...]) -> str:
    """Return the first x.y.z that the program prints; empty if there is none."""
    if not arguments:
        return ""
    try:
        done = subprocess.run(
            [str(path), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"\bv?(\d+\.\d+\.\d+)\b", done.stdout + done.stderr)
    return match[1] if done.returncode == 0 and match else ""
