"""`write_report`: all tables and one page about what was recorded.

Puts the sections of the report_*.py modules together. The page answers the study's questions
first, then shows what the answers rest on.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.ask.answers import all_answers, emptiest
from analysis.ask.study_data import load_clusters
from analysis.judge.audit import Audit, audit
from analysis.read.event_table import Progress
from analysis.read.load_runs import Recording
from analysis.read.manifests import ImageManifest, read_manifests
from analysis.show.labels import size
from analysis.show.page import Banner, Number, Page, Section, render
from analysis.show.report_images import alike, image_bytes, images_alike
from analysis.show.report_parts import Draft
from analysis.show.report_runs import machines, timelines, wall_time
from analysis.show.report_times import model, nodes, pull_times
from analysis.show.report_trust import audited, validity
from analysis.tables import OutputError, Tables, open_tables, write_tables

_FOOTER = (
    "Written by python -m analysis report. The tables beside this page hold every number on it: "
    "pulls, cells and summary as CSV and Parquet, events as Parquet, and notes.csv with every line "
    "that was not an event."
)


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    images: str | None = None,
    manifests: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write report.html and all tables of some runs into a folder; gives the page's path.

    Args:
        runs: run folders, or anything else that tables.open_tables reads.
        out: folder, made if need be.
        images: regular expression of the study's images (see pulls.derive_pulls).
        manifests: file of manifests, for the section on similarity; runs of this project bring
            their own.
        progress: told the number of events read.

    Raises:
        schema.errors.UserError: an input cannot be read, or the folder cannot be written.
    """
    saved = read_manifests(manifests) if manifests else []
    with open_tables(runs, images, progress) as tables:
        write_tables(tables, out)
        html = render(make_page(tables, saved or _planned(tables)))
    return write_page(html, out / "report.html")


def write_page(html: str, path: Path) -> Path:
    """Write a page into a folder, made if need be.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", "name another folder") from None
    return path


def make_page(tables: Tables, manifests: Sequence[ImageManifest] = ()) -> Page:
    """The page about some recordings."""
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
        *alike(draft, manifests),
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
    """The page of the audit alone."""
    draft = Draft(tables, load_clusters(tables))
    return Page(
        title=f"Audit: {_names(tables)}",
        lede=lede(tables),
        banners=banners(draft),
        numbers=_numbers(tables),
        sections=[audited(draft, audits, in_full=True), validity(draft)],
        data=draft.data,
        footer="Written by python -m analysis audit; audit.csv beside this page has the findings.",
    )


def _planned(tables: Tables) -> list[ImageManifest]:
    found: dict[str, ImageManifest] = {}
    for recording in tables.recordings:
        if recording.folder and recording.folder.record.trials:
            found |= {image.tag: image for image in read_manifests(recording.root)}
    return list(found.values())


def title(tables: Tables) -> str:
    """The page's title: the runs."""
    return f"Pull study: {_names(tables)}"


def _names(tables: Tables) -> str:
    ordered = sorted(tables.recordings, key=lambda one: one.nodes or 0)
    return _few(list(dict.fromkeys(recording.run for recording in ordered)))


def lede(tables: Tables) -> str:
    """One sentence on what was recorded, where and when."""
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
    """What nobody may overlook: rehearsals, and images that are almost empty."""
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
                f"{empty.unpacked_bytes / empty.wire_bytes:.0f} times as much. Its "
                "pulls measure unpacking and the disk, and say nothing of a registry or a network.",
            )
        )
    if "mixed" in draft.mark:
        found.append(
            Banner(
                "Measured and rehearsed data stand on one page.",
                "They are never compared with each other; every figure says which is which.",
            )
        )
    return found


def _not_real(recording: Recording) -> tuple[str, str]:
    """What was not real in a recording: in a word, and in full."""
    simulated = recording.provenance.startswith("simulated")
    text = (
        "No image was pulled: the durations are a simulation's and say nothing about a cluster."
        if simulated
        else "Real pulls by real kubelets, on one machine: they say nothing about a cloud."
    )
    if recording.scale != 1:
        text += f" Images held {recording.scale:g} of the bytes that their tags claim."
    if recording.speed != 1:
        text += (
            f" Nodes worked {recording.speed:g} times as fast as the clock; durations in messages "
            "are not changed by that, and intervals between steps are told as they would have been."
        )
    rehearsal = recording.rehearsal
    if rehearsal and rehearsal.faults:
        text += f" Faults were asked for: {', '.join(rehearsal.faults)}."
    if rehearsal and rehearsal.note:
        text += f" {rehearsal.note[0].upper()}{rehearsal.note[1:].rstrip('.')}."
    return ("simulated nodes." if simulated else "a rehearsal.", text)


def _few(names: Sequence[str]) -> str:
    few = 3
    return ", ".join(names[:few]) + (f" and {len(names) - few} more" if len(names) > few else "")


def _answers(draft: Draft, manifests: Sequence[ImageManifest]) -> Section:
    text = (
        "Each answer rests on valid cells and compares nodes, not pods; in brackets the 95 % "
        "interval of a bootstrap that draws nodes. Where the data cannot tell, that is the answer."
    )
    answers = [
        *all_answers(draft.clusters),
        replace(images_alike(manifests), provenance=draft.mark),
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
    lines = f"{unreadable:,} unreadable lines" if unreadable else "no unreadable line"
    return [
        Number("Valid cells", f"{row['valid']:,}", f"of {row['cells']:,} (image × node)"),
        Number("Successful pulls", f"{row['pulled']:,}", "of the study's images"),
        Number("Nodes that pulled", f"{row['nodes']:,}", f"of {row['all_nodes']:,} nodes"),
        Number("Events read", f"{row['events']:,}", lines),
    ]
