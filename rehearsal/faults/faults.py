"""Faults on demand: parsed from `NAME[:KEY=VALUE,...]`, drawn by seed, recorded when injected.

Faults are passive: each component calls `Faults.inject` at its injection point, and does what the
returned fault says. Each injection is a line of a file, to be compared with what a run's ledger
found.
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

from rehearsal.faults.catalogue import KINDS, Default, Kind, Value
from schema.errors import UserError

_LIST = "pull-study-rehearsal faults"
_LIMITS: Mapping[str, tuple[float, float]] = {
    "share": (0, 1),
    "status": (400, 599),
    "minutes": (-1440, 1440),
}
_OTHER_LIMITS = (0, 1_000_000)
_NUMBER_AT_END = re.compile(r"(\d+)$")


class FaultError(UserError):
    """A fault does not exist, or lacks such an argument or value."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A requested fault."""

    name: str
    values: Mapping[str, Value]
    """Of all its arguments."""
    text: str
    """As requested."""

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def how(self) -> str:
        """Which variant of its kind; empty if the kind has one only."""
        return str(self.values.get("how", ""))

    def number(self, argument: str) -> float:
        return float(self.values[argument])

    def word(self, argument: str) -> str:
        return str(self.values[argument])

    def matches(self, *, trial: int = 0, node: str = "") -> bool:
        """Return whether it concerns this trial and node; 0 stands for any."""
        return self.values.get("trial", 0) in {0, trial} and self.values.get("node", 0) in {
            0,
            node_number(node),
        }

    def drawn(self, key: str) -> bool:
        """Return the draw for this key; the same for the same seed, in any process."""
        share = float(self.values.get("share", 1.0))
        if share >= 1:
            return True
        seed = f"{self.values['seed']}/{self.name}/{key}"
        return random.Random(seed).random() < share  # noqa: S311


class Faults:
    """The requested faults of a rehearsal. Thread-safe.

    `injected` holds the injections so far, and `log` gets a JSON line for each; several processes
    may append to one file.
    """

    def __init__(self, faults: Iterable[Fault] = (), log: Path | None = None) -> None:
        self._faults = tuple(faults)
        self._log = log
        self._guard = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.injected: list[dict[str, object]] = []

    @classmethod
    def read(cls, texts: Sequence[str], log: Path | None = None) -> "Faults":
        return cls(parse_faults(texts), log)

    def __bool__(self) -> bool:
        return bool(self._faults)

    def of(self, *names: str, how: str = "") -> list[Fault]:
        """Return those of these kinds (and of this variant), in the order of the request."""
        return [f for f in self._faults if f.name in names and how in {"", f.how}]

    def inject(
        self,
        name: str,
        *,
        how: str = "",
        trial: int = 0,
        node: str = "",
        key: str = "",
        about: Callable[[Fault], bool] = lambda _: True,
        **details: str,
    ) -> Fault | None:
        """Return the fault to inject here and now, and record it; None if there is none.

        Args:
            name: of the kind.
            how: of the variant; empty for any.
            trial: that is concerned; 0 for none.
            node: that is concerned; empty for none.
            key: separates this draw from others of the same trial and node.
            about: whether a fault's other arguments apply here.
            details: what to record of the injection point.
        """
        draw = f"{trial}/{node}/{key}"
        for fault in self.of(name, how=how):
            concerned = fault.matches(trial=trial, node=node) and about(fault)
            if concerned and fault.drawn(draw) and self._count(fault):
                self.record(fault, trial=trial, node=node, **details)
                return fault
        return None

    def record(self, fault: Fault, *, trial: int = 0, node: str = "", **details: str) -> None:
        """Record that a fault was injected."""
        line: dict[str, object] = {
            "fault": fault.name,
            "at": datetime.now(UTC).isoformat(),
            "asked": fault.text,
            **({"trial": trial} if trial else {}),
            **({"node": node} if node else {}),
            **details,
        }
        with self._guard:
            self.injected.append(line)
            if self._log is not None:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")

    def _count(self, fault: Fault) -> bool:
        limit = int(fault.values.get("count", 0))
        with self._guard:
            self._counts[fault.text] += 1
            return not limit or self._counts[fault.text] <= limit


NO_FAULTS = Faults()


def parse_faults(texts: Sequence[str]) -> list[Fault]:
    """Parse faults: `NAME`, `NAME:KEY=VALUE,...`, or `@FILE` with one a line and `#` comments."""
    found: list[Fault] = []
    for text in texts:
        lines = _lines(Path(text[1:])) if text.startswith("@") else [text]
        found += [parse_fault(line) for line in lines]
    return found


def parse_fault(text: str) -> Fault:
    """Parse one `NAME[:KEY=VALUE,...]`; raise FaultError where the catalogue has no such thing."""
    name, _, rest = text.strip().partition(":")
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.0)
        raise FaultError(f"There is no fault {name!r}; the nearest is {near[0]}.", _LIST)
    values = {key: _first(default) for key, default in kind.arguments.items()}
    for key, value in _pairs(name, rest):
        if key not in values:
            has = ", ".join(sorted(kind.arguments))
            raise FaultError(f"The fault {name} has no argument {key!r}; it has {has}.", _LIST)
        values[key] = _value(name, key, value, kind.arguments[key])
    return Fault(name, values, text.strip())


def refuse_simulated(faults: Iterable[Fault]) -> None:
    """Raise FaultError for a fault that real nodes do not support."""
    for fault in faults:
        if fault.kind.simulated:
            raise FaultError(
                f"The fault {fault.name} needs simulated nodes, and these nodes are real.",
                "--nodes simulated, or another fault",
            )


def injected_file(home: Path) -> Path:
    """Return the file of a rehearsal's injections: beside its folder, which ends with it."""
    return home.with_name(f"{home.name}.injected.jsonl")


def node_number(name: str) -> int:
    """Return the number at the end of a node's name; 0 if there is none."""
    match = _NUMBER_AT_END.search(name)
    return int(match[1]) if match else 0


def _first(default: Default) -> Value:
    return default[0] if isinstance(default, tuple) else default


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultError(
            f"The file of faults {path} cannot be read: {error}.", f"{_LIST} > {path}"
        ) from error
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


def _value(name: str, key: str, text: str, default: Default) -> Value:
    if isinstance(default, str):
        return text
    usual = f"{name}:{key}={_first(default)}"
    if isinstance(default, tuple):
        if text in default:
            return text
        words = f"{', '.join(default[:-1])} or {default[-1]}"
        raise FaultError(f"The argument {key} of the fault {name} is {words}, not {text!r}.", usual)
    try:
        value = type(default)(text)
    except ValueError as error:
        raise FaultError(
            f"The argument {key} of the fault {name} is a number, not {text!r}.", usual
        ) from error
    least, most = _LIMITS.get(key, _OTHER_LIMITS)
    if not least <= value <= most:
        raise FaultError(f"The argument {key} of the fault {name} cannot be {text}.", usual)
    return value
