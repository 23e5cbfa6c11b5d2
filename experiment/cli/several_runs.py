"""Several planned runs on a cluster each, in order or in parallel; one summary and one report.

Runs of one stack follow each other, since a stack has one cluster at a time.

Each run is a child process, so one that fails, or uses all memory, does not end the others. It
reports its progress as JSON lines. This module decides nothing about a run.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from experiment.errors import worst
from experiment.plan.cost import traffic_usd
from experiment.plan.open_run import Planned
from experiment.plan.request import RunOptions, runs_folder
from experiment.terminal.grid import ENDED
from experiment.terminal.progress import Progress, Row
from experiment.terminal.summary import SizeLine, summary_table
from schema.errors import ExitCode
from schema.logs import LOG_LEVEL_VARIABLE
from schema.run_records import Status

_MOST_TEARDOWNS = 3
"""Clusters that could not be deleted, after which no further one is created."""
_NOT_STARTED = (
    f"Not started, since {_MOST_TEARDOWNS} clusters before could not be deleted and cost money."
)
_STILL_UP = "Not started, since the stack's cluster before could not be deleted."
_BAR = 50
_ERROR = re.compile(r"\AError( \([^)]*\))?: ")
"""How experiment.cli.app starts the message that a run ends with."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class _Child:
    """One run as the parent sees it."""

    planned: Planned
    name: str
    """Its stack, or its run where several are on clusters of one stack."""
    text: str = "waiting"
    error: str = ""
    code: int | None = None
    """None until it has ended."""
    process: "subprocess.Popen[str] | None" = None
    started: bool = False
    """Its first phase has started; lines before that repeat what the parent has shown."""
    done: int = 0
    cells: int = 0

    @property
    def stack(self) -> str:
        return self.planned.record.stack


def carry_out_all(plans: Sequence[Planned], options: RunOptions, progress: Progress) -> int:
    """Carry out planned runs, show and report them together; return the worst exit code.

    Ctrl-C, SIGTERM and SIGHUP are forwarded to the running children, which take their clusters
    down; no further one is started.
    """
    stacks = Counter(planned.record.stack for planned in plans)
    children = [
        _Child(each, each.record.stack if stacks[each.record.stack] == 1 else each.record.run_id)
        for each in plans
    ]
    _RunPool(children, options, progress).run()
    lines = [size_line(child.planned, child.code or 0, child.error) for child in children]
    progress.table(summary_table(lines), [asdict(line) for line in lines])
    for child, line in zip(children, lines, strict=True):
        if line.exit_code:
            progress.result(f"{child.name}: {child.error or line.ended}")
            progress.result(f"  to continue: pull-study run --resume {line.run}")
    _report(plans, progress)
    return worst(line.exit_code for line in lines)


class _RunPool:
    """Runs the child processes and renders their progress."""

    def __init__(self, children: list[_Child], options: RunOptions, progress: Progress) -> None:
        self._children = children
        self._options = options
        self._progress = progress
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Return when the last child has ended."""
        with (
            self._progress.phase(f"{len(self._children)} clusters"),
            _handling(self._stop),
            ThreadPoolExecutor(self._options.parallel) as pool,
        ):
            waiting = list(self._children)
            under_way: dict[Future[None], _Child] = {}
            while waiting or under_way:  # in short steps, so that signals are handled
                for child in self._next(waiting, under_way.values()):
                    waiting.remove(child)
                    under_way[pool.submit(self._carry, child)] = child
                ended, _ = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ended:
                    del under_way[future]
                    future.result()

    def _next(self, waiting: Sequence[_Child], under_way: Iterable[_Child]) -> list[_Child]:
        """Return what starts now: as many as are free, each of a stack without a cluster."""
        busy = {child.stack for child in under_way}
        free = self._options.parallel - len(busy)
        firsts = {child.stack: child for child in reversed(waiting) if child.stack not in busy}
        return [child for child in waiting if firsts.get(child.stack) is child][:free]

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._stopping.set()
        self._progress.say("Interrupted: every cluster is being taken down; please wait.")
        forwarded = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        for child in self._children:
            if child.process is not None and child.code is None:
                with suppress(ProcessLookupError):
                    child.process.send_signal(forwarded)

    def _carry(self, child: _Child) -> None:
        if self._stopping.is_set():
            child.code, child.error = ExitCode.INTERRUPTED, "Interrupted before it started."
            return
        if sum(each.code == ExitCode.TEARDOWN for each in self._children) >= _MOST_TEARDOWNS:
            child.code, child.error = ExitCode.PREFLIGHT, _NOT_STARTED
            return
        if any(
            each.stack == child.stack and each.code == ExitCode.TEARDOWN for each in self._children
        ):
            child.code, child.error = ExitCode.PREFLIGHT, _STILL_UP
            return
        command = [sys.executable, "-m", "experiment", "run"]
        command += ["--resume", child.planned.record.run_id, *self._options.child_arguments()]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Its standard error is its message here, without log lines.
            env={name: each for name, each in os.environ.items() if name != LOG_LEVEL_VARIABLE},
            start_new_session=True,  # so that Ctrl-C reaches it through _stop only
        ) as process:
            child.process = process
            if self._stopping.is_set():  # since the look above; _stop did not see this process
                process.send_signal(signal.SIGTERM)
            errors = threading.Thread(target=self._read_errors, args=(child, process), daemon=True)
            errors.start()
            assert process.stdout is not None  # noqa: S101 (PIPE)
            for text in process.stdout:
                self._take(child, text)
            child.code = process.wait()
            errors.join(5)
        if child.code < 0:
            child.error = child.error or f"The run was killed by signal {-child.code}."
            child.code = 128 - child.code
        self._show(child, f"ended with code {child.code}")

    def _read_errors(self, child: _Child, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None  # noqa: S101 (PIPE)
        text = process.stderr.read().strip()
        if text:
            child.error = _ERROR.sub("", text)[-2000:]

    def _take(self, child: _Child, text: str) -> None:
        try:
            line: Mapping[str, Any] = json.loads(text)
        except json.JSONDecodeError:
            self._show(child, text.rstrip())
            return
        kind = line.get("kind")
        child.started = child.started or kind == "begin"
        if kind in {"line", "result"} and child.started:
            self._show(child, str(line["text"]))
        elif kind == "end":
            child.text = f"{line['phase']} has ended"
            self._show(child, f"{line['phase']:<10} {line['seconds']:7.1f} s")
        elif kind in {"begin", "progress"}:
            child.text = f"{line['phase']} {line.get('text', '')}".strip()
            child.done, child.cells = line.get("cells_ended") or child.done, line.get("cells") or 0
            self._draw()

    def _show(self, child: _Child, text: str) -> None:
        with self._lock:
            self._progress.say(f"{child.name}: {text}")
        self._draw()

    def _draw(self) -> None:
        ended = sum(child.code is not None for child in self._children)
        under_way = [
            f"{child.name}: {child.text}"
            for child in self._children
            if child.process is not None and child.code is None
        ]
        with self._lock:
            self._progress.rows(
                {number: _bar(child) for number, child in enumerate(self._children, start=1)}
            )
            self._progress.now("; ".join(under_way), ended, len(self._children))


def _bar(child: _Child) -> Row:
    if child.code is not None:
        filled = _BAR if child.code == ExitCode.OK else 0
    else:
        filled = round(_BAR * child.done / child.cells) if child.cells else 0
    phase = "ended" if child.code is not None else child.text.partition(" ")[0]
    return Row(f"{child.name} {phase}", [ENDED] * filled + [""] * (_BAR - filled))


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def size_line(planned: Planned, code: int, error: str) -> SizeLine:
    """Return a run's line of the summary, from its folder."""
    folder = planned.folder
    cells = folder.last_cells()
    phases = folder.phases()
    trials = {trial.trial: trial for trial in planned.record.trials}
    started = min((phase.started_at for phase in phases), default=None)
    ended = max((phase.ended_at for phase in phases), default=None)
    paid = sum(
        (phase.ended_at - phase.started_at).total_seconds()
        for phase in phases
        if phase.phase != "preflight"
    )
    pulled = [trials[each.trial] for each in folder.trials()]
    name = ExitCode(code).name.lower().replace("_", " ") if code in set(ExitCode) else "died"
    return SizeLine(
        run=planned.record.run_id,
        stack=planned.record.stack,
        nodes=planned.cluster.node_count,
        valid=sum(cell.status is Status.VALID for cell in cells),
        preloaded=sum(cell.status is Status.PRELOADED for cell in cells),
        cells=len(planned.record.trials) * planned.cluster.node_count,
        minutes=(ended - started).total_seconds() / 60 if started and ended else 0.0,
        usd=paid / 3600 * planned.cluster.usd_per_hour + traffic_usd(pulled, planned.cluster),
        exit_code=code,
        ended=f"{name}: {error.splitlines()[0]}" if error else name,
    )


def _report(plans: Sequence[Planned], progress: Progress) -> None:
    measured = [planned.folder.path for planned in plans if planned.folder.cells()]
    if not measured:
        return
    out = (
        runs_folder().parent
        / "reports"
        / f"{plans[0].record.study.name}-{datetime.now(UTC):%m%d-%H%M%S}"
    )
    try:
        from analysis.show.write_report import write_report  # noqa: PLC0415 (pandas loads slowly)

        page = write_report(measured, out)
    except Exception as error:  # noqa: BLE001 (what was measured must not end in a traceback)
        again = " ".join(str(path) for path in measured)
        progress.result(
            f"The report over all runs could not be written: {error!r}. To try again: "
            f"pull-study-analysis report {again} --out {out}"
        )
        return
    progress.result(f"Report over all: {page}")
