"""What other users of the machine get from a rehearsal: nothing, by no listener and no file."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.live.harness import LONGEST_S, Place
from tests.live.listeners import Listener, answers_to_nobody, cluster, listeners

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(LONGEST_S),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody"),
]


def test_nobody_is_refused_by_every_listener(simulated: Place) -> None:
    with cluster(simulated):
        found = listeners(simulated.home.folder)
        answers = answers_to_nobody(found)
    programs = {each.program for each in found}
    assert {"etcd", "kube-apiserver"} <= programs, found
    assert not programs & {"kwok", "kube-scheduler", "kube-controller"}, found
    assert len([each for each in found if each.program.startswith("python")]) >= 6, found
    assert {each.address.partition(":")[0] for each in found if each.kind == "tcp"} == {"127.0.0.1"}
    assert {address: said for address, said in answers.items() if said} == {}


class _Open(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"figures")

    def log_message(self, *_: object) -> None:
        pass


def test_a_listener_that_is_open_would_be_found() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Open) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        answers = answers_to_nobody([Listener("tcp", address, "open")])
        server.shutdown()
    assert "http /metrics: 200" in answers[address]


def secrets_of(place: Place) -> dict[str, str]:
    """What the session's files and variables hold, by name."""
    login = json.loads(Path(place.variables["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    return {
        "access token": place.variables["GOOGLE_OAUTH_ACCESS_TOKEN"],
        "cluster token": place.home.token_secret.read_text(),
        "private key": login["private_key"].splitlines()[3],
    }


def expect_no_secrets(place: Place, run: Path) -> None:
    secrets = secrets_of(place)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10
    texts = {str(path): path.read_bytes() for path in files}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts[str(entry)] = entry.read_bytes()
        except OSError:
            continue
    found = [
        f"{name} in {where}"
        for name, secret in secrets.items()
        for where, text in texts.items()
        if secret.encode() in text
    ]
    assert found == []


def test_a_run_s_folder_is_closed_and_holds_no_secret(simulated: Place, two_sizes: str) -> None:
    del two_sizes
    folder = simulated.record("r-size-4").path
    expect_no_secrets(simulated, folder)
    records = [path for path in folder.iterdir() if path.is_file()]
    assert [path.name for path in (folder, *records) if path.stat().st_mode & 0o077] == []
