"""The client against an HTTP server that answers as an API server would."""

import base64
import json
import re
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiment.errors import MeasureError
from experiment.kube import Kube
from experiment.outage import PATIENCE_S, Refused
from rehearsal.cluster.certificates import certify_administrator, make_authority
from schema.errors import ExitCode
from tests.experiment.fakes import FakeClock

Answer = tuple[int, Any, dict[str, str]]
SOON = {"Retry-After": "0"}
BUSY: Answer = (429, {"message": "too many requests"}, SOON)
CUT: Answer = (0, None, {})


class ApiServer(ThreadingHTTPServer):
    """Gives its answers in their order, and notes the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.always: Callable[[], Answer] | None = None
        self.by_token: dict[str, Answer] = {}
        self.requests: list[tuple[str, str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.requests.append((self.command, self.path, body))
        status, answer, headers = self.answer()
        if not status:
            return  # closes the connection
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def answer(self) -> Answer:
        if self.server.by_token:
            return self.server.by_token[self.headers["Authorization"]]
        return self.server.always() if self.server.always else self.server.answers.pop(0)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def running() -> Iterator[ApiServer]:
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with running() as server:
        yield server


def kubeconfig(server: ApiServer, user: dict[str, Any]) -> str:
    named = {"cluster": "c", "user": "u"}
    config = {
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": named}],
        "current-context": "x",
    }
    return yaml.safe_dump(config)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kube(server: ApiServer, clock: FakeClock, said: list[str]) -> Iterator[Kube]:
    with closing(Kube(kubeconfig(server, {"token": "secret"}), said.append, clock=clock)) as kube:
        yield kube


@pytest.mark.parametrize("failure", [BUSY, (503, {}, SOON), CUT])
def test_a_request_is_retried_and_the_retries_are_counted(
    server: ApiServer, kube: Kube, failure: Answer
) -> None:
    server.answers = [failure, (200, {"gitVersion": "v1.34.1"}, {})]
    assert kube.server_version() == "v1.34.1"
    assert kube.repeated == {str(failure[0] or "no answer"): 1}


def test_a_body_that_is_cut_is_fetched_again(server: ApiServer, kube: Kube) -> None:
    server.answers = [
        (200, {"gitVersion": "v"}, {"Content-Length": "1000", "Connection": "close"}),
        (200, {"gitVersion": "v1.34.1"}, {}),
    ]
    assert kube.server_version() == "v1.34.1"


@pytest.mark.parametrize("failure", [(503, {"message": "starting"}, {}), CUT])
def test_an_api_server_that_is_away_for_five_minutes_is_waited_for_and_reported_once(
    server: ApiServer, kube: Kube, clock: FakeClock, said: list[str], failure: Answer
) -> None:
    server.always = lambda: failure if clock.now < 300 else (200, {"gitVersion": "v1.34.1"}, {})
    assert kube.server_version() == "v1.34.1"
    assert 300 <= clock.now < 320
    away, back = said
    assert re.match(r"The cluster's API server is away \([\w: ]+\); waiting", away)
    assert back.startswith("The API server is back after 30")


def test_a_server_that_stays_away_ends_in_a_sentence(
    server: ApiServer, kube: Kube, clock: FakeClock
) -> None:
    server.always = lambda: (503, {"message": "starting"}, {})
    with pytest.raises(MeasureError, match=r"refused a request \(503\): starting"):
        kube.server_version()
    assert 300 < clock.now <= PATIENCE_S


def test_a_request_is_repeated_no_sooner_than_the_server_asks(
    server: ApiServer, kube: Kube, clock: FakeClock
) -> None:
    server.answers = [(429, {}, {"Retry-After": "7"}), (200, {"gitVersion": "v"}, {})]
    kube.server_version()
    assert clock.now >= 7


def test_a_request_that_waits_to_be_repeated_ends_when_the_client_is_closed(
    server: ApiServer, kube: Kube, clock: FakeClock
) -> None:
    server.always = lambda: BUSY
    clock.on_sleep = kube.close
    with pytest.raises(MeasureError):
        kube.server_version()
    assert len(server.requests) == 2


def test_a_nodes_figures_are_requested_once(server: ApiServer, kube: Kube) -> None:
    server.answers = [(502, {"message": "no route to the node"}, {})]
    with pytest.raises(MeasureError, match="no route"):
        kube.node_stats("n")


class Plugin:
    """A credential plugin that prints its answers in turn, the last one for ever."""

    def __init__(self, folder: Path, *tokens: str) -> None:
        for number, token in enumerate(tokens):
            (folder / f"{number}").write_text(json.dumps({"status": {"token": token}}))
        self._runs = folder / "runs"
        last = len(tokens) - 1
        script = folder / "plugin"
        script.write_text(
            f"#!/bin/sh\ncd {folder}\nn=$(($(wc -l < runs) + 0))\necho >> runs\n"
            f"[ $n -gt {last} ] && n={last}\ncat $n\n"
        )
        script.chmod(0o700)
        self._runs.touch()
        self.user = {
            "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script)}
        }

    @property
    def runs(self) -> int:
        return len(self._runs.read_text())


def test_after_a_401_the_plugin_runs_once_for_all_threads_and_each_request_is_repeated(
    server: ApiServer, tmp_path: Path
) -> None:
    plugin = Plugin(tmp_path, "old", "new")
    accepted: Answer = (200, {"gitVersion": "v1.34.1"}, {})
    server.by_token = {"Bearer old": (401, {"message": "Unauthorized"}, {}), "Bearer new": accepted}
    with closing(Kube(kubeconfig(server, plugin.user))) as kube, ThreadPoolExecutor(16) as pool:
        versions = {each.result() for each in [pool.submit(kube.server_version) for _ in range(48)]}
    assert versions == {"v1.34.1"}
    assert plugin.runs == 2


def test_a_login_that_is_refused_twice_ends_with_the_command_to_log_in(
    server: ApiServer, tmp_path: Path
) -> None:
    plugin = Plugin(tmp_path, "old")
    server.answers = [(401, {"message": "Unauthorized"}, {})] * 2
    with (
        closing(Kube(kubeconfig(server, plugin.user))) as kube,
        pytest.raises(MeasureError, match="does not accept the login") as raised,
    ):
        kube.server_version()
    assert "gcloud auth application-default login" in raised.value.fix
    assert raised.value.exit_code is ExitCode.PERMISSION


def test_a_plugin_that_fails_at_the_start_is_reported_with_its_own_words(
    server: ApiServer, tmp_path: Path
) -> None:
    script = tmp_path / "plugin"
    script.write_text("#!/bin/sh\necho no active account >&2\nexit 3\n")
    script.chmod(0o700)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script)}}
    with pytest.raises(MeasureError, match="exited with 3: no active account"):
        Kube(kubeconfig(server, user))


def test_a_refusal_is_not_retried(server: ApiServer, kube: Kube) -> None:
    server.answers = [(403, {"message": "forbidden"}, {})]
    with pytest.raises(MeasureError, match=r"refused a request \(403\): forbidden") as raised:
        kube.server_version()
    assert isinstance(raised.value.__cause__, Refused)
    assert raised.value.exit_code is ExitCode.PERMISSION


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        ([BUSY, (409, {"message": "pod p is already assigned to node n"}, {})], False),
        ([(409, {"message": "pod p is already assigned to node m"}, {})], True),
    ],
)
def test_a_conflict_of_a_binding_is_passed_over_only_where_an_earlier_try_may_have_had_its_effect(
    server: ApiServer, kube: Kube, answers: list[Answer], refused: bool
) -> None:
    server.answers = answers
    if refused:
        with pytest.raises(MeasureError, match="assigned to node m"):
            kube.bind_pod("ns", "p", "n")
    else:
        kube.bind_pod("ns", "p", "n")
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n"},
    }
    assert server.requests[-1] == ("POST", "/api/v1/namespaces/ns/bindings", binding)


def test_what_exists_is_created_and_what_does_not_is_deleted(server: ApiServer, kube: Kube) -> None:
    server.answers = [(409, {}, {}), (404, {}, {}), (404, {}, {})]
    kube.create_namespace("n", {})
    kube.delete_job("n", "j")
    assert kube.namespace("n") is None
    assert [verb for verb, *_ in server.requests] == ["POST", "DELETE", "GET"]


def test_miniclusters_are_deleted_before_the_jobs_that_their_operator_would_make_again(
    server: ApiServer, kube: Kube
) -> None:
    one, two = ({"items": [{"metadata": {"name": name}}]} for name in ("mini", "job"))
    server.answers = [(200, one, {}), (200, {}, {}), (200, two, {}), (404, {"message": "no"}, {})]
    kube.delete_jobs("pull-study", "pull-study/run")
    flux, batch = (
        f"/apis/{group}/namespaces/pull-study/{plural}"
        for group, plural in (("flux-framework.org/v1alpha2", "miniclusters"), ("batch/v1", "jobs"))
    )
    asked = [(verb, path.partition("?")[0]) for verb, path, _ in server.requests]
    assert asked == [
        ("GET", flux),
        ("DELETE", f"{flux}/mini"),
        ("GET", batch),
        ("DELETE", f"{batch}/job"),
    ]


@pytest.mark.parametrize("status", [403, 404])
def test_where_there_are_no_miniclusters_jobs_are_deleted(
    server: ApiServer, kube: Kube, status: int
) -> None:
    server.answers = [(status, {"message": "no"}, {}), (200, {"items": []}, {})]
    kube.delete_jobs("pull-study", "pull-study/run")
    assert len(server.requests) == 2


def test_miniclusters_are_served_where_discovery_lists_them(server: ApiServer, kube: Kube) -> None:
    listed = {"resources": [{"name": "miniclusters"}, {"name": "miniclusters/status"}]}
    server.answers = [(200, listed, {}), (404, {"message": "no"}, {}), (200, {}, {})]
    assert [kube.serves_miniclusters() for _ in range(3)] == [True, False, False]


def test_a_lease_that_exists_or_was_changed_meanwhile_is_not_taken(
    server: ApiServer, kube: Kube
) -> None:
    lease = {"metadata": {"namespace": "n", "name": "l"}}
    server.answers = [(409, {}, {}), (201, lease, {}), (409, {}, {}), (404, {}, {}), (200, {}, {})]
    assert [kube.create_lease(lease) for _ in range(2)] == [False, True]
    assert [kube.replace_lease(lease) for _ in range(3)] == [False, False, True]
    path = "/apis/coordination.k8s.io/v1/namespaces/n/leases"
    assert {request[:2] for request in server.requests} == {("POST", path), ("PUT", f"{path}/l")}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ('nodes is forbidden: User "u" cannot list resource "nodes"', ExitCode.PERMISSION),
        ("jobs.batch is forbidden: exceeded quota: jobs, limited: 1", ExitCode.MEASURE),
    ],
)
def test_a_refused_right_has_its_own_exit_code_and_a_quota_has_not(
    server: ApiServer, kube: Kube, reason: str, code: ExitCode
) -> None:
    server.answers = [(403, {"message": reason}, {})]
    with pytest.raises(MeasureError) as caught:
        kube.nodes("")
    assert caught.value.exit_code == code
    assert reason in caught.value.problem


def test_a_watch_is_not_retried(server: ApiServer, kube: Kube) -> None:
    server.answers = [BUSY]
    with pytest.raises(Refused, match="too many"):
        list(kube.watch("/api/v1/events", {}, seconds=10))


def test_no_server_is_reported_in_one_line(kube: Kube, server: ApiServer) -> None:
    server.server_close()
    with pytest.raises(Refused) as raised:
        list(kube.watch("/api/v1/events", {}, seconds=10))
    assert raised.value.status == 0
    assert "\n" not in raised.value.reason


def test_the_key_of_a_kubeconfig_is_in_no_file_while_the_client_works(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    authority = make_authority()
    own = certify_administrator(authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.write(tmp_path, "server")
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    (tmp_path / "authority.crt").write_bytes(authority.pem)
    context.load_verify_locations(tmp_path / "authority.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    for path in tmp_path.iterdir():
        path.unlink()

    def data(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    user = {"client-certificate-data": data(own.pem), "client-key-data": data(own.key_pem)}
    config = yaml.safe_load(kubeconfig(server, user))
    named = config["clusters"][0]["cluster"]
    named["server"] = named["server"].replace("http:", "https:")
    named["certificate-authority-data"] = data(authority.pem)
    server.answers = [(200, {"gitVersion": "v1"}, {})]
    with closing(Kube(yaml.safe_dump(config))) as kube:
        assert list(tmp_path.iterdir()) == []
        assert kube.server_version() == "v1"
