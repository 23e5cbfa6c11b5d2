"""docs/faults.md, from the catalogue of faults."""

from __future__ import annotations

from pathlib import Path

from rehearsal.faults.catalogue import ARGUMENTS, KINDS, Kind, shown

PAGE = Path(__file__).parents[1] / "faults.md"
_HEAD = """\
# Faults on demand

Faults that can be injected into a rehearsal, to check that the ledger reports them. Written by
`make docs` from `rehearsal/faults/catalogue.py`; a test fails if this page is out of date.

```console
.venv/bin/pull-study run --stack size-4 --study studies/smoke.yaml --rehearse \\
    --nodes simulated --fault cached-image:trial=2,node=1 --fault event:trial=3,reason=Pulled
.venv/bin/pull-study-rehearsal faults
```

A fault is `NAME` or `NAME:KEY=VALUE,...`. `--fault` may be given several times; `--faults FILE`
reads one per line; `#` starts a comment. Omitted arguments have the value in the table; `how` has
the first of its values. Random choices (`share`) are the same for the same `seed`.

Each injection is a line of a file beside the rehearsal's folder, such as
`/var/lib/pull-study/*.injected.jsonl`: the fault, the time, the trial, the node, and what
it affected. `make chaos` runs a matrix of faults and compares that file with the ledger: every
fault shows as the table says, and no other cell is excluded. `make chaos CHAOS=--full` adds a run
on real nodes, `CHAOS=NAME` runs one scenario of `tests/chaos/matrix.py`.

"""


def updated(_page: str = "") -> str:
    """Return the whole page."""
    rows = ["## Faults\n", "| fault | what happens | how the run shows it | arguments |"]
    rows += ["|---|---|---|---|"]
    rows += [_row(name, kind) for name, kind in KINDS.items()]
    rows += ["", "(s): simulated nodes only.", "", "## Arguments\n"]
    rows += ["| argument | meaning |", "|---|---|"]
    rows += [f"| {name} | {meaning} |" for name, meaning in sorted(ARGUMENTS.items())]
    return _HEAD + "\n".join(rows) + "\n"


def _row(name: str, kind: Kind) -> str:
    arguments = " ".join(f"{key}={value}" for key, value in shown(kind).items())
    mark = " (s)" if kind.simulated else ""
    shown_arguments = f"`{arguments}`" if arguments else "none"
    return f"| {name}{mark} | {kind.does} | {kind.shows} | {shown_arguments} |"
