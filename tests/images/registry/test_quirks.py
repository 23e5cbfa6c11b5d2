"""What registries do that the distribution specification does not say, each behind a proxy."""

import email.utils
import hashlib
import time
from collections.abc import Iterator

import pytest

from images.errors import RegistryError
from images.registry.client import Registry
from images.registry.reference import Target, base_url, is_same_origin, parse_target
from images.registry.upload import mount_blob, upload_blob
from tests.images.faulty_proxy import Fault, Proxy
from tests.images.local_registry import LocalRegistry

DATA = hashlib.sha256(b"").digest() * 100_000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def pieces() -> Iterator[bytes]:
    for start in range(0, len(DATA), 300_000):
        yield DATA[start : start + 300_000]


@pytest.fixture
def client(proxy: Proxy, no_sleep: list[float]) -> Iterator[Registry]:
    with Registry(proxy.name, push=True) as found:
        yield found


def assert_uploads(client: Registry, repository: str) -> None:
    assert upload_blob(client, repository, pieces).digest == DIGEST
    assert b"".join(client.open_blob(repository, DIGEST, len(DATA))) == DATA


@pytest.mark.parametrize("status", [201, 204])
def test_a_patch_is_answered_as_on_ecr(client: Registry, proxy: Proxy, status: int) -> None:
    proxy.faults.append(Fault("PATCH", "uploads", status=status, forward=True))
    assert_uploads(client, f"quirk/patch-{status}")
    assert proxy.methods().count("PATCH") == 1


def test_a_range_that_sticks_costs_one_more_try(client: Registry, proxy: Proxy) -> None:
    sticks = {"Range": "0-99"}
    proxy.faults.append(Fault("PATCH", "uploads", cut_after=1_500_000))
    proxy.faults += [Fault(m, "uploads", headers=sticks, always=True) for m in ("GET", "PATCH")]
    assert_uploads(client, "quirk/range")
    assert proxy.methods().count("PATCH") == 2


@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST"])
def test_a_location_without_encryption_gets_no_byte(
    client: Registry, proxy: Proxy, method: str
) -> None:
    before = {"PATCH": "POST", "PUT": "PATCH", "POST": "POST"}[method]
    plain = {"Location": "http://192.0.2.1/upload"}
    status = 307 if method == "POST" else 0
    fault = Fault(before, "uploads", status, plain, forward=not status, always=True)
    proxy.faults.append(fault)
    with pytest.raises(RegistryError, match=r"leads to http://192\.0\.2\.1/upload, which is not"):
        upload_blob(client, "quirk/plain", pieces)


def test_a_blob_behind_a_redirect_without_encryption_is_not_read(
    client: Registry, proxy: Proxy
) -> None:
    proxy.faults.append(Fault("GET", "blobs", 307, {"Location": "http://192.0.2.1/blob"}))
    with pytest.raises(RegistryError, match="which is not encrypted"):
        list(client.open_blob("quirk/plain", DIGEST, len(DATA)))


@pytest.mark.parametrize("status", [307, 308])
def test_an_upload_that_is_moved_is_sent_to_the_new_place(
    client: Registry, proxy: Proxy, registry: LocalRegistry, status: int
) -> None:
    with Registry(registry.name, push=True) as direct:
        place = direct.request("POST", "/v2/quirk/moved/blobs/uploads/", repository="quirk/moved")
    proxy.faults.append(Fault("PATCH", "uploads", status, {"Location": place.location}))
    assert upload_blob(client, "quirk/moved", pieces).digest == DIGEST
    assert client.has_blob("quirk/moved", DIGEST)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_wait_is_requested_in_seconds_or_by_date(
    client: Registry, proxy: Proxy, no_sleep: list[float], form: str
) -> None:
    until = email.utils.formatdate(time.time() + 60, usegmt=True)
    value = "60" if form == "seconds" else until
    proxy.faults.append(Fault("PATCH", "uploads", status=429, headers={"Retry-After": value}))
    assert_uploads(client, f"quirk/wait-{form}")
    assert no_sleep == [pytest.approx(60, abs=5)]


@pytest.mark.parametrize("status", [0, 403, 405])
def test_a_refused_cancellation_of_an_upload_is_no_failure(
    client: Registry, proxy: Proxy, status: int
) -> None:
    proxy.faults.append(Fault("DELETE", "uploads", status=status, always=True))
    assert not mount_blob(client, "quirk/cancel", DIGEST.replace(":0", ":1"), "quirk/none")
    assert "DELETE" in proxy.methods()


def test_docker_hub_has_another_name_for_its_api() -> None:
    assert parse_target("docker.io/busybox:1") == Target("docker.io", "library/busybox", "1")
    assert parse_target("index.docker.io/org/x") == Target("docker.io", "org/x")
    assert base_url("docker.io") == "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("location", "same"),
    [
        ("https://ghcr.io:443/v2/x", True),
        ("https://GHCR.io/v2/x", True),
        ("https://ghcr.io.evil.com/v2/x", False),
        ("https://ghcr.io:444/v2/x", False),
        ("http://ghcr.io/v2/x", False),
        ("https://user@evil.com/https://ghcr.io", False),
    ],
)
def test_port_443_and_case_name_the_same_registry(location: str, same: bool) -> None:
    assert is_same_origin("https://ghcr.io/v2/", location) is same


def test_no_token_goes_to_another_host(proxy: Proxy, client: Registry) -> None:
    client._tokens["x"] = "Bearer secret"
    elsewhere = f"http://localhost:{proxy.name.rpartition(':')[2]}/v2/x/blobs/uploads/1"
    client.request("PUT", elsewhere, repository="x", data=b"")
    assert proxy.authorizations == [None]
