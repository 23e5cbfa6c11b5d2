"""Recordings whose every text is a script, an address or a control character."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from pydantic import BaseModel, ValidationError

from analysis.show.write_report import write_report
from schema.run_records import CellRecord, NodeStatsRecord, PhaseRecord, RunRecord, TrialRecord
from tests.analysis.recorded import (
    START,
    Pod,
    event,
    lines,
    node_stats,
    pull_events,
    uid,
    write_run_folder,
)

EVIL = (
    "http://127.0.0.1:9/track.png",
    "<img src=http://127.0.0.1:9/x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "javascript:alert(3)//\u2028\u202e\x1b]0;x\x07",
    "'+alert(4)+'\"`${alert(5)}`",
)


RECORDS: Mapping[str, type[BaseModel]] = {
    "phases.jsonl": PhaseRecord,
    "trials.jsonl": TrialRecord,
    "ledger.jsonl": CellRecord,
    "nodestats.jsonl": NodeStatsRecord,
}
OF_IMAGES = {"reference", "repository", "tag", "digest", "diff_id", "repositories", "tags"}
"""Left by `poison`: `hostile_page` has images of its own, which are to remain images."""


def poison(text: str) -> str:
    """The same text each time, so that records that name one node or pod still do."""
    return f"{EVIL[crc32(text.encode()) % len(EVIL)]}{text}"


def poisoned(data: Any, model: type[BaseModel]) -> Any:
    """A record's data with each text that its model leaves free made hostile."""
    for place, key in list(_texts(data)):
        before = place[key]
        place[key] = poison(before)
        try:
            model.model_validate_json(json.dumps(data))
        except ValidationError:
            place[key] = before
    return data


def _texts(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a text, as a container and its key."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, str) and key not in OF_IMAGES:
            yield data, key
        elif isinstance(value, dict | list) and key not in OF_IMAGES:
            yield from _texts(value)


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Change each line of a file of JSON lines, or a file of one object."""
    texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    path.write_text("".join(json.dumps(change(json.loads(text))) + "\n" for text in texts))


def poisoned_run(root: Path, run_id: str, **outputs: Any) -> Path:
    """A run of a cluster with these outputs, whose records are hostile throughout."""
    run = write_run_folder(root, run_id)
    node_stats(run)

    def record(data: Any) -> Any:
        data["outputs"] |= outputs
        at = data["started_at"]
        tried = {"zone": "a zone", "started_at": at, "ended_at": at, "problem": "no room"}
        data["zone_attempts"] = [tried]
        data["warnings"] = ["a warning"]
        rate = {"node": "a node", "write_bytes_per_s": 1e8, "note": "a note"}
        data["roofs"] = [rate]
        data["study"]["description"] = "a description"
        return poisoned(data, RunRecord)

    rewrite(run / "run.json", record)
    for name, model in RECORDS.items():
        rewrite(run / name, partial(poisoned, model=model))
    rewrite(run / "phases.jsonl", lambda data: data | {"error": EVIL[1]})
    return run


def hostile_page(root: Path) -> Path:
    """A report of events, records, prices and manifests; return the page's path."""
    images = [f"{evil}:{n}-layers-size-{n}000000000-bytes" for n, evil in enumerate(EVIL, 1)]
    events = []
    for number, image in enumerate(images):
        for index, evil in enumerate(EVIL):
            job_uid = uid(number)
            pod = Pod(f"p{index}{evil}", f"{evil}{index}", f"j{evil}", job_uid, index)
            at = START + timedelta(seconds=100 * number)
            events += pull_events(pod, image, at, 2.0 + number + index)
            if number == index:
                events.append(event(pod, "Failed", f'Failed to pull image "{image}": {evil}', at))
    (root / "events.json").write_text(lines(events))
    run = write_run_folder(root / "runs")
    record = json.loads((run / "run.json").read_text())
    record |= {"warnings": list(EVIL), "versions": {"kubelet": EVIL[1]}, "study_file": EVIL[2]}
    record["outputs"] |= {"machine_type": EVIL[0], "zone": EVIL[1]}
    for number, trial in enumerate(record["trials"]):
        trial["image"] |= {"repository": EVIL[number], "tag": f"1-layers-size-9-bytes{number}"}
    (run / "run.json").write_text(json.dumps(record))
    ledger = run / "ledger.jsonl"
    cells = [json.loads(line) for line in ledger.read_text().splitlines()]
    for number, cell in enumerate(cells):
        evil = EVIL[number % len(EVIL)]
        cell |= {
            "marks": [evil],
            "reason": evil,
            "status": "failed" if number % 4 == 0 else "valid",
        }
    ledger.write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    manifests = root / "manifests.json"
    layers = [{"digest": evil, "size": 10**n} for n, evil in enumerate(EVIL, 3)]
    manifests.write_text(json.dumps({"manifests": {i: {"layers": layers} for i in images}}))
    priced = [
        poisoned_run(root / "priced", "run-a", machine_type="type-a", usd_per_hour=3.0),
        poisoned_run(root / "priced", "run-b", machine_type="type-b", usd_per_hour=1e7),
    ]
    runs = [root / "events.json", run, *priced]
    return write_report(runs, root / "out", manifests=manifests)
