"""Debian's packages that real nodes, the local registry and tests need, and how setup gets them.

A part counts as there when its file is there, whoever put it there: a containerd from elsewhere
is never replaced, and apt-get may not remove anything. Packages are installed only as root.
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
    """A Debian package and the file that shows that its part is there."""

    name: str
    provides: tuple[str, ...]
    """Any one of these will do: a name on PATH or an absolute path."""
    purpose: str
    service: str = ""
    """The service that the package starts and enables, which a rehearsal does not want."""

    def path(self) -> str:
        """Where its part is; empty if it is nowhere."""
        found = (shutil.which(file, path=_search_path()) for file in self.provides)
        return next((path for path in found if path), "")


PACKAGES: tuple[Package, ...] = (
    Package("containerd", ("containerd",), "runs the containers of a real node", "containerd"),
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
    Package("iproute2", ("ip",), "sets up the network of a real node"),
    Package("iptables", ("iptables",), "lets the pods of a real node reach the network"),
    Package(
        "chromium",
        ("chromium", "chromium-browser", "google-chrome"),
        "opens the report in its tests",
    ),
)


def missing() -> tuple[Package, ...]:
    """The packages whose part is not on this machine."""
    return tuple(package for package in PACKAGES if not package.path())


def install_command(packages: Iterable[Package]) -> str:
    """The command that a user runs to get these packages."""
    return "sudo apt-get install --no-install-recommends " + " ".join(p.name for p in packages)


def report() -> tuple[Part, ...]:
    """What there is of each package, for the doctor."""
    return tuple(
        Part(
            name=package.name,
            found=bool(path := package.path()),
            version=_installed_version(package.name) if path else "",
            origin=path,
            fix="" if path else install_command([package]),
        )
        for package in PACKAGES
    )


def install(packages: tuple[Package, ...], tell: Callable[[str], None]) -> None:
    """Installs the packages by apt-get, as root, and leaves none of their services running.

    A service is kept from starting by the run level where there is no systemd. systemd does not
    ask for one, so there the service is stopped and disabled right after. Services of packages
    that were there before are not touched.

    Args:
        packages: what is missing.
        tell: gets one line for each step.

    Raises:
        PackagesNotInstalled: apt-get failed; the message holds its last words.
    """
    names = [package.name for package in packages]
    tell(f"Debian packages: installing {', '.join(names)}")
    install_names(names)
    if Path("/run/systemd/system").is_dir():
        services = [package.service for package in packages if package.service]
        for service in services:
            subprocess.run(["systemctl", "disable", "--now", service], check=False)


def install_names(names: list[str]) -> None:
    """Installs packages by name, as root, with the package lists brought up to date first.

    Raises:
        PackagesNotInstalled: apt-get failed; the message holds its last words.
    """
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "--no-remove", *names]
    _run_apt(["apt-get", "update"])  # old lists may still do, so its outcome decides nothing
    if error := _run_apt(command):
        raise PackagesNotInstalled(
            f"apt-get could not install {', '.join(names)}, without which no real node "
            f"can be rehearsed: {error}",
            f"sudo apt-get update && sudo apt-get install {' '.join(names)}",
        )


def _run_apt(command: list[str]) -> str | None:
    """Runs apt-get without questions; the last line of its complaint, or None if it went well."""
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
    """The package's version as dpkg has it; empty if the part came from elsewhere."""
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
    """PATH, and the system folders that a user's PATH may lack."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
