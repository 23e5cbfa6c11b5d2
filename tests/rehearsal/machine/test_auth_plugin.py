from __future__ import annotations

import csv
import json
import stat
import subprocess
from pathlib import Path

import pytest

from rehearsal.machine.home import Home
from rehearsal.machine.programs import AUTH_PLUGIN, write_plugin


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_it_answers_in_the_version_that_it_is_asked_in(tmp_path: Path, version: str) -> None:
    home = Home(tmp_path)
    write_plugin(home)
    api = f"client.authentication.k8s.io/{version}"
    asked = json.dumps({"kind": "ExecCredential", "apiVersion": api, "spec": {}})
    done = subprocess.run(
        [home.programs / AUTH_PLUGIN],
        env={"KUBERNETES_EXEC_INFO": asked.replace('": "', '":"')},
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert (answer["kind"], answer["apiVersion"]) == ("ExecCredential", api)
    ((token, _, _, groups),) = csv.reader(home.token_file.open())
    assert answer["status"]["token"] == token
    assert groups == "system:masters"


def test_the_token_is_new_each_time_and_for_this_user_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_plugin(home)
    first = home.token_file.read_text()
    write_plugin(home)
    assert home.token_file.read_text() != first
    for path in (home.token_file, home.programs / AUTH_PLUGIN):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
