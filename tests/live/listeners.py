"""What a rehearsal listens on, found in the kernel's tables, and what another user gets from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rehearsal.machine import processes
from tests.live.harness import Place
from tests.until import until

NOBODY = 65534
_LISTENS, _ACCEPTS = "0A", 0x10000
_INODE = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, order=True)
class Listener:
    """Of TCP the host and port, of a Unix socket the path; an abstract one begins with @."""

    kind: str
    address: str
    program: str


@contextmanager
def cluster(place: Place) -> Iterator[None]:
    """A cluster with one measured node, made by Google's API."""
    project = place.variables["GOOGLE_CLOUD_PROJECT"]
    zone = f"container/v1beta1/projects/{project}/locations/us-central1-a"
    config = {"machineType": "n1-standard-16", "labels": {"pull-study/measured": "true"}}
    pool = {"name": "measured", "initialNodeCount": 1, "config": config}

    def finish(operation: dict[str, str]) -> None:
        path = f"{zone}/operations/{operation['name']}"
        until(lambda: place.call("GET", path)["status"] == "DONE", 90, "the operation ends")

    body = {"cluster": {"name": "open", "nodePools": [pool]}}
    finish(place.call("POST", f"{zone}/clusters", body))
    try:
        yield
    finally:
        finish(place.call("DELETE", f"{zone}/clusters/open"))


def listeners(home: Path) -> list[Listener]:
    """Listening sockets of the processes that work for a home, containers' apart."""
    owners: dict[str, str] = {}
    for pid in processes.running(home):
        try:
            program = Path(f"/proc/{pid}/comm").read_text().strip()
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                if match := _INODE.fullmatch(str(entry.readlink())):
                    owners[match[1]] = program
        except OSError:
            continue  # it, or the descriptor, has gone
    return sorted(
        Listener(kind, address, owners[inode])
        for kind, address, inode in (*_tcp(), *_unix())
        if inode in owners
    )


def _tcp() -> Iterable[tuple[str, str, str]]:
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            host, _, port = fields[1].partition(":")
            if fields[3] == _LISTENS:
                octets = bytes.fromhex(host[-8:])[::-1]
                yield "tcp", f"{'.'.join(map(str, octets))}:{int(port, 16)}", fields[9]


def _unix() -> Iterable[tuple[str, str, str]]:
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & _ACCEPTS and len(fields) > 7:
            yield "unix", fields[7], fields[6]


def answers_to_nobody(found: Iterable[Listener]) -> dict[str, list[str]]:
    """What a process of the user nobody gets from each, by address; nothing where it is refused."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, json.dumps([asdict(each) for each in found])],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: dict[str, list[str]] = json.loads(done.stdout)
    return answers


_PROBE = r"""
import concurrent.futures.thread, encodings.idna, http.client, json, os, socket, ssl, sys
import grpc
tls = ssl._create_unverified_context()
targets = json.loads(sys.argv[1])
try:  # what is imported at the first use is in a folder of root
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        channel.unary_unary("/a/b")(b"", timeout=1)
except grpc.RpcError:
    pass
os.setgroups([]), os.setgid(65534), os.setuid(65534)
PATHS = ("/", "/healthz", "/metrics", "/debug/pprof/", "/debug/vars", "/configz", "/version",
         "/api/v1/nodes", "/pods", "/stats/summary", "/v2/", "/v2/_catalog", "/token-review",
         "/v3/kv/range", "/container/v1beta1/projects/p/locations/-/clusters")
REFUSALS = {400, 401, 403, 404, 405, 501}
METHODS = ("/pulumirpc.ResourceProvider/GetPluginInfo", "/pulumirpc.ResourceProvider/Configure",
           "/pulumirpc.LanguageRuntime/GetPluginInfo", "/pulumirpc.LanguageRuntime/Run",
           "/google.logging.v2.LoggingServiceV2/ListLogEntries", "/etcdserverpb.KV/Range",
           "/runtime.v1.RuntimeService/Version", "/containerd.services.version.v1.Version/Version")
REFUSED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED"}

def web(address, secure):
    host, _, port = address.rpartition(":")
    for path in PATHS:
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        options = {"context": tls} if secure else {}
        connection = kind(host, int(port), timeout=3, **options)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            status, said = answer.status, answer.read(1)
        except (OSError, http.client.HTTPException):
            continue  # closed without an answer
        finally:
            connection.close()
        if status not in REFUSALS and said:  # docker-registry answers / with nothing
            yield f"{'https' if secure else 'http'} {path}: {status}"

def calls(target):
    with grpc.insecure_channel(target) as channel:
        for name in METHODS:
            try:
                channel.unary_unary(name)(b"", timeout=2)
                yield f"grpc {name}: served"
            except grpc.RpcError as error:
                if error.code().name == "DEADLINE_EXCEEDED":
                    return  # not a server of gRPC
                if error.code().name not in REFUSED:
                    yield f"grpc {name}: {error.code().name}"
                if error.code().name == "UNAVAILABLE":
                    return

def unix(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(3)
    try:
        client.connect("\0" + path[1:] if path[0] == "@" else path)
        client.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
        answer = client.recv(100)
    except OSError:
        return
    if not answer.startswith(b"HTTP/1.1 403"):
        yield f"unix: {answer!r}"

def ask(target):
    address = target["address"]
    if target["kind"] == "unix":
        return address, list(unix(address))
    return address, [*web(address, False), *web(address, True), *calls(address)]

with concurrent.futures.ThreadPoolExecutor(16) as threads:
    print(json.dumps(dict(threads.map(ask, targets))))
"""
