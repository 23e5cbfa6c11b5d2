"""What -v shows, on every program, and what no line of a log may hold."""

import logging
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from typer.main import get_group
from typer.testing import CliRunner
from urllib3.util import Retry

from schema.logs import LOG, LogLevel, start_logging, without_secrets
from tests.schema.test_program import APPS, MODULES, PROGRAMS

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-Value_0.x"
COMMANDS = {
    "analysis": ("tables", "nowhere"),
    "experiment": ("ledger", "none"),
    "images": ("sizes", os.devnull),
    "rehearsal": ("faults",),
}


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    yield
    start_logging(LogLevel.WARNING)


class _Busy(BaseHTTPRequestHandler):
    """Is busy once, and answers then."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(503 if self.asked == 1 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_requests_and_retries_are_shown_without_a_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Busy)
    Thread(target=server.serve_forever, daemon=True).start()
    start_logging(LogLevel.DEBUG)
    with server, requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(2, status_forcelist=[503])))
        url = f"http://me:{SECRET}@127.0.0.1:{server.server_port}/v2/blobs?sig={SECRET}"
        session.get(url, headers={"Authorization": f"Bearer {SECRET}"}, timeout=5)
        server.shutdown()
    shown = capsys.readouterr().err
    assert '"GET /v2/blobs?sig=[hidden] HTTP/1.1" 503' in shown
    assert '"GET /v2/blobs?sig=[hidden] HTTP/1.1" 200' in shown
    assert "Retry" in shown
    assert SECRET not in shown


def test_started_programs_are_shown_without_a_secret(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "correct horse")
    words = [sys.executable, "-c", "", "--token", SECRET, f"--password={SECRET}", "correct horse"]
    start_logging(LogLevel.DEBUG)
    subprocess.run(words, check=True)
    shown = capfd.readouterr().err
    assert f"DEBUG   pull_study: start {sys.executable} -c" in shown
    assert SECRET not in shown
    assert "correct horse" not in shown
    start_logging(LogLevel.INFO)
    subprocess.run(words, check=True)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer {}",
        "headers {{'Authorization': 'Basic {}'}}",
        "GET https://storage/x?X-Goog-Signature={}&alt=json",
        "https://user:{}@registry/v2/",
        "PULUMI_ACCESS_TOKEN={} pulumi up",
        '{{"access_token": "{}", "expires_in": 3599}}',
        "skopeo login --password {} registry",
        "client-secret: {}",
        "got ya29.{}",
        "eyJ{}",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    ],
)
@given(secret=st.from_regex(r"\A[A-Za-z0-9_.-]{12,40}\Z"))
def test_no_form_of_a_secret_is_shown(line: str, secret: str) -> None:
    shown = without_secrets(line.format(secret))
    assert secret not in shown
    assert "[hidden]" in shown


def test_a_line_without_a_secret_stays() -> None:
    line = "start pulumi export --show-secrets --stack size-4 in /tmp/x; GET /api/v1/nodes 200"
    assert without_secrets(line) == line


@pytest.mark.parametrize("text", ["a-", "token", "--", "token "])
def test_a_long_line_of_a_foreign_server_takes_no_time(text: str) -> None:
    line = text * (64_000 // len(text))
    started = time.process_time()
    assert without_secrets(line) == line
    assert time.process_time() - started < 10, "backtracking takes minutes"


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    start_logging(LogLevel.DEBUG)
    for stream in (None, open("/dev/full", "w", buffering=1)):  # noqa: PTH123, SIM115
        monkeypatch.setattr(sys, "stderr", stream)
        LOG.debug("a line")
    monkeypatch.undo()
    assert stream is not None
    with pytest.raises(OSError, match="No space"):
        stream.close()


def test_control_characters_of_a_line_are_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(LogLevel.WARNING)
    logging.getLogger("urllib3").warning("\x1b[2Jgone")
    assert "\\x1b[2Jgone" in capsys.readouterr().err


@PROGRAMS
@pytest.mark.parametrize(
    ("options", "variable", "level"),
    [
        ((), "", logging.WARNING),
        (("-v",), "", logging.DEBUG),
        (("--verbose",), "error", logging.DEBUG),
        (("--log-level", "info"), "error", logging.INFO),
        ((), "debug", logging.DEBUG),
    ],
)
def test_every_program_takes_the_level_as_option_and_variable(
    program: str, options: tuple[str, ...], variable: str, level: int
) -> None:
    environment = {"PULL_STUDY_LOG_LEVEL": variable} if variable else {}
    CliRunner(env=environment).invoke(APPS[program], [*options, *COMMANDS[program]])
    assert LOG.level == level


def test_every_entry_point_is_one_of_the_programs_tested_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {each.removesuffix(":main") for each in project["scripts"].values()} == {
        *MODULES.values()
    }
    modules = {path.parent.name for path in ROOT.glob("*/__main__.py")}
    assert modules - {"benchmarks", "infra", "tools"} == {*MODULES}  # of developers, and of Pulumi


@pytest.mark.parametrize("module", ["benchmarks", "tools"])
def test_programs_of_developers_explain_themselves_and_do_nothing(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "-h"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("usage: python")
    assert done.stderr == ""


@PROGRAMS
def test_a_variable_has_the_name_of_its_option_in_every_command(program: str) -> None:
    group = get_group(APPS[program])
    parameters = [*group.params, *(each for c in group.commands.values() for each in c.params)]
    variables = {(each.name or "", str(each.envvar)) for each in parameters if each.envvar}
    assert {name for name, _ in variables} >= {"log_level", "output"}
    for name, variable in variables:
        assert variable == f"PULL_STUDY_{name.upper()}"
    named = {name for name, _ in variables}
    assert not [each.name for each in parameters if each.name in named and not each.envvar]
