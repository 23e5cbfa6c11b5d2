"""The token of a credential plugin: when it is fetched, how often, and what a plugin may answer."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiment.tokens import FreshToken, Token, TokenError, pause_s, run_plugin

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
V1 = "client.authentication.k8s.io/v1"


class Google:
    """Gives one token for an hour, the same until 10 s before its end, as the plugin does."""

    def __init__(self) -> None:
        self.now = START
        self.fetched = 0
        self.down = False

    def time(self) -> datetime:
        return self.now

    def fetch(self) -> Token:
        if self.down:
            raise TokenError("no network")
        self.fetched += 1
        number = (self.now + timedelta(seconds=10) - START) // timedelta(hours=1)
        return Token(f"token {number}", START + timedelta(hours=number + 1))


@pytest.fixture
def google() -> Google:
    return Google()


@pytest.fixture
def token(google: Google) -> FreshToken:
    token = FreshToken(google.fetch(), google.fetch, google.time)
    token.close()  # its thread: the tests do its work
    return token


def work_through(google: Google, token: FreshToken, until: datetime) -> None:
    """Do what the thread does."""
    pause = pause_s((START + timedelta(hours=1) - google.now).total_seconds())
    while google.now + timedelta(seconds=pause) <= until:
        google.now += timedelta(seconds=pause)
        pause = token.refresh()


def test_a_request_never_waits_for_the_plugin_which_runs_a_few_times_an_hour(
    google: Google, token: FreshToken
) -> None:
    for hour in range(1, 4):
        end = START + timedelta(hours=hour)
        work_through(google, token, end - timedelta(seconds=5))
        google.now = end - timedelta(seconds=5)
        before = google.fetched
        assert token.value() == f"token {hour}"
        assert google.fetched == before
    assert google.fetched <= 1 + 3 * 3


def test_a_token_that_has_ended_is_replaced_before_a_request(
    google: Google, token: FreshToken
) -> None:
    google.now += timedelta(hours=2)
    assert token.value() == "token 2"


def test_a_failure_in_the_background_is_reported_only_when_a_request_needs_the_token(
    google: Google, token: FreshToken
) -> None:
    google.down = True
    google.now += timedelta(minutes=59, seconds=55)
    assert token.refresh() == pytest.approx(1.0)
    assert token.value() == "token 0"
    google.now += timedelta(seconds=10)
    with pytest.raises(TokenError, match="no network"):
        token.value()


def test_a_refused_token_is_fetched_anew_once(google: Google, token: FreshToken) -> None:
    google.now += timedelta(hours=1)
    assert {token.after("token 0") for _ in range(3)} == {"token 1"}
    assert google.fetched == 2


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], dict[str, object]]:
    def written(script: str) -> dict[str, object]:
        path = tmp_path / "plugin"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return {"apiVersion": V1, "command": str(path), "args": ["x y"], "provideClusterInfo": True}

    return written


Plugin = Callable[[str], dict[str, object]]


def test_a_plugin_gets_its_arguments_and_the_cluster_and_gives_a_token_with_its_end(
    plugin: Plugin, tmp_path: Path
) -> None:
    answer = {"status": {"token": "t", "expirationTimestamp": "2026-11-24T12:00:00Z"}}
    script = f"echo \"$1 $KUBERNETES_EXEC_INFO\" > seen; echo '{json.dumps(answer)}'"
    found = run_plugin(plugin(script), {"server": "https://1.2.3.4"}, str(tmp_path))
    assert found == Token("t", START)
    argument, _, info = (tmp_path / "seen").read_text().partition(" {")
    assert argument == "x y"
    assert json.loads("{" + info)["spec"]["cluster"] == {"server": "https://1.2.3.4"}


def test_a_plugin_that_gives_a_certificate_gives_no_token(plugin: Plugin) -> None:
    script = """echo '{"status": {"clientCertificateData": "c", "clientKeyData": "k"}}'"""
    assert run_plugin(plugin(script), {}, None) is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo one >&2; echo two >&2; exit 1", "exited with 1: two"),
        ("echo no JSON", "not an ExecCredential"),
        ("echo '[]'", "not an ExecCredential"),
        ("exec sleep 30", "did not end"),
    ],
)
def test_a_plugin_that_fails_is_reported_in_its_words(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    monkeypatch.setattr("experiment.tokens._PLUGIN_S", 0.3)
    with pytest.raises(TokenError, match=why):
        run_plugin(plugin(script), {}, None)


def test_a_plugin_that_is_not_installed_is_reported() -> None:
    with pytest.raises(TokenError, match="No such file"):
        run_plugin({"apiVersion": V1, "command": "/nowhere/plugin"}, {}, None)
