"""The script that measures a node's roofs, run with a node's ctr that is played.

Real nodes measure in tests/live/study/test_study.py.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = (Path(__file__).parents[4] / "experiment/measure/on_nodes/measure_roofs.sh").read_text(
    "utf-8"
)
BLOB = 40_000_000

NSENTER = f"""#!/bin/sh
shift 5 # -t 1 -m -n --
printf '%s\\n' "$*" >>"$PLAY/asked"
case "$*" in
"cat "*) echo "  config_path = '/certs'" ;;
"ctr content fetch-blob"*) [ "$REFUSED" ] && {{ echo "denied" >&2; exit 1; }}
    head -c 1000000 /dev/zero; sleep 0.2; head -c $(({BLOB} - 1000000)) /dev/zero ;;
*"images import --local"*) exit 1 ;; # containerd 1.6
*"images import --no-unpack -") cat >"$PLAY/imported" ;;
*"images ls --quiet") echo layer:1 ;;
*"images ls") printf 'REF TYPE DIGEST\\nlayer:1 t sha256:d\\n' ;;
*"snapshots unpack sha256:d") sleep 0.2; exit "$FAILS" ;;
esac
"""


def measured(folder: Path, fails: int, refused: str) -> dict[str, object]:
    program = folder / "bin" / "nsenter"
    program.parent.mkdir()
    program.write_text(NSENTER)
    program.chmod(0o755)
    script = SCRIPT.replace("cd /tmp", f"cd {folder}").replace("LONGEST_S=8", "LONGEST_S=0")
    script = script.replace("/dev/termination-log", str(folder / "message"))
    path = f"{program.parent}:{os.environ['PATH']}"
    variables = {"PATH": path, "PLAY": str(folder), "FAILS": str(fails), "REFUSED": refused}
    command = ["sh", "-c", script, "measure", "r/i@sha256:b", str(BLOB)]
    subprocess.run(command, env=variables, capture_output=True, timeout=60, check=True)
    answer: dict[str, object] = json.loads((folder / "message").read_text())
    return answer


@pytest.mark.parametrize(("fails", "refused"), [(0, ""), (1, "yes")])
def test_a_part_that_fails_has_a_reason_and_no_rate(
    tmp_path: Path, fails: int, refused: str
) -> None:
    answer = measured(tmp_path, fails, refused)
    assert answer["write"] > 1e6  # type: ignore[operator]
    assert (answer["unpack"] is None, answer["receive"] is None) == (bool(fails), bool(refused))
    assert ("denied" in str(answer["note"]), "unpack: " in str(answer["note"])) == (
        bool(refused),
        bool(fails),
    )
    if not fails:
        assert 0.25 * 134e6 / 0.2 < answer["unpack"] < 134e6 / 0.2 * 1.1  # type: ignore[operator]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "ctr --namespace pull-study-roofs images rm --sync layer:1" in asked
    assert not any("k8s.io" in line for line in asked)


def test_the_layer_that_is_unpacked_is_what_its_config_says(tmp_path: Path) -> None:
    measured(tmp_path, 0, "")
    subprocess.run(["tar", "-xf", "imported"], cwd=tmp_path, check=True)
    (image,) = json.loads((tmp_path / "manifest.json").read_text())
    config = json.loads((tmp_path / image["Config"]).read_text())
    unpacked = subprocess.run(
        "gunzip -c layer.tar.gz | tee layer.tar | sha256sum; tar -tvf layer.tar",
        shell=True, cwd=tmp_path, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert config["rootfs"]["diff_ids"] == [f"sha256:{unpacked.split()[0]}"]
    assert f" {128 << 20} " in unpacked
