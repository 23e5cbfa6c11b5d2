"""A study: which images to pull, how often and in which order.

Reads our YAML and the original study's JSON: `{"uri": ..., "tags": [...]}`, and of its applications
`{nodes: [{"image": ...}]}`, whose images it takes, without the commands. It resolves nothing:
digests and sizes come from the registry when a run is planned.
"""

import json
import re
from collections import Counter
from enum import Enum, StrEnum
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from schema.errors import UserError, shortened
from schema.project_files import STUDIES, project_files

_LIST = "pull-study files"
_LARGEST_BYTES = 1_000_000
"""Of a study file; the original study's largest has 30 kB."""

_REPOSITORY = r"[a-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_IMAGE = rf"^{_REPOSITORY}:{_TAG}$"
Repository = Annotated[str, StringConstraints(pattern=rf"^{_REPOSITORY}$", max_length=255)]
Tag = Annotated[str, StringConstraints(pattern=rf"^{_TAG}$")]


class StudyError(UserError):
    """A study file is missing or malformed."""


class Order(StrEnum):
    """The order of the images."""

    SHUFFLED = "shuffled"
    """By a seed that the run records: size is not confounded with time."""
    ASCENDING = "ascending"
    """Small images first, as in the original study."""
    DESCENDING = "descending"
    """Large images first."""


class RepeatBy(StrEnum):
    """How an image is made cold for its next repetition."""

    REMOVAL = "removal"
    """It is removed from every node, and its absence proved."""
    COPIES = "copies"
    """Another image takes its turn, equal but with different layers: `...-bytes-r2`."""


class Workload(StrEnum):
    """What runs an image once on every node."""

    JOB = "job"
    """An Indexed Job of Kubernetes."""
    MINICLUSTER = "minicluster"
    """A MiniCluster of the Flux Operator: each pod first copies Flux from an image of its own."""


class Share(float, Enum):
    """A share of an image's bytes that can be read; each has a column of its own."""

    TENTH = 0.1
    HALF = 0.5
    ALL = 1.0

    @property
    def percent(self) -> int:
        """Per cent."""
        return round(self * 100)


class Contrast(StrEnum):
    """What a study varies to answer a question; everything else is held."""

    SIZE = "size"
    LAYERS = "layers"
    REGISTRY = "registry"
    CACHE = "cache"
    """A remote repository has the image, or fetches it first."""
    COMPRESSION = "compression"
    FILES = "files"
    UPGRADE = "upgrade"
    """Layers of an earlier version are on the node by intent."""
    CLUSTER_SIZE = "cluster-size"
    MACHINE = "machine"
    DISK = "disk"
    STREAMING = "streaming"
    PRELOADED = "preloaded"
    """Images are on a secondary boot disk by intent: the time until a container starts."""
    UNPACK = "unpack"
    """Layers of an image are unpacked one after another, or several at once."""
    ZONE = "zone"
    WORKLOAD = "workload"
    """Jobs and MiniClusters, on clusters of one kind."""


class ImageSet(BaseModel):
    """Images of one repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: Repository
    """Registry and path without tag, for example `ghcr.io/converged-computing/container-chonks`."""
    tags: tuple[Tag, ...] = Field(min_length=1)


class Study(BaseModel):
    """What to run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
    description: str = ""
    images: tuple[ImageSet, ...] = Field(min_length=1)
    contrasts: tuple[Contrast, ...] = ()
    """What the study varies: its report has a card for each."""
    order: Order = Order.SHUFFLED
    repetitions: int = Field(default=1, ge=1, le=100)
    repeat_by: RepeatBy = RepeatBy.REMOVAL
    command: tuple[str, ...] = Field(default=("sleep", "1"), min_length=1)
    """What each pod runs; the original study's pods slept for a second."""
    read: tuple[Share, ...] = ()
    """Shares of its image's bytes that each pod reads before its command, ascending. The image must
    have a shell. After a plain pull most bytes are in memory; streamed ones come over the network.
    """
    workload: Workload = Workload.JOB
    flux_view: Annotated[str, StringConstraints(pattern=_IMAGE)] | None = None
    """Image of Flux as `repository:tag`, which each node of a MiniCluster starts first."""
    roofs: bool = False
    """Whether each node first measures how fast it writes, unpacks and receives alone: half a
    minute, by pods with all rights on their nodes. Shows what limits a pull."""

    @model_validator(mode="after")
    def _no_image_twice(self) -> "Study":
        twice = sorted(name for name, count in Counter(self.references()).items() if count > 1)
        if twice:
            raise ValueError(
                f"image {twice[0]} is listed twice; its second pull would find the first one's "
                "layers (for more pulls of an image set repetitions)"
            )
        return self

    @model_validator(mode="after")
    def _shares_ascend(self) -> "Study":
        if list(self.read) != sorted(set(self.read)):
            raise ValueError("read lists shares in ascending order, each once: [0.1, 0.5, 1.0]")
        if self.read and self.workload is not Workload.JOB:
            raise ValueError(f"pods of the workload {self.workload} read nothing; leave read out")
        return self

    @model_validator(mode="after")
    def _a_minicluster_has_a_view(self) -> "Study":
        if self.workload is Workload.MINICLUSTER and self.flux_view is None:
            raise ValueError(
                "workload minicluster needs flux_view, the image that its pods copy Flux from"
            )
        return self

    def references(self) -> list[str]:
        """All images as `repository:tag`, in the file's order."""
        return [f"{group.repository}:{tag}" for group in self.images for tag in group.tags]


def load_study(path: Path) -> Study:
    """Read a study from YAML, or from the original study's JSON.

    Args:
        path: of the file; a studies/NAME.yaml that the current folder lacks is the one that comes
            with the program.

    Raises:
        StudyError: the file is missing, not readable as YAML or JSON, or breaks a rule.
    """
    return parse_study(_read(project_files(STUDIES).get(path.as_posix(), path)), path)


def parse_study(text: str, path: Path) -> Study:
    """Make a study of a file's text; `path` names it in errors and, for original files, the study.

    Raises:
        StudyError: the text is neither YAML nor JSON of a study, or breaks a rule.
    """
    data = _load_text(text, path)
    if not isinstance(data, dict):
        raise StudyError(
            f"The study {path} holds {_kind(data)} where a mapping with name and images was "
            "expected, so there is nothing to run.",
            f"{_LIST} studies/smoke.yaml shows the form",
        )
    try:
        return Study.model_validate(_from_original(data, path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the study"
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise StudyError(
            f"The study {path} is not valid at {where}: {reason}.",
            f"edit {path}; {_LIST} studies/smoke.yaml shows the form",
        ) from None


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if not (S_ISREG(status.st_mode) and status.st_size <= _LARGEST_BYTES):
            raise StudyError(
                f"The study {path} is not a file of at most {_LARGEST_BYTES / 1e6:g} MB, so it was "
                "not read.",
                f"{_LIST} lists the studies",
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(
            f"There is no study at {path}, so nothing can be run.",
            f"{_LIST} lists the studies",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(
            f"The study {shortened(path)} cannot be read: {reason}.",
            f"{_LIST} lists the studies",
        ) from None


def _load_text(text: str, path: Path) -> Any:
    # One published study file has a comma after its last tag: accepted, as its authors' tools did.
    lenient = re.sub(r",(\s*[\]}])", r"\1", text)
    try:
        return json.loads(lenient) if path.suffix == ".json" else yaml.safe_load(text)
    except RecursionError:
        detail = "too many levels of brackets"
    except (ValueError, yaml.YAMLError) as error:  # ValueError: also a number of 5,000 digits
        detail = " ".join(str(error).split())
    raise StudyError(
        f"The study {path} is not well-formed, so it cannot be run: {detail}.", f"edit {path}"
    )


def _from_original(data: dict[str, Any], path: Path) -> dict[str, Any]:
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:40].strip("-")
    if set(data) == {"uri", "tags"}:
        return {"name": name, "images": [{"repository": data["uri"], "tags": data["tags"]}]}
    if data and all(str(size).isdigit() and isinstance(jobs, list) for size, jobs in data.items()):
        return {"name": name, "images": _images_of_jobs(data)}
    return data


def _images_of_jobs(data: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Of the original's study of applications: {nodes: [{image, command, tasks}]}."""
    jobs = [job for own in data.values() for job in own if isinstance(job, dict)]
    names = dict.fromkeys(str(job.get("image")) for job in jobs)
    return [
        {"repository": repository, "tags": [tag]}
        for repository, _, tag in (name.rpartition(":") for name in names)
    ]


def _kind(data: object) -> str:
    return "nothing" if data is None else f"a {type(data).__name__}"
