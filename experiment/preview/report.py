"""Previews as a table for people, for a pull request, or as JSON."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from io import StringIO

from rich.console import Console
from rich.table import Table

from experiment.preview.previews import StackPreview

FORMATS = ("text", "markdown", "json")
_HEADINGS = (
    "stack", "create", "update", "replace", "delete", "same", "nodes", "machine type",
    "USD an hour", "warnings",
)  # fmt: skip
_TEXT_COLUMNS = frozenset({"stack", "machine type", "warnings"})
_STEPS = ("create", "update", "replace", "delete")
_WIDTH = 160
_LONGEST_PATHS = 6
"""More changed properties of a resource than this are counted, not named."""


def report(
    previews: Sequence[StackPreview], *, against: str, deleted: Sequence[str], form: str
) -> str:
    """All previews in one of `FORMATS`.

    Args:
        previews: a stack each.
        against: the revision that they are compared with; empty for none.
        deleted: stacks that only that revision has.
        form: how.
    """
    if form == "json":
        whole = {
            "against": against,
            "providers": _providers(),
            "gone": list(deleted),
            "stacks": [asdict(each) for each in previews],
        }
        return json.dumps(whole, indent=2) + "\n"
    notes = [*_footnotes(against, deleted)]
    if form == "markdown":
        return _markdown(previews, notes)
    return _text(previews, notes)


def _markdown(previews: Sequence[StackPreview], notes: Sequence[str]) -> str:
    rule = ["---" if heading in _TEXT_COLUMNS else "--:" for heading in _HEADINGS]
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in _row(p)] for p in previews]
    lines = [f"| {' | '.join(row)} |" for row in (_HEADINGS, rule, *rows)]
    parts = ["\n".join(lines)]
    for heading, items in _sections(previews):
        listed = "\n".join(f"- {item}" for item in items)
        parts.append(f"**{heading}**\n\n{listed}")
    return "\n\n".join([*parts, *notes]) + "\n"


def _text(previews: Sequence[StackPreview], notes: Sequence[str]) -> str:
    table = Table(box=None, pad_edge=False)
    for heading in _HEADINGS:
        justify = "left" if heading in _TEXT_COLUMNS else "right"
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for each in previews:
        table.add_row(*_row(each))
    out = StringIO()
    console = Console(file=out, width=_WIDTH, highlight=False, markup=False)
    console.print(table)
    for heading, items in _sections(previews):
        console.print(f"\n{heading}:")
        for item in items:
            console.print(f"  {item}", soft_wrap=True)
    console.print()
    for note in notes:
        console.print(note.replace("`", ""), soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _row(each: StackPreview) -> list[str]:
    if each.problem:
        return [each.stack, *[""] * (len(_HEADINGS) - 2), "cannot be previewed"]
    price = f"{each.usd_per_hour:.2f}"
    if each.usd_per_hour_before not in {None, each.usd_per_hour}:
        price = f"{each.usd_per_hour_before:.2f} -> {price}"
    broken = [f"BREAKS A GUARD: {sentence}" for sentence in each.broken]
    return [
        each.stack,
        *(str(each.count(step)) for step in _STEPS),
        str(each.unchanged),
        " + ".join(str(count) for count in each.nodes.values()),
        each.machine_type,
        price,
        "; ".join([*broken, *dict.fromkeys(each.warnings)]),
    ]


def _sections(previews: Sequence[StackPreview]) -> Iterator[tuple[str, list[str]]]:
    problems = [f"{each.stack}: {each.problem}" for each in previews if each.problem]
    if problems:
        yield "Cannot be previewed", problems
    broken = [f"{each.stack}: {sentence}" for each in previews for sentence in each.broken]
    if broken:
        yield "Broken guards (infra/policy.py, infra/limits.yaml)", broken
    changes = _changes(previews)
    if changes:
        yield "Changes", changes


def _changes(previews: Sequence[StackPreview]) -> list[str]:
    """What happens to which resource, a line for all stacks in which it is the same."""
    stacks: dict[str, list[str]] = {}
    for each in previews:
        if each.count("create") == len(each.changes):
            continue  # a new stack: the table says enough
        for change in each.changes:
            paths = list(change.properties)
            if len(paths) > _LONGEST_PATHS:
                paths = [*paths[:_LONGEST_PATHS], f"{len(paths) - _LONGEST_PATHS} more"]
            where = f" ({', '.join(paths)})" if paths else ""
            line = f"{change.step} {change.type.rpartition(':')[2]} `{change.name}`{where}"
            stacks.setdefault(line, []).append(each.stack)
    known = {each.stack for each in previews if each.unchanged}
    return [
        f"{'every stack' if known <= {*names} else ', '.join(names)}: {line}"
        for line, names in stacks.items()
    ]


def _footnotes(against: str, deleted: Sequence[str]) -> Iterator[str]:
    if deleted:
        yield (
            f"Deleted since {against}: {', '.join(deleted)}. Destroy one that is up "
            "before its file is deleted."
        )
    compared = f"the program and stack files of {against}" if against else "nothing: all is new"
    yield (
        f"Compared with {compared}. Counted are resources in Google Cloud and in the cluster. "
        "Prices are list prices in us-central1 (infra/prices.yaml)."
    )
    providers = "; ".join(f"{name} {kind}" for name, kind in _providers().items())
    yield f"Previewed by Pulumi's engine without credentials; providers: {providers}."


def _providers() -> dict[str, str]:
    """Whose word the previews are: by provider, its version and whether it is the official one."""
    attached = os.environ.get("PULUMI_DEBUG_PROVIDERS", "")
    stand_ins = {each.partition(":")[0] for each in attached.split(",")}
    return {
        name: version(f"pulumi-{name}")
        + (" (a stand-in, not the official plugin)" if name in stand_ins else " (official plugin)")
        for name in ("gcp", "kubernetes")
    }
