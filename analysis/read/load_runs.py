"""Finds recordings: run folders of this project, and folders in the layout of the original study.

The original study has `metadata/<run>/<nodes or machine type>/events-*.json[.gz]` and
`nodes-*.json[.gz]`; every level of that, and each file, may be named, and gives the same run and
stack. In a folder, files with another name are read if they begin with events. A cluster's dump,
with a folder for each namespace, is one recording. Events are read by read_events.py.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from analysis.read.archives import is_archive, unpacked
from analysis.read.lines import UnreadableFileError, collect, open_lines
from analysis.read.provenance import describe_rehearsal
from analysis.read.read_records import DamagedRunError, RunFolder, read_run_folder
from schema.errors import UserError
from schema.names import UNPACKS_LABEL
from schema.run_records import Rehearsal

_FORMS = r"(json|jsonl|ndjson|log|txt|ya?ml)(\.(gz|bz2|xz))?$"
_DATA = re.compile(rf".*\.{_FORMS}")
_EVENTS = re.compile(rf"events?[-._].*|events?\.{_FORMS}")
_SINK_OBJECT = re.compile(r"\d\d[:_]\d\d[:_]\d\d_\d\d[:_]\d\d[:_]\d\d_S\d+\.json(\.gz)?$")
_NODES = re.compile(r"nodes[-._]?.*\.(json|ya?ml)(\.gz)?$")
_MACHINE = re.compile(r"[a-z]+\d+[a-z]*-[a-z]+(-\d+)?|[a-z]\d[a-z]*\.\w+")
_STACK = re.compile(rf"\d+|size-.*|(streaming|without-streaming|.*-streaming)|{_MACHINE.pattern}")
_SIZE_IN_NAME = re.compile(r"(?:events|nodes)-(?:size-)?(\d{1,4})-")

_BOOT_DISK = "cloud.google.com/gke-boot-disk"
_LOCAL_SSD = {
    "cloud.google.com/gke-ephemeral-storage-local-ssd",
    "cloud.google.com/gke-local-nvme-ssd",
}
"""GKE's labels of nodes (https://cloud.google.com/kubernetes-engine/docs/concepts/local-ssd)."""

_NAMESPACES = {"namespaces", "ns"}
"""Folders of dumps with a folder for each namespace: must-gather, sonobuoy."""

_PROBED = 1 << 18
"""Bytes of a file of another name in which an event is looked for."""

_SCALE = re.compile(r"images at ([\d.e-]+) of their size")
_SPEED = re.compile(r"([\d.e+-]+) times as fast as the clock")
_DEEPEST = 32


class NothingRecordedError(UserError):
    """An input has nothing to analyze."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as listed by the cluster."""

    name: str
    machine_type: str
    zone: str = ""
    disk: str = ""
    """What holds its images: `local-ssd`, or the type of its boot disk; empty if unknown."""
    architecture: str = ""
    """Such as amd64, which decides what an index gives it; empty if unknown."""
    unpacks: str = "1"
    """Layers of an image that it unpacks at once: containerd's default unless its stack declared
    another number."""


@dataclass(frozen=True)
class Recording:
    """The recording of one cluster.

    Attributes:
        run: the run's id, or the folder's name (metadata/RUN/16).
        stack: name of the cluster's settings: 'size-16', '16', 'n1-standard-64'; may be empty.
        root: the run folder, or the folder or file with the events.
        files: event files.
        nodes: cluster size N, None if unknown.
        node_list: nodes as listed by the cluster, empty without a list.
        folder: the records of a run of this project, None for other recordings.
        saved_provenance: provenance in an events.parquet of this project; empty for other files.
        machines: machine types in an events.parquet of this project.
        left_out: other files of its folder, in which no event was found.
    """

    run: str
    stack: str
    root: Path
    files: tuple[Path, ...]
    nodes: int | None
    node_list: tuple[NodeInfo, ...] = ()
    folder: RunFolder | None = None
    saved_provenance: str = ""
    machines: str = ""
    left_out: tuple[Path, ...] = ()

    @property
    def rehearsal(self) -> Rehearsal | None:
        """What was not real, None for a measurement."""
        return self.folder.record.rehearsal if self.folder else None

    @property
    def provenance(self) -> str:
        """'measured', or what was not real in words; part of every table and plot."""
        return self.saved_provenance or describe_rehearsal(self.rehearsal)

    @property
    def scale(self) -> float:
        """Fraction of the bytes that the tags claim; 1 for measurements."""
        if self.rehearsal:
            return self.rehearsal.scale
        match = _SCALE.search(self.saved_provenance)
        return float(match[1]) if match else 1.0

    @property
    def speed(self) -> float:
        """How many times faster than the clock its nodes were; 1 for real ones."""
        if self.folder:
            return self.folder.record.speed
        match = _SPEED.search(self.saved_provenance)
        return float(match[1]) if match else 1.0

    @property
    def own_s(self) -> float:
        """Seconds that its container's program runs if its study says so; else 0."""
        return self.folder.own_s if self.folder else 0.0

    @property
    def machine_type(self) -> str:
        """Machine type of the nodes; empty if unknown, comma-separated if there are several."""
        if self.machines:
            return self.machines
        types = sorted({node.machine_type for node in self.node_list if node.machine_type})
        if not types and self.folder and self.folder.record.outputs:
            types = [self.folder.record.outputs.machine_type]
        if not types and _MACHINE.fullmatch(self.stack):
            types = [self.stack]
        return ",".join(types)

    @property
    def zone(self) -> str:
        """Zone of the nodes; empty if unknown, comma-separated if there are several."""
        zones = sorted({node.zone for node in self.node_list if node.zone})
        if not zones and self.folder and self.folder.record.outputs:
            return self.folder.record.outputs.zone
        return ",".join(zones)


def find_recordings(inputs: Sequence[Path]) -> list[Recording]:
    """Return all recordings in the inputs, each once, in order of their names.

    Raises:
        NothingRecordedError: an input does not exist, or has no file that may contain events.
        DamagedRunError: a run folder cannot be read.
    """
    found: dict[Path, Recording] = {}
    foreign: dict[tuple[Path, str, str], set[Path]] = defaultdict(set)
    left_out: list[Path] = []
    for given in inputs:
        path = unpacked(given) if is_archive(given) else given.resolve()
        if not path.exists():
            raise NothingRecordedError(
                f"{given} does not exist.",
                "name a run folder (ls data/runs), or a folder or file with recorded events",
            )
        before = len(found) + sum(len(files) for files in foreign.values())
        skipped: list[Path] = []
        for folder in _run_folders(path):
            found[folder] = _load_run_folder(folder)
        for file in _event_files(path, skipped):
            if file.suffix == ".parquet":
                found |= {Path(file, r.run, r.stack): r for r in _saved_events(file)}
            elif found.keys().isdisjoint(file.parents):
                foreign[_place(file, path)].add(file)
        left_out += [file for file in skipped if found.keys().isdisjoint(file.parents)]
        after = len(found) + sum(len(files) for files in foreign.values())
        if before == after and not _inside_known(path, found, foreign):
            raise NothingRecordedError(
                f"{given} has no file that may contain events (run.json, events-*.json[.gz], or "
                "any other .json, .jsonl or .log file).",
                f"ls -R {given}",
            )
    recordings = [
        *found.values(),
        *(_foreign(root, run, stack, files) for (root, run, stack), files in foreign.items()),
    ]
    recordings = [
        replace(each, left_out=tuple(left_out)) if place == 0 else each
        for place, each in enumerate(recordings)
    ]
    return sorted(_distinct(recordings), key=lambda r: (_by_numbers(r.run), _size_order(r)))


def _inside_known(
    path: Path, found: dict[Path, Recording], foreign: dict[tuple[Path, str, str], set[Path]]
) -> bool:
    """Return whether an input was named twice, or is within another."""
    files = {file for group in foreign.values() for file in group}
    return path in files or any(path in file.parents for file in files) or path in found


def _run_folders(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if path.name == "run.json":
            yield path.parent
        return
    for record in sorted(path.rglob("run.json")):
        if record.is_file():  # not a pipe or a device, which may never end
            yield record.parent


def _event_files(path: Path, skipped: list[Path]) -> Iterator[Path]:
    """Yield the files with events; add to `skipped` other files that seem to be data."""
    if not path.is_dir():  # a file, or a pipe such as /dev/stdin
        if path.name != "run.json":
            yield path
        return
    files = [file for file in sorted(path.rglob("*")) if not file.is_dir() and _is_data(file)]
    named = [f for f in files if _EVENTS.match(f.name) or _SINK_OBJECT.fullmatch(f.name)]
    for file in files:
        if not file.is_file():
            skipped.append(file)
        elif file in named or (not _NODES.match(file.name) and (not named or _has_event(file))):
            yield file
        elif not _NODES.match(file.name):
            skipped.append(file)


def _has_event(file: Path) -> bool:
    """Return whether a file whose name does not tell has an event in its first part."""
    try:
        with open_lines(file, lambda *_: None) as lines:
            size = 0
            for line in lines:
                if b"involvedObject" in line or b'"regarding"' in line:
                    return True
                size += len(line)
                if size > _PROBED:
                    return False
    except UnreadableFileError:
        return True  # reading it says why
    return False


def _is_data(file: Path) -> bool:
    return bool(_DATA.fullmatch(file.name)) and not file.name.startswith(
        ("raw-times", "unique-containers", "report")
    )


def _place(file: Path, given: Path) -> tuple[Path, str, str]:
    """Return folder, run and stack of a file that is not in a run folder."""
    folder = file.parent
    if _SINK_OBJECT.fullmatch(file.name):
        # BUCKET/LOG/YYYY/MM/DD/HH:MM:SS_HH:MM:SS_S0.json is one recording, named at any level
        while re.fullmatch(r"\d\d|\d{4}", folder.name):
            folder = folder.parent
        root = given if given.is_dir() and given in (folder, *folder.parents) else folder
        return root, root.name, ""
    if _STACK.fullmatch(folder.name):
        return folder, folder.parent.name, folder.name
    if dump := _dump(file, given):
        return dump, dump.name, ""
    return folder, folder.name, ""


def _dump(file: Path, given: Path) -> Path | None:
    """Return the folder of a cluster's dump that has this file of one namespace; else None.

    `kubectl cluster-info dump --output-directory` writes nodes.json beside the namespaces' folders;
    others have these in a folder of their own.
    """
    if not given.is_dir() or not file.is_relative_to(given):
        return None
    inside = [folder for folder in file.parent.parents if folder.is_relative_to(given)]
    for folder in (file.parent, *inside):
        if folder != file.parent and any((folder / f"nodes.{form}").is_file() for form in _LISTS):
            return folder
        if folder.parent.name in _NAMESPACES and folder != given:
            return folder.parent.parent
    return None


_LISTS = ("json", "yaml", "yml")


def _foreign(root: Path, run: str, stack: str, files: Iterable[Path]) -> Recording:
    ordered = tuple(sorted(files))
    node_list = _node_list(
        sorted(f for f in root.glob("nodes*") if _NODES.match(f.name) and f.is_file())
    )
    return Recording(run, stack, root, ordered, _cluster_size(stack, ordered, node_list), node_list)


def _cluster_size(stack: str, files: Sequence[Path], node_list: Sequence[NodeInfo]) -> int | None:
    if stack.isdigit():
        return int(stack)
    if node_list:
        return len(node_list)
    sizes = {int(m[1]) for file in files if (m := _SIZE_IN_NAME.match(file.name))}
    return sizes.pop() if len(sizes) == 1 else None


def _saved_events(path: Path) -> list[Recording]:
    """Return the recordings in an events.parquet of this project."""
    query = """
        SELECT run, stack, max(nodes), max(machine_type), max(provenance)
        FROM read_parquet(?) GROUP BY ALL ORDER BY ALL
    """
    try:
        rows = duckdb.execute(query, [str(path)]).fetchall()
    except duckdb.Error as error:
        detail = str(error).strip().partition("\n")[0]
        raise DamagedRunError(
            f"{path} cannot be read as an events.parquet of this project: {detail}.",
            "pull-study-analysis tables writes one from run folders or event files",
        ) from error
    return [
        Recording(run, stack, path, (path,), nodes, machines=machines, saved_provenance=provenance)
        for run, stack, nodes, machines, provenance in rows
    ]


def _last_nodes(folder: Path) -> list[Path]:
    """Return the node list of a run's last attempt: nodes.json, nodes-2.json and so on."""
    lists = (path for path in folder.glob("nodes*.json") if path.is_file())
    return sorted(lists, key=lambda path: (len(path.name), path.name))[-1:]


def _node_list(files: Iterable[Path]) -> tuple[NodeInfo, ...]:
    nodes: dict[str, NodeInfo] = {}
    for file in files:
        for item in _items(file):
            metadata = item.get("metadata") or {}
            if not isinstance(metadata, dict):
                continue
            labels = metadata.get("labels") or {}
            name = str(metadata.get("name", ""))
            if name and isinstance(labels, dict):
                machine = labels.get("node.kubernetes.io/instance-type") or labels.get(
                    "beta.kubernetes.io/instance-type", ""
                )
                zone = labels.get("topology.kubernetes.io/zone", "")
                disk = "local-ssd" if _LOCAL_SSD & labels.keys() else labels.get(_BOOT_DISK, "")
                kind = labels.get("kubernetes.io/arch", "")
                unpacks = labels.get(UNPACKS_LABEL, "1")
                facts = (name, machine, zone, disk, kind, unpacks)
                nodes[name] = NodeInfo(*map(str, facts))
    return tuple(nodes[name] for name in sorted(nodes))


def _items(file: Path) -> list[dict[str, Any]]:
    try:
        with open_lines(file, lambda *_: None) as lines:
            data = collect(lines, lambda *_: None, 1)
        value = _yaml(data) if ".y" in file.name else json.loads(data)
    except (UnreadableFileError, ValueError, RecursionError):
        return []  # a node list only adds names; events name the nodes too
    items = value.get("items") if isinstance(value, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _yaml(data: bytes) -> Any:
    import yaml  # noqa: PLC0415 (few dumps need it)

    try:
        return yaml.load(data, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _distinct(recordings: list[Recording]) -> list[Recording]:
    """Make runs' names unique: a/run1 and b/run1 get their parent's name as a prefix."""
    names = {_run_root(r): r.run for r in recordings}
    depth = 1
    while len(set(names.values())) < len(names) and depth < _DEEPEST:
        depth += 1
        counts = Counter(names.values())
        short = {r.run for r in recordings if counts[names[_run_root(r)]] > 1}
        for recording in recordings:
            root = _run_root(recording)
            if recording.run in short:
                names[root] = "/".join(root.parts[-depth:])
    return [replace(r, run=names[_run_root(r)]) for r in recordings]


def _run_root(recording: Recording) -> Path:
    if recording.saved_provenance:
        return recording.root / recording.run
    foreign_stack = recording.stack and recording.folder is None
    return recording.root.parent if foreign_stack else recording.root


def _by_numbers(name: str) -> list[str | int]:
    """Return a key that sorts size-16 before size-128."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _size_order(recording: Recording) -> tuple[int, str]:
    return (recording.nodes or 0, recording.stack)


def _load_run_folder(path: Path) -> Recording:
    folder = read_run_folder(path)
    record = folder.record
    nodes = record.outputs.node_count if record.outputs else None
    files = [path / "events.watch.jsonl", path / "events.logging.jsonl"]
    return Recording(
        run=record.run_id,
        stack=record.stack,
        root=path,
        files=tuple(file for file in files if file.exists()),
        nodes=nodes or max((cell.nodes for cell in folder.cells), default=None),
        node_list=_node_list(_last_nodes(path)),
        folder=folder,
    )
