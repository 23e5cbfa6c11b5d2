"""Files that are damaged or hostile: what is unreadable is noted, and the rest is read."""

import gzip
import io
import json
import os
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from analysis.read import archives
from analysis.read import lines as bounded
from analysis.read.archives import unpacked
from analysis.read.lines import UnreadableFileError
from analysis.read.read_records import read_run_folder
from analysis.tables import open_tables
from tests.analysis.read.test_read_events import ALL, EVENTS, ONE, read, read_text, reasons
from tests.analysis.recorded import IMAGES, lines, write_run_folder

GOOD = f"{lines(EVENTS)}\n"
ZEROS = bytes(1 << 27)


def test_a_compression_bomb_is_read_up_to_its_bound(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, gzip.compress(GOOD.encode() + ZEROS, 9))
    assert reasons(found) == ALL
    assert "250 times its size" in notes.listed[-1].detail


def test_a_line_that_is_too_long_is_noted_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MAX_TEXT", 1 << 20)
    found, notes = read_text(tmp_path, f"{ONE}\n{'x' * (1 << 21)}\n{ONE}\n")
    assert reasons(found) == ["Pulled", "Pulled"]
    assert "a line of more than 1 MiB" in [note.detail for note in notes.listed]


def test_a_line_without_an_end_is_not_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MAX_TEXT", 1 << 20)
    monkeypatch.setattr(bounded, "_SKIPPED", 1 << 21)
    found, notes = read_text(tmp_path, f"{ONE}\n{'x' * (1 << 23)}\n{ONE}\n")
    assert reasons(found) == ["Pulled"]
    assert notes.listed[-1].detail == "a line without an end: not read on"


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        ONE.replace('"count":1', f'"count":{"9" * 5000}'),
        ONE.replace("-bytes", f"{'9' * 400}-bytes"),
        ONE.replace("Successfully", "\\ud800"),
        ONE.replace('"count":1', '"count":"\\ud800"') + "{",
        json.dumps({"log": ONE.replace("Successfully", "\ud800")}) + "{",
        ONE.replace("Successfully", "\\u0000"),
        "\x00" * 1000,
        "\ufeff\u202e",
    ],
    ids=[
        "lists",
        "objects",
        "digits",
        "digits in a tag",
        "half a pair",
        "half a pair for a number",
        "half a pair in a text in a text",
        "NUL in a text",
        "NULs",
        "marks",
    ],
)
def test_one_bad_line_does_not_end_an_analysis(tmp_path: Path, line: str) -> None:
    path = tmp_path / "events.json"
    path.write_text(f"{GOOD}{line}\n", "utf-8")
    with open_tables([path]) as tables:
        assert len(tables.rows("FROM pulls")) >= 1


ODD = {
    "count": ("1e300", "NaN", "-1", "1.5", '"x"', "1e999", "9" * 30, "true", str(2**63)),
    "firstTimestamp": (
        '"9999-12-31T23:59:59Z"', '"0000-01-01T00:00:00Z"', '"2024-01-01T00:00:00+99:99"'
    ),
    "message": tuple(
        json.dumps(text)
        for text in (
            f'Successfully pulled image "a:b" in {"9" * 400}h ({"9" * 400}h including waiting)',
            'Successfully pulled image "a:b" in -5s (-5s including waiting)',
            f'Successfully pulled image "{"x" * 60_000_000}" in 3s (3s including waiting)',
        )
    ),
}  # fmt: skip


def test_values_that_cannot_be_end_no_analysis_and_leave_the_others(tmp_path: Path) -> None:
    odd: list[str] = []
    for field, values in ODD.items():
        for value in values:
            event = {"metadata": {"name": "a.1", "uid": f"odd-{len(odd)}"}, field: "@"}
            odd.append(json.dumps(EVENTS[2] | event).replace('"@"', value))
    path = tmp_path / "events.json"
    path.write_text("\n".join([GOOD, *odd]))
    with open_tables([path]) as tables:
        (good,) = tables.rows(f"FROM pulls WHERE node = '{EVENTS[2]['source']['host']}' LIMIT 1")
        assert (good["image"], good["pull_s"]) == (IMAGES[0], 7.1)
        assert tables.rows("FROM pulls WHERE pull_s < 0 OR pull_s > 1e6") == []
        assert tables.notes.total("unreadable") >= len(odd) // 2


@pytest.mark.parametrize("around", ["{0}", '{{"a":{0}}}'], ids=["lists", "lists in an object"])
def test_lists_in_each_other_are_noted_however_deep(tmp_path: Path, around: str) -> None:
    deep = [around.format(f"{'[' * depth}{ONE}{']' * depth}") for depth in range(700, 1000)]
    found, notes = read_text(tmp_path, "\n".join([ONE, *deep, ONE]))
    assert reasons(found)[0] == reasons(found)[-1] == "Pulled"
    assert len(found) + sum(notes.counts.values()) >= len(deep) + 2


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(device: str) -> None:
    with pytest.raises(UnreadableFileError, match="no file with text"):
        read(Path(device))


def test_a_pipe_without_a_writer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "_WAIT_S", 0.01)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFileError, match="nothing came"):
        read(tmp_path / "pipe")


def test_a_pipe_with_a_writer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(GOOD,))
    writer.start()
    found, _ = read(path)
    writer.join(10)
    assert reasons(found) == ALL


@pytest.mark.timeout(30)
def test_a_record_file_that_is_a_pipe_or_a_device_is_noted(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path)
    for name in ("phases.jsonl", "trials.jsonl", "ledger.jsonl", "nodes.json"):
        (run / name).unlink()
    os.mkfifo(run / "phases.jsonl")
    os.mkfifo(run / "nodes.json")
    (run / "trials.jsonl").symlink_to("/dev/zero")
    (run / "ledger.jsonl").symlink_to(tmp_path)
    with open_tables([run]) as tables:
        noted = {Path(note.file).name for note in tables.notes.listed if "no file" in note.detail}
        assert tables.rows("FROM pulls")
    assert noted >= {"phases.jsonl", "trials.jsonl", "ledger.jsonl"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")
def test_a_record_file_of_another_user_is_noted(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    (run / "ledger.jsonl").chmod(0o600)
    os.seteuid(65534)
    try:
        damage = read_run_folder(run).damage
    finally:
        os.seteuid(0)
    assert damage == ((str(run / "ledger.jsonl"), 0, "Permission denied"),)


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_gives_plain_files_alone_and_keeps_them_in_its_folder(tmp_path: Path) -> None:
    link, device = tarfile.TarInfo("link.json"), tarfile.TarInfo("device.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    path = archive_of(
        tmp_path / "a.tar.gz",
        (tarfile.TarInfo("../../outside.json"), GOOD.encode()),
        (link, b""),
        (device, b""),
    )
    folder = unpacked(path)
    assert [file.relative_to(folder).as_posix() for file in folder.rglob("*")] == ["outside.json"]


def test_an_archive_that_is_a_bomb_or_damaged_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = archive_of(tmp_path / "bomb.tgz", (tarfile.TarInfo("a.json"), ZEROS))
    with pytest.raises(UnreadableFileError, match="250 times its size"):
        unpacked(bomb)
    with pytest.raises(UnreadableFileError, match="250 times its size"):
        unpacked(archive_of(tmp_path / "passed-over.tgz", (tarfile.TarInfo("a.bin"), ZEROS)))
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        (long := tarfile.TarInfo("a.json")).type = kind
        with pytest.raises(UnreadableFileError, match="a header of 134217728 bytes"):
            unpacked(archive_of(tmp_path / "header.tgz", (long, ZEROS)))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.json", ZEROS)
    with pytest.raises(UnreadableFileError, match="250 times its size"):
        unpacked(tmp_path / "bomb.zip")
    (tmp_path / "cut.tgz").write_bytes(bomb.read_bytes()[:50])
    with pytest.raises(UnreadableFileError, match="damaged"):
        unpacked(tmp_path / "cut.tgz")
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 1)
    two = [(tarfile.TarInfo(f"{n}.json"), GOOD.encode()) for n in range(2)]
    with pytest.raises(UnreadableFileError, match="more than 1 files"):
        unpacked(archive_of(tmp_path / "many.tgz", *two))
