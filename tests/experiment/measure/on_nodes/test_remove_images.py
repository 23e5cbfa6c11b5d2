"""The script that removes images from a node, run with a node's ctr that is played."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = (Path(__file__).parents[4] / "experiment/measure/on_nodes/remove_images.sh").read_text(
    "utf-8"
)
IMAGE = "sha256:d1\nsha256:l0 sha256:c0\nsha256:l1 sha256:c1\nsha256:l2 sha256:c2"

NSENTER = r"""#!/bin/sh
shift 7 # -t 1 -m -- ctr --namespace k8s.io
printf '%s\n' "$*" >>"$PLAY/asked"
gone() { grep -q '^images rm' "$PLAY/asked"; }
case "$*" in
"images ls")
    echo "REF TYPE DIGEST SIZE PLATFORMS LABELS"
    echo "r/other@sha256:d2 t sha256:d2 2.0 MiB linux/amd64 -"
    if ! gone || [ "$STAYS" ]; then
        echo "r/i@sha256:d1 t sha256:d1 2.0 MiB linux/amd64 -"
        echo "sha256:cfg t sha256:d1 2.0 MiB linux/amd64 -"
    fi ;;
"containers ls")
    [ "$VANISHES" ] && grep -q '^containers rm' "$PLAY/asked" && mine= || mine='mine sha256:cfg r\n'
    printf "CONTAINER IMAGE RUNTIME\n${mine}theirs r/other@sha256:d2 r\n" ;;
"containers rm mine") ;;
"images rm --sync r/i@sha256:d1 sha256:cfg") ;;
"content active") printf 'REF SIZE AGE\nlayer-%s 1 2\n' "${ACTIVE:-none}" ;;
"content ls") printf 'DIGEST SIZE AGE LABELS\nsha256:l1 1 1\n' ;;
"plugins ls")
    printf 'TYPE ID PLATFORMS STATUS\nio.containerd.snapshotter.v1 overlayfs linux/amd64 ok\n'
    printf 'io.containerd.snapshotter.v1 zfs linux/amd64 skip\n' ;;
"snapshots --snapshotter overlayfs ls") printf 'KEY PARENT KIND\nsha256:c2 x Committed\n' ;;
*) echo "no such command: $*" >&2; exit 1 ;;
esac
[ "$FAILS" != "$1 $2" ]
"""


class Play:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "bin" / "nsenter"
        program.parent.mkdir()
        program.write_text(NSENTER)
        program.chmod(0o755)

    def run(self, **variables: str) -> tuple[int, str]:
        """Exit code and termination message."""
        script = SCRIPT.replace("cd /tmp", f"cd {self.folder}")
        script = script.replace("/dev/termination-log", str(self.folder / "message"))
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        known = {"PATH": path, "PLAY": str(self.folder), "FAILS": "", "STAYS": "", "VANISHES": ""}
        done = subprocess.run(
            ["sh", "-c", script, "remove", IMAGE],
            env={**known, **variables},
            capture_output=True,
            timeout=30,
            check=False,
        )
        message = self.folder / "message"
        return done.returncode, message.read_text() if message.exists() else ""

    @property
    def commands(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def test_all_names_of_the_image_go_and_its_ended_containers(play: Play) -> None:
    code, _ = play.run()
    assert code == 0
    assert "containers rm mine" in play.commands
    assert "images rm --sync r/i@sha256:d1 sha256:cfg" in play.commands
    assert not any("theirs" in line or "d2" in line for line in play.commands)


def test_layers_left_as_blob_or_as_snapshot_are_reported(play: Play) -> None:
    _, message = play.run()
    assert json.loads(message) == [{"image": False, "layers": [1, 2], "partial": 0}]


def test_an_image_that_stays_and_a_half_fetched_layer_are_reported(play: Play) -> None:
    _, message = play.run(STAYS="1", ACTIVE="sha256:l0")
    assert json.loads(message) == [{"image": True, "layers": [1, 2], "partial": 1}]


def test_a_container_that_the_kubelet_removed_first_is_no_failure(play: Play) -> None:
    code, message = play.run(FAILS="containers rm", VANISHES="1")
    assert code == 0
    assert json.loads(message)[0]["image"] is False


@pytest.mark.parametrize(
    "step",
    ["images ls", "containers rm", "images rm", "content ls", "plugins ls", "content active"],
)
def test_a_step_that_fails_leaves_no_answer_that_could_pass_for_absence(
    play: Play, step: str
) -> None:
    code, message = play.run(FAILS=step)
    assert code != 0
    assert message == ""
