"""The page about recordings: sections, first screen, and writing it.

Combines the sections of the report_*.py modules: first the answers, then the data behind them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.ask.answers import all_cards, untold
from analysis.ask.audit import Audit, audit
from analysis.ask.questions.cards import Card, byte_size
from analysis.ask.samples import EMPTY_FROM, emptiness, no_samples
from analysis.csv_files import cannot_write
from analysis.frames import Frames
from analysis.judge.audit_counts import Counts
from analysis.read.load_runs import Recording
from analysis.read.manifests import ImageManifest, read_manifests
from analysis.show.conditions import conditions, repeat, repeat_cost
from analysis.show.drawing import Drawing
from analysis.show.figure_files import static_specs
from analysis.show.labels import counted
from analysis.show.page import Banner, Number, Page, Section, render
from analysis.show.report_images import image_bytes, shared_layers, similarity
from analysis.show.report_parts import Draft
from analysis.show.report_pulls import model, nodes, pull_parts, pull_times, readiness
from analysis.show.report_runs import machines, timelines, wall_time
from analysis.show.report_trust import audited, validity
from analysis.tables import Tables

_FOOTER = (
    "Written by pull-study-analysis report. The tables in the same folder have every number of "
    "this page: pulls, cells and summary as CSV and Parquet, events as Parquet, and notes.csv with "
    "every line that was not an event."
)


def write_page(page: Page, path: Path, drawing: Drawing) -> Path:
    """Draw a page and write it into a folder, which is created if missing.

    Raises:
        OutputError: it cannot be written.
        DrawingError: its figures cannot be drawn.
    """
    html = render(page, drawing.draw(static_specs(page)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def make_page(
    tables: Tables, frames: Frames, counts: Counts, manifests: Sequence[ImageManifest] = ()
) -> Page:
    """Return the report of some recordings; their tables may be closed."""
    draft = Draft(tables, frames)
    audits = audit(tables, frames, counts, draft.samples)
    mine = _of_study(manifests, frames)
    cards = [*all_cards(frames, draft.samples), replace(shared_layers(mine), provenance=draft.mark)]
    sections = [
        _answers(cards),
        pull_times(draft),
        *pull_parts(draft),
        *readiness(draft),
        validity(draft),
        audited(draft, audits),
        timelines(draft),
        nodes(draft),
        wall_time(draft),
        *machines(draft),
        image_bytes(draft),
        model(draft),
        *similarity(draft, mine),
        repeat(draft),
    ]
    return Page(
        title=title(tables),
        lede=lede(frames),
        banners=banners(draft),
        verdicts=[card for card in cards if card.answered],
        summary=_summary(draft, cards),
        numbers=_numbers(draft, audits, counts.events),
        repeat=repeat_cost(draft),
        sections=sections,
        data=draft.data,
        footer=_FOOTER,
    )


def make_audit_page(tables: Tables, frames: Frames, audits: list[Audit], events: int) -> Page:
    """Return the page of the audit."""
    draft = Draft(tables, frames)
    return Page(
        title=f"Audit: {_names(tables)}",
        lede=lede(frames),
        banners=banners(draft),
        summary=[Banner("Conditions", _sentence(conditions(draft)))],
        numbers=_numbers(draft, audits, events),
        sections=[audited(draft, audits, in_full=True), validity(draft)],
        data=draft.data,
        footer="Written by pull-study-analysis audit; audit.csv in the same folder has the "
        "findings.",
    )


def _of_study(manifests: Sequence[ImageManifest], frames: Frames) -> list[ImageManifest]:
    """Return the manifests of the recorded images; all if none is one of these."""
    known = {*frames.images["name"], *frames.images["tag"]}
    mine = [
        image for image in manifests if (image.name if image.repository else image.tag) in known
    ]
    return mine or list(manifests)


def planned_manifests(tables: Tables) -> list[ImageManifest]:
    """Return the manifests that runs of this project planned."""
    found: dict[str, ImageManifest] = {}
    for recording in tables.recordings:
        if recording.folder and recording.folder.record.trials:
            found |= {image.name: image for image in read_manifests(recording.root)}
    return list(found.values())


def title(tables: Tables) -> str:
    """Return the page's title: the names of the runs."""
    return f"Pull study: {_names(tables)}"


def _names(tables: Tables) -> str:
    ordered = sorted(tables.recordings, key=lambda one: one.nodes or 0)
    return _few(list(dict.fromkeys(recording.run for recording in ordered)))


def lede(frames: Frames) -> str:
    """Return one sentence on what was recorded, where and when."""
    begin, images = frames.pulls["started_at"].min(), frames.pulls["image"].nunique()
    nodes = sorted(set(frames.clusters["nodes"]))
    sizes = ", ".join(map(str, nodes))
    when = f", recorded from {begin:%d %B %Y, %H:%M} UTC" if pd.notna(begin) else ""
    where = f"clusters of {sizes} node{'s' * (sizes != '1')}"
    return f"How long Kubernetes nodes took to pull {counted(images, 'image')}, on {where}{when}."


def banners(draft: Draft) -> list[Banner]:
    """Return the warnings: rehearsals, and images that are almost empty."""
    runs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for recording in sorted(draft.tables.recordings, key=lambda one: one.nodes or 0):
        if recording.provenance != "measured":
            runs[_not_real(recording)].append(recording.run)
    found = [Banner(f"{_few(names)}: {head}", text) for (head, text), names in sorted(runs.items())]
    frames = draft.frames
    measured = frames.clusters.loc[frames.clusters["provenance"] == "measured", "cluster"]
    images = frames.images[frames.images["cluster"].isin(measured)]
    ratios = emptiness(images)
    if ratios.max() >= EMPTY_FROM:
        empty = images.loc[ratios.idxmax()]
        found.append(
            Banner(
                "The images are almost empty.",
                f"{empty['label']} moves {byte_size(empty['wire_bytes'])} over the network and "
                f"unpacks to {byte_size(empty['unpacked_bytes'])}: {ratios.max():.0f} times as "
                "much. Such pulls measure unpacking and the disk, not a registry or a network.",
            )
        )
    if why := no_samples(frames):
        found.insert(
            0,
            Banner(
                "Nothing here has an answer that rests on pull times:",
                f"{why}."
                + (
                    " The table pulls.csv has pulling_s, the time between the events of a pull, "
                    "with whole seconds and with the wait for other pulls of the node."
                    if frames.cells["pulling_s"].notna().any()
                    else ""
                ),
            ),
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


def _answers(cards: Sequence[Card]) -> Section:
    text = (
        "Answers rest on valid cells. Numbers in parentheses are 95 % intervals over nodes and "
        "trials; between clusters, the cluster is the unit, and with one cluster each there is "
        "only the observed difference. docs/analysis.md has the coverage of these intervals."
    )
    shown = [card for card in cards if card.varied]
    return Section("answers", "Answers", [text], cards=shown, after=untold(cards))


def _summary(draft: Draft, cards: Sequence[Card]) -> list[Banner]:
    """Return the lines below the verdicts: what cannot be told, what was not varied, conditions."""
    varied = {card.contrast for card in cards if card.varied}
    answered = {card.contrast for card in cards if card.answered}
    names = dict.fromkeys(card.contrast for card in cards)
    open_ones = [name for name in names if name in varied - answered]
    fixed = [name for name in names if name not in varied]
    lines = [
        Banner("Cannot tell", ", ".join(open_ones)),
        Banner("Not varied here", ", ".join(fixed)),
        Banner("Conditions", _sentence(conditions(draft))),
    ]
    if no_samples(draft.frames):  # which the first banner says
        lines = lines[2:]
    return [line for line in lines if line.text]


def _sentence(parts: Sequence[str]) -> str:
    return "; ".join(parts)


def _numbers(draft: Draft, audits: Sequence[Audit], events: int) -> list[Number]:
    cells, pulls = draft.frames.cells, draft.frames.pulls
    planned = _planned_cells(draft.tables)
    pulled = pulls[pulls["outcome"] == "pulled"]
    valid = int((cells["status"] == "valid").sum())
    nodes, every = (len(frame[["cluster", "node"]].drop_duplicates()) for frame in (pulled, cells))
    grades = ", ".join(sorted({one.grade for one in audits}))
    spoils = sum(f.severity == "spoils" for one in audits for f in one.findings)
    unreadable = draft.tables.notes.total("unreadable")
    spoil = "spoils" if spoils == 1 else "spoil"
    lines = f"{unreadable:,} unreadable lines" if unreadable else "no unreadable lines"
    return [
        Number(
            "Grade",
            grades or "–",
            f"{counted(spoils, 'finding')} that {spoil} numbers",
        ),
        Number(
            "Valid cells",
            f"{valid:,}",
            f"of {len(cells):,} (image × node); {len(cells) - valid:,} excluded"
            + (f"; {planned:,} planned" if planned else ""),
        ),
        Number("Successful pulls", f"{len(pulled):,}", "of the study's images"),
        Number("Nodes that pulled", f"{nodes:,}", f"of {every:,} nodes"),
        Number("Events read", f"{events:,}", lines),
    ]


def _planned_cells(tables: Tables) -> int:
    """Return how many cells the runs of this project planned; 0 if no run has a plan."""
    return sum(
        len(recording.folder.record.trials) * (recording.nodes or 0)
        for recording in tables.recordings
        if recording.folder
    )
