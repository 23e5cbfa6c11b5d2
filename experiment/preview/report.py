"""Previews as a table for people, for a pull request, or as rows."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from io import StringIO

from rich.console import Console
from rich.table import Table

from experiment.preview.previews import StackPreview
from schema.inert import visible
from schema.output import Output, OutputRow, text_of

_HEADINGS = (
    "stack", "create", "update", "delete", "same", "nodes", "machine type", "USD an hour",
    "warnings",
)  # fmt: skip
_TEXT_COLUMNS = frozenset({"stack", "machine type", "warnings"})
_STEPS = ("create", "update", "delete")
_WIDTH = 160
_LONGEST_PATHS = 6
"""More changed properties of a resource are only counted."""


def report(
    previews: Sequence[StackPreview], *, against: str, deleted: Sequence[str], output: Output
) -> str:
    """Return all previews in one form; Markdown is the page for a pull request.

    Args:
        previews: of each stack.
        against: the revision compared with; empty for none.
        deleted: stacks that only that revision has.
        output: the form.
    """
    if output in {Output.JSON, Output.CSV}:
        return text_of(output, _rows(previews, against, deleted))
    notes = [*_footnotes(against, deleted)]
    write = _markdown if output is Output.MARKDOWN else _text
    return visible(write(previews, notes), keep="\n") + "\n"


def _rows(
    previews: Sequence[StackPreview], against: str, deleted: Sequence[str]
) -> dict[str, list[OutputRow]]:
    return {
        "stacks": [
            {
                "stack": each.stack,
                "problem": each.problem,
                **{step: each.count(step) for step in _STEPS},
                "unchanged": each.unchanged,
                "nodes": each.nodes,
                "machine_type": each.machine_type,
                "usd_per_hour": each.usd_per_hour,
                "usd_per_hour_before": each.usd_per_hour_before,
                "warnings": each.warnings,
                "broken": each.broken,
            }
            for each in previews
        ],
        "changes": [
            {"stack": each.stack, **asdict(change)} for each in previews for change in each.changes
        ],
        "deleted": [{"stack": stack, "against": against} for stack in deleted],
        "providers": [{"provider": name, "version": kind} for name, kind in _providers().items()],
    }


def _markdown(previews: Sequence[StackPreview], notes: Sequence[str]) -> str:
    rule = ["---" if heading in _TEXT_COLUMNS else "--:" for heading in _HEADINGS]
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in _row(p)] for p in previews]
    lines = [f"| {' | '.join(row)} |" for row in (_HEADINGS, rule, *rows)]
    parts = ["\n".join(lines)]
    for heading, items in _sections(previews):
        listed = "\n".join(f"- {item}" for item in items)
        parts.append(f"**{heading}**\n\n{listed}")
    return "\n\n".join([*parts, *notes])


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
    return "\n".join(map(str.rstrip, out.getvalue().split("\n"))).rstrip()


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
    """One line for each change, with all stacks that have it."""
    stacks: dict[str, list[str]] = {}
    for each in previews:
        if each.count("create") == len(each.changes):
            continue  # a new stack: the table suffices
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
    compared = (
        f"the program and stack files of {against}" if against else "nothing: every resource is new"
    )
    yield (
        f"Compared with {compared}; resources in Google Cloud and in the cluster are counted. "
        "Prices are list prices in us-central1 (infra/prices.yaml)."
    )
    providers = "; ".join(f"{name} {kind}" for name, kind in _providers().items())
    yield f"Previewed by Pulumi's engine without credentials; providers: {providers}."


def _providers() -> dict[str, str]:
    """Version of each provider, and whether it is the official plugin."""
    attached = os.environ.get("PULUMI_DEBUG_PROVIDERS", "")
    fakes = {each.partition(":")[0] for each in attached.split(",")}
    return {
        name: version(f"pulumi-{name}")
        + (" (a fake, not the official plugin)" if name in fakes else " (official plugin)")
        for name in ("gcp", "kubernetes")
    }
