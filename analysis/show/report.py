"""`write_report`: all tables and one page about the recordings.

Combines the sections of the report_*.py modules: first the answers, then the data behind them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.ask.answers import all_answers
from analysis.ask.audit import Audit, audit
from analysis.ask.study_data import emptiest, load_clusters
from analysis.read.event_table import Progress
from analysis.read.load_runs import Recording
from analysis.read.manifests import ImageManifest, read_manifests
from analysis.show.labels import size
from analysis.show.page import Banner, Number, Page, Section, render
from analysis.show.report_images import image_bytes, shared_layers, similarity
from analysis.show.report_parts import Draft
from analysis.show.report_pulls import model, nodes, pull_times
from analysis.show.report_runs import machines, timelines, wall_time
from analysis.show.report_trust import audited, validity
from analysis.tables import OutputError, Tables, open_tables, write_tables

_FOOTER = (
    "Written by python -m analysis report. The tables in the same folder have every number of this "
    "page: pulls, cells and summary as CSV and Parquet, events as Parquet, and notes.csv with "
    "every line that was not an event."
)


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    images: str | None = None,
    manifests: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write report.html and all tables into a folder; return the page's path.

    Args:
        runs: run folders, or anything else that tables.open_tables reads.
        out: folder, created if missing.
        images: regular expression of the study's images (see pulls.derive_pulls).
        manifests: file of manifests, for the section on similarity; runs of this project have
            their own.
        progress: called with the number of events read.

    Raises:
        schema.errors.UserError: an input cannot be read, or the folder cannot be written.
    """
    saved = read_manifests(manifests) if manifests else []
    with open_tables(runs, images, progress) as tables:
        write_tables(tables, out)
        html = render(make_page(tables, saved or _planned(tables)))
    return write_page(html, out / "report.html")


def write_page(html: str, path: Path) -> Path:
    """Write a page into a folder, which is created if missing.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", "name another folder") from error
    return path


def make_page(tables: Tables, manifests: Sequence[ImageManifest] = ()) -> Page:
    """Return the report of some recordings."""
    draft = Draft(tables, load_clusters(tables))
    sections = [
        _answers(draft, manifests),
        pull_times(draft),
        validity(draft),
        audited(draft, audit(tables)),
        timelines(draft),
        nodes(draft),
        wall_time(draft),
        *machines(draft),
        image_bytes(draft),
        model(draft),
        *similarity(draft, manifests),
    ]
    return Page(
        title=title(tables),
        lede=lede(tables),
        banners=banners(draft),
        numbers=_numbers(tables),
        sections=sections,
        data=draft.data,
        footer=_FOOTER,
    )


def make_audit_page(tables: Tables, audits: list[Audit]) -> Page:
    """Return the page of the audit."""
    draft = Draft(tables, load_clusters(tables))
    return Page(
        title=f"Audit: {_names(tables)}",
        lede=lede(tables),
        banners=banners(draft),
        numbers=_numbers(tables),
        sections=[audited(draft, audits, in_full=True), validity(draft)],
        data=draft.data,
        footer="Written by python -m analysis audit; audit.csv in the same folder has the "
        "findings.",
    )


def _planned(tables: Tables) -> list[ImageManifest]:
    found: dict[str, ImageManifest] = {}
    for recording in tables.recordings:
        if recording.folder and recording.folder.record.trials:
            found |= {image.tag: image for image in read_manifests(recording.root)}
    return list(found.values())


def title(tables: Tables) -> str:
    """Return the page's title: the names of the runs."""
    return f"Pull study: {_names(tables)}"


def _names(tables: Tables) -> str:
    ordered = sorted(tables.recordings, key=lambda one: one.nodes or 0)
    return _few(list(dict.fromkeys(recording.run for recording in ordered)))


def lede(tables: Tables) -> str:
    """Return one sentence on what was recorded, where and when."""
    (row,) = tables.rows(
        "SELECT min(started_at) AS begin, count(DISTINCT image) AS images FROM pulls"
    )
    (stacks,) = tables.rows("SELECT list(DISTINCT nodes ORDER BY nodes) AS nodes FROM stack")
    sizes = ", ".join(str(size) for size in stacks["nodes"])
    when = f", recorded from {row['begin']:%d %B %Y, %H:%M} UTC" if row["begin"] else ""
    count = "1 image" if row["images"] == 1 else f"{row['images']} images"
    plural = "s" if sizes != "1" else ""
    where = f"clusters of {sizes} node{plural}"
    return f"How long Kubernetes nodes took to pull {count}, on {where}{when}."


def banners(draft: Draft) -> list[Banner]:
    """Return the warnings: rehearsals, and images that are almost empty."""
    runs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for recording in sorted(draft.tables.recordings, key=lambda one: one.nodes or 0):
        if recording.provenance != "measured":
            runs[_not_real(recording)].append(recording.run)
    found = [Banner(f"{_few(names)}: {head}", text) for (head, text), names in sorted(runs.items())]
    empty = emptiest([c for c in draft.clusters if c.measured])
    if empty and empty.unpacked_bytes and empty.wire_bytes:
        found.append(
            Banner(
                "The images are almost empty.",
                f"{empty.label} moves {size(empty.wire_bytes)} over the network and unpacks to "
                f"{size(empty.unpacked_bytes)}: "
                f"{empty.unpacked_bytes / empty.wire_bytes:.0f} times as much. Such "
                "pulls measure unpacking and the disk, not a registry or a network.",
            )
        )
    if "mixed" in draft.mark:
        found.append(
            Banner(
                "This page has measured and rehearsed data.",
                "They are never compared with each other; every figure is labelled.",
            )
        )
    return found


def _not_real(recording: Recording) -> tuple[str, str]:
    """Describe what was not real in a recording: in short, and in full."""
    simulated = recording.provenance.startswith("simulated")
    text = (
        "No image was pulled: the durations are simulated and say nothing about a real cluster."
        if simulated
        else "Real kubelets pulled on one machine: the durations say nothing about a cloud."
    )
    if recording.scale != 1:
        text += f" Images held {recording.scale:g} of the bytes that their tags claim."
    if recording.speed != 1:
        text += (
            f" Nodes ran {recording.speed:g} times as fast as the clock; durations in messages do "
            "not change, and intervals between steps are scaled to real time."
        )
    rehearsal = recording.rehearsal
    if rehearsal and rehearsal.faults:
        text += f" Injected faults: {', '.join(rehearsal.faults)}."
    if rehearsal and rehearsal.note:
        text += f" {rehearsal.note[0].upper()}{rehearsal.note[1:].rstrip('.')}."
    return ("simulated nodes." if simulated else "a rehearsal.", text)


def _few(names: Sequence[str]) -> str:
    few = 3
    return ", ".join(names[:few]) + (f" and {len(names) - few} more" if len(names) > few else "")


def _answers(draft: Draft, manifests: Sequence[ImageManifest]) -> Section:
    text = (
        "Answers use valid cells where there are enough, and compare nodes, not pods; numbers in "
        "parentheses are 95 % intervals of a bootstrap over nodes. Questions that the data do not "
        "answer are listed with the reason."
    )
    answers = [
        *all_answers(draft.clusters),
        replace(shared_layers(manifests), provenance=draft.mark),
    ]
    return Section("answers", "Answers", [text], answers=answers)


def _numbers(tables: Tables) -> list[Number]:
    (row,) = tables.rows("""
        SELECT (SELECT count(*) FROM cells) AS cells,
            (SELECT count(*) FROM cells WHERE status = 'valid') AS valid,
            (SELECT count(*) FROM pulls WHERE outcome = 'pulled') AS pulled,
            (SELECT count(*) FROM event) AS events,
            (SELECT count(DISTINCT (rec, node)) FROM studied_pull WHERE outcome = 'pulled')
                AS nodes,
            (SELECT count(*) FROM stack_nodes) AS all_nodes
    """)
    unreadable = tables.notes.total("unreadable")
    lines = f"{unreadable:,} unreadable lines" if unreadable else "no unreadable lines"
    return [
        Number("Valid cells", f"{row['valid']:,}", f"of {row['cells']:,} (image × node)"),
        Number("Successful pulls", f"{row['pulled']:,}", "of the study's images"),
        Number("Nodes that pulled", f"{row['nodes']:,}", f"of {row['all_nodes']:,} nodes"),
        Number("Events read", f"{row['events']:,}", lines),
    ]
