"""Another git revision of this repository: the base of a comparison.

The working tree is not touched: the revision is unpacked into a separate folder.
"""

import subprocess
import tarfile
from collections.abc import Collection
from io import BytesIO
from pathlib import Path

from experiment.errors import PlanError, PreflightError
from schema.project_files import IS_CHECKOUT, PROJECT_DIR

_TIMEOUT_S = 60.0


def unpack(revision: str, folder: Path) -> Path:
    """Unpack the files of a revision into a folder; return the folder.

    Raises:
        PlanError: the revision does not exist, or git does not answer.
        PreflightError: git is missing, or this is not a checkout.
    """
    archived = _git("archive", "--format=tar", _commit(revision))
    with tarfile.open(fileobj=BytesIO(archived)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def deleted_stacks(against: str, stacks: Collection[str], *, root: Path = PROJECT_DIR) -> list[str]:
    """Return the stacks that only the revision has; one that is up must be destroyed first.

    Args:
        against: the revision.
        stacks: that exist now.
        root: the checkout.

    Raises:
        PlanError: the revision does not exist.
    """
    listed = _git("ls-tree", "--name-only", _commit(against, root), root=root).decode().split()
    files = {Path(name) for name in listed if name.startswith("Pulumi.")}
    names = {path.name[len("Pulumi.") : -len(".yaml")] for path in files if path.stem != "Pulumi"}
    return sorted(names.difference(stacks))


def _commit(revision: str, root: Path = PROJECT_DIR) -> str:
    try:
        found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", root=root)
    except subprocess.CalledProcessError as error:
        raise PlanError(
            f"There is no revision {revision!r} in {root}.",
            "git fetch origin, then for example --against origin/main",
        ) from error
    return found.decode().strip()


def _git(*arguments: str, root: Path = PROJECT_DIR) -> bytes:
    if not IS_CHECKOUT:
        raise PreflightError(
            "--against compares with another revision of a checkout, and this program is installed "
            "without one.",
            "leave --against out, or run it in a checkout",
        )
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise PreflightError(
            "git is not on PATH, and --against needs it.",
            "install git, or leave --against out",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PlanError(
            f"git did not answer in {root} within {_TIMEOUT_S:.0f} s.", f"git -C {root} status"
        ) from error
    return done.stdout
