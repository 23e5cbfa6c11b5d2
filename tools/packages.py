"""The Debian packages that real nodes, the local registry and tests need.

A part is present when its file is, whoever installed it: a runc from elsewhere is never
replaced, and apt-get may not remove anything. Packages are installed only as root.
Standard library only, since setup runs before the environment exists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from schema.errors import UserError
from tools.part import Part


class PackagesNotInstalled(UserError):
    """apt-get failed."""


@dataclass(frozen=True)
class Package:
    """A Debian package and the files that show that its part is present."""

    name: str
    provides: tuple[str, ...]
    """Any one of these: a name on PATH or an absolute path."""
    purpose: str
    service: str = ""
    """The service that the package starts and enables, and that setup stops."""
    tests_only: bool = False

    def path(self) -> str:
        """Return where its part is; empty if it is missing."""
        found = (shutil.which(file, path=_search_path()) for file in self.provides)
        return next((path for path in found if path), "")


PACKAGES: tuple[Package, ...] = (
    Package("runc", ("runc",), "starts the containers of a real node"),
    Package(
        "containernetworking-plugins",
        ("/usr/lib/cni/ptp", "/opt/cni/bin/ptp"),
        "gives the pods of a real node a network",
    ),
    Package(
        "docker-registry", ("docker-registry",), "serves the images locally", "docker-registry"
    ),
    Package("skopeo", ("skopeo",), "copies images between registries"),
    Package("busybox-static", ("/bin/busybox",), "is the content of the small images"),
    Package("bash-static", ("/bin/bash-static",), "starts the containers of MiniClusters"),
    Package("iproute2", ("ip",), "sets up the network of a real node"),
    Package("iptables", ("iptables",), "lets the pods of a real node reach the network"),
    Package(
        "chromium",
        ("chromium", "chromium-browser", "google-chrome"),
        "opens the report in its tests",
        tests_only=True,
    ),
)


def missing(*, tests: bool = True) -> tuple[Package, ...]:
    """Return the packages whose part is not on this machine.

    Args:
        tests: include those that only tests need.
    """
    needed = (package for package in PACKAGES if tests or not package.tests_only)
    return tuple(package for package in needed if not package.path())


def install_command(packages: Iterable[Package]) -> str:
    """Return the command that installs these packages."""
    return "sudo apt-get install --no-install-recommends " + " ".join(p.name for p in packages)


def report() -> tuple[Part, ...]:
    """Return what the doctor shows: each package that a rehearsal needs."""
    return tuple(
        Part(
            name=package.name,
            found=bool(path := package.path()),
            version=_installed_version(package.name) if path else "",
            origin=path,
            fix="" if path else install_command([package]),
        )
        for package in PACKAGES
        if not package.tests_only
    )


def install(packages: tuple[Package, ...], say: Callable[[str], None]) -> None:
    """Install the packages by apt-get, as root, and leave none of their services running.

    Without systemd the run level keeps a service from starting; with systemd it is stopped and
    disabled right after. Services of packages that were installed before are not touched.

    Args:
        packages: what is missing.
        say: gets one line for each step.

    Raises:
        PackagesNotInstalled: apt-get failed; the message holds its last line.
    """
    names = [package.name for package in packages]
    say(f"Debian packages: installing {', '.join(names)}")
    install_names(names)
    if Path("/run/systemd/system").is_dir():
        services = [package.service for package in packages if package.service]
        for service in services:
            subprocess.run(["systemctl", "disable", "--now", service], check=False)


def install_names(names: list[str]) -> None:
    """Install packages by name, as root, after an update of the package lists.

    Raises:
        PackagesNotInstalled: apt-get failed; the message holds its last line.
    """
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "--no-remove", *names]
    _run_apt(["apt-get", "update"])  # the old lists may be enough, so a failure is ignored
    if error := _run_apt(command):
        raise PackagesNotInstalled(
            f"apt-get could not install {', '.join(names)}, which real nodes need: {error}",
            f"sudo apt-get update && sudo apt-get install {' '.join(names)}",
        )


def _run_apt(command: list[str]) -> str | None:
    """Run apt-get without questions; return the last line of its error, or None."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return None
    lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
    return lines[-1]


def _installed_version(name: str) -> str:
    """Return the version that dpkg has; empty if the part came from elsewhere."""
    if shutil.which("dpkg-query") is None:
        return ""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name],
        capture_output=True,
        text=True,
        check=False,
    )
    status, _, version = done.stdout.partition(" ")
    return version if status == "installed" else ""


def _search_path() -> str:
    """Return PATH with the system folders that a user's PATH may lack."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
