"""Reading an image: the script run by the shells of images, and what is made of its words."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from experiment.measure.on_nodes.image_reading import pod_command, read_reading
from schema.run_records import Reading, ShareRead
from schema.study import ImageSet, Share, Study

SHELLS = ("dash", "bash", "busybox sh")
IMAGES = (ImageSet(repository="r/i", tags=("1-layers-size-5-bytes",)),)
BIG, SMALL = 3_000_001, 70_000


def study(*read: Share) -> Study:
    return Study(name="s", images=IMAGES, read=read)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a b").mkdir(parents=True)
    (root / "a b" / 'it\'s "one"').write_bytes(b"x" * SMALL)
    (root / "big").write_bytes(os.urandom(BIG))
    (root / "again").hardlink_to(root / "big")
    (root / "link").symlink_to("big")
    return root


def run(shell: str, root: Path, *read: Share, path: str = "") -> tuple[str, str]:
    """Output of the command, and the termination message."""
    _, option, script, *rest = pod_command(study(*read).model_copy(update={"command": _COMMAND}))
    message = root.parent / "message"
    script = script.replace("find / ", f"find {root} ").replace(
        "/dev/termination-log", f"{message}"
    )
    words = shell.split()
    program = shutil.which(words[0])
    assert program
    done = subprocess.run(
        [program, *words[1:], option, script, *rest],
        env={"PATH": path or applets(root.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, message.read_text()


_COMMAND = ("/bin/echo", "the study's", "command")


def applets(folder: Path) -> str:
    """The tools as busybox has them, which are fewer than others have."""
    busybox, tools = shutil.which("busybox"), folder / "tools"
    assert busybox
    tools.mkdir(exist_ok=True)
    for tool in ("find", "stat", "sort", "awk", "cut", "tr", "xargs", "cat", "dd", "wc"):
        (tools / tool).symlink_to(busybox)
    return str(tools)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_share_of_the_bytes_is_read_once_and_in_order(shell: str, root: Path) -> None:
    output, message = run(shell, root, Share.TENTH, Share.HALF, Share.ALL)
    assert output == "the study's command\n"
    reading = read_reading(message)
    assert reading is not None
    total = BIG + SMALL
    assert (reading.bytes, reading.note) == (total, "")
    assert [read.percent for read in reading.reads] == [10, 50, 100]
    tenth, half, every = (read.bytes for read in reading.reads)
    assert total / 10 <= tenth < total / 10 + 2**16
    assert total / 2 <= half < total / 2 + 2**16
    assert every == total
    seconds = [read.seconds for read in reading.reads]
    assert seconds == sorted(seconds)


def test_the_tools_of_other_images_read_the_same(root: Path) -> None:
    _, message = run("dash", root, Share.HALF, path=os.environ["PATH"])
    reading = read_reading(message)
    assert reading is not None
    assert [(read.percent, read.bytes) for read in reading.reads] == [(50, 24 * 2**16)]


def test_what_cannot_be_read_is_missing_in_the_bytes_and_ends_nothing(root: Path) -> None:
    fails = root.parent / "cat"
    fails.mkdir()
    program = fails / "cat"
    program.write_text(
        '#!/bin/sh\nfor file; do [ "${file##*/}" = big ] || /bin/cat "$file"; done\n'
    )
    program.chmod(0o755)
    (root / "again").unlink()
    output, message = run("dash", root, Share.ALL, path=f"{fails}:{os.environ['PATH']}")
    reading = read_reading(message)
    assert output
    assert reading is not None
    whole_blocks = 2**16
    assert (reading.bytes, reading.reads[0].bytes) == (BIG + SMALL, whole_blocks)


def test_an_image_without_a_tool_says_so_and_runs_the_command(root: Path) -> None:
    tools = Path(applets(root.parent))
    (tools / "xargs").unlink()
    output, message = run("dash", root, Share.ALL, path=str(tools))
    assert output == "the study's command\n"
    assert read_reading(message) == Reading(note="the image has no xargs")


def test_a_study_that_reads_nothing_runs_its_own_command() -> None:
    assert pod_command(study()) == ("sleep", "1")


def test_a_study_that_reads_ends_with_its_own_command() -> None:
    command = pod_command(study(Share.TENTH, Share.ALL))
    assert command[:2] == ("sh", "-c")
    assert command[3:] == ("pull-study-read", "10 100", "sleep", "1")


def test_a_reading_is_read() -> None:
    message = '{"bytes": 100, "list_s": 0.02, "reads": [[10, 16, 0.01], [100, 100, 1.5]]}'
    assert read_reading(message) == Reading(
        bytes=100,
        list_s=0.02,
        reads=(
            ShareRead(percent=10, bytes=16, seconds=0.01),
            ShareRead(percent=100, bytes=100, seconds=1.5),
        ),
    )


@pytest.mark.parametrize(
    "message",
    [
        "{", "null", "[]", "7", '"text"', "{}", '{"reads": 3}', "[" * 4096, '{"a":' * 600,
        '{"bytes": 1, "list_s": 0, "reads": [[10]]}',
        '{"bytes": 1, "list_s": 0, "reads": [[10, -1, 0]]}',
        '{"bytes": 1, "list_s": 0, "reads": [[10, 1, NaN]]}',
        '{"bytes": 1, "list_s": Infinity, "reads": []}',
        '{"bytes": 1e400, "list_s": 0, "reads": []}',
        '{"bytes": 9223372036854775808, "list_s": 0, "reads": []}',
        '{"bytes": ' + "9" * 4000 + "}",
        '{"bytes": 1, "list_s": 0, "reads": {"a": [1, 2, 3]}}',
        "\ud800", "\x1b[2J\x00<script>",
    ],
)  # fmt: skip
def test_a_hostile_message_is_no_reading(message: str) -> None:
    reading = read_reading(message)
    assert reading is not None
    assert reading.note.startswith("not the message of a reading: ")
    assert reading.reads == ()
    assert len(reading.note) < 500
    assert reading.model_dump_json()


@pytest.mark.parametrize("note", [["x" * 4000], "\ud800" * 500, "\x1b[2J\u202e"])
def test_a_note_is_short_and_plain(note: object) -> None:
    reading = read_reading(json.dumps({"note": note}))
    assert reading is not None
    assert 0 < len(reading.note) <= 200
    assert (reading.note.isascii(), reading.note.isprintable()) == (True, True)
    assert reading.model_dump_json()


def test_a_pod_without_a_message_has_no_reading() -> None:
    assert read_reading("") is None
