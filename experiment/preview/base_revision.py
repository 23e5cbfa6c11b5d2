"""Another revision of this repository, as git has it: the base of a comparison.

Nothing is checked out: a revision is unpacked into a folder of its own.
"""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from experiment.errors import PlanError, PreflightError
from experiment.provision.stack_files import PROJECT_DIR, stack_names


def unpack(revision: str, root: Path, folder: Path) -> Path:
    """Put the files of a revision into a folder; returns the folder.

    Raises:
        PlanError: the revision does not exist.
        PreflightError: git is missing.
    """
    archived = _git(root, "archive", "--format=tar", _commit(revision, root))
    with tarfile.open(fileobj=BytesIO(archived)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def deleted_stacks(against: str, *, root: Path = PROJECT_DIR) -> list[str]:
    """Return the stacks that only the revision has; one that is up must be destroyed first.

    Raises:
        PlanError: the revision does not exist.
    """
    listed = _git(root, "ls-tree", "--name-only", _commit(against, root)).decode().split()
    files = {Path(name) for name in listed if name.startswith("Pulumi.")}
    names = {path.name[len("Pulumi.") : -len(".yaml")] for path in files if path.stem != "Pulumi"}
    return sorted(names - set(stack_names(root)))


def _commit(revision: str, root: Path) -> str:
    try:
        found = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise PlanError(
            f"There is no revision {revision!r} to compare with in {root}.",
            "git fetch origin, then for example --against origin/main",
        ) from None
    return found.decode().strip()


def _git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, check=True, timeout=60
        )
    except FileNotFoundError:
        raise PreflightError(
            "git is not on PATH, and the base of a comparison is one of its revisions.",
            "install git, or leave --against out",
        ) from None
    return done.stdout
