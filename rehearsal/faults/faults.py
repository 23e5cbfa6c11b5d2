"""Faults on demand: read from `NAME[:KEY=VALUE,...]`, drawn by seed, written down when they strike.

A fault that was asked for strikes nothing by itself: the part of the rehearsal that it concerns
asks `Faults.strike` at the moment in question, and does what the answer says. Every strike is a
line of a file, so that what a run's ledger found can be compared with what was done to it. Which
kinds there are is in rehearsal.faults.catalogue.
"""

import difflib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rehearsal.faults.catalogue import KINDS, Kind, Value
from schema.errors import UserError

_LIST = "python -m rehearsal faults"
_MOST = 1_000_000
_NUMBER_AT_END = re.compile(r"(\d+)$")


class FaultError(UserError):
    """A fault was asked for that does not exist or not in that way."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was asked for."""

    name: str
    values: Mapping[str, Value]
    """Of all its arguments."""
    text: str
    """As it was asked for."""

    @property
    def kind(self) -> Kind:
        """What it is."""
        return KINDS[self.name]

    def number(self, argument: str) -> float:
        """Value of an argument that is a number."""
        return float(self.values[argument])

    def word(self, argument: str) -> str:
        """Value of an argument that is text."""
        return str(self.values[argument])

    def meets(self, *, trial: int = 0, node: str = "") -> bool:
        """Whether it is about this trial and node; one that names none is about any."""
        return self.values.get("trial", 0) in {0, trial} and self.values.get("node", 0) in {
            0,
            node_number(node),
        }

    def drawn(self, key: str) -> bool:
        """Whether the draw for this key falls on it; the same for the same seed, in any process."""
        share = float(self.values.get("share", 1.0))
        if share >= 1:
            return True
        return random.Random(f"{self.values['seed']}/{self.name}/{key}").random() < share  # noqa: S311


class Faults:
    """The faults of a rehearsal. Safe to use from several threads.

    Args:
        faults: that were asked for.
        log: gets a JSON line a strike; several processes may append to the same file.

    Attributes:
        struck: the strikes so far, as they are written.
    """

    def __init__(self, faults: Iterable[Fault] = (), log: Path | None = None) -> None:
        self._faults = tuple(faults)
        self._log = log
        self._guard = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.struck: list[dict[str, object]] = []

    @classmethod
    def read(cls, texts: Sequence[str], log: Path | None = None) -> "Faults":
        """The faults of such texts (`parse_faults`).

        Raises:
            FaultError: there is no such fault.
        """
        return cls(parse_faults(texts), log)

    def __bool__(self) -> bool:
        """Whether any was asked for."""
        return bool(self._faults)

    def of(self, *names: str) -> list[Fault]:
        """Those of these kinds, in the order in which they were asked for."""
        return [fault for fault in self._faults if fault.name in names]

    def strike(
        self,
        name: str,
        *,
        trial: int = 0,
        node: str = "",
        key: str = "",
        about: Callable[[Fault], bool] = lambda _: True,
        **hit: str,
    ) -> Fault | None:
        """The fault of this kind that strikes here and now, which is written down; None if none.

        Args:
            name: of the kind.
            trial: that is concerned; 0 if none is.
            node: that is concerned; empty if none is.
            key: tells this draw from others of the same trial and node.
            about: whether a fault's further arguments concern this.
            hit: what else is written of what was struck.
        """
        draw = f"{trial}/{node}/{key}"
        for fault in self.of(name):
            concerned = fault.meets(trial=trial, node=node) and about(fault) and fault.drawn(draw)
            if concerned and self._count(fault):
                self.note(fault, trial=trial, node=node, **hit)
                return fault
        return None

    def note(self, fault: Fault, *, trial: int = 0, node: str = "", **hit: str) -> None:
        """Write down that a fault struck."""
        line: dict[str, object] = {
            "fault": fault.name,
            "at": datetime.now(UTC).isoformat(),
            "asked": fault.text,
            **({"trial": trial} if trial else {}),
            **({"node": node} if node else {}),
            **hit,
        }
        with self._guard:
            self.struck.append(line)
            if self._log is not None:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")

    def _count(self, fault: Fault) -> bool:
        """Count a strike, unless it may strike no more."""
        limit = int(fault.values.get("count", 0))
        with self._guard:
            if limit and self._counts[fault.text] >= limit:
                return False
            self._counts[fault.text] += 1
            return True


NO_FAULTS = Faults()
"""Nothing was asked for."""


def parse_faults(texts: Sequence[str]) -> list[Fault]:
    """Read faults.

    Args:
        texts: each `NAME`, `NAME:KEY=VALUE,...`, or `@FILE` with one of them a line; there, empty
            lines and what follows `#` are passed over.

    Raises:
        FaultError: a kind, an argument or a value that there is not; a file that cannot be read.
    """
    found: list[Fault] = []
    for text in texts:
        lines = _lines(Path(text[1:])) if text.startswith("@") else [text]
        found += [parse_fault(line) for line in lines]
    return found


def parse_fault(text: str) -> Fault:
    """Read one `NAME[:KEY=VALUE,...]`.

    Raises:
        FaultError: there is no such fault, or it has no such argument or value.
    """
    name, _, rest = text.strip().partition(":")
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.0)
        raise FaultError(f"There is no fault {name!r}; the nearest is {near[0]}.", _LIST)
    values = dict(kind.arguments)
    for key, value in _pairs(name, rest):
        if key not in values:
            has = ", ".join(sorted(kind.arguments))
            raise FaultError(f"The fault {name} has no argument {key!r}; it has {has}.", _LIST)
        values[key] = _value(name, key, value, kind.arguments[key])
    return Fault(name, values, text.strip())


def refuse_simulated(faults: Iterable[Fault]) -> None:
    """Refuse faults that no real node can suffer.

    Raises:
        FaultError: one of them is such a fault.
    """
    for fault in faults:
        if fault.kind.simulated:
            raise FaultError(
                f"The fault {fault.name} is a simulated node's, and these nodes are real.",
                "--nodes simulated, or another fault",
            )


def injected_file(home: Path) -> Path:
    """The file of strikes of a rehearsal: beside its folder, which ends with the rehearsal."""
    return home.with_name(f"{home.name}.injected.jsonl")


def node_number(name: str) -> int:
    """The number at the end of a node's name; 0 if there is none."""
    match = _NUMBER_AT_END.search(name)
    return int(match[1]) if match else 0


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultError(
            f"The file of faults {path} cannot be read: {error}.", f"{_LIST} > {path}"
        ) from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _pairs(name: str, rest: str) -> Iterable[tuple[str, str]]:
    while rest:
        key, equals, value = rest.partition("=")
        if not equals:
            raise FaultError(f"The fault {name} has {rest!r} where KEY=VALUE is expected.", _LIST)
        key = key.strip()
        rest = ""
        if key != "message":  # a sentence, to the end
            value, _, rest = value.partition(",")
        yield key, value.strip()


def _value(name: str, key: str, text: str, default: Value) -> Value:
    if isinstance(default, str):
        return text
    try:
        value = type(default)(text)
    except ValueError:
        raise FaultError(
            f"The argument {key} of the fault {name} is a number, not {text!r}.",
            f"{name}:{key}={default}",
        ) from None
    least = -_MOST if key == "minutes" else 0
    if not least <= value <= (1 if key == "share" else _MOST):
        raise FaultError(
            f"The argument {key} of the fault {name} cannot be {text}.", f"{name}:{key}={default}"
        )
    return value
