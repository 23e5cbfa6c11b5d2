"""Uploads through a network that fails, into a real registry."""

import hashlib
from collections.abc import Iterator

import pytest

from images.errors import RegistryError
from images.registry.client import Registry
from images.registry.upload import mount_blob, upload_blob, upload_bytes
from tests.images.faulty_proxy import Fault, Proxy

DATA = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(320_000))
"""10 MB that are nothing special."""
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def pieces() -> Iterator[bytes]:
    for start in range(0, len(DATA), 300_000):
        yield DATA[start : start + 300_000]


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Registry]:
    with Registry(proxy.name, push=True) as found:
        yield found


def stored(client: Registry, repository: str) -> bytes:
    return b"".join(client.open_blob(repository, DIGEST, len(DATA)))


def test_a_long_blob_is_streamed_in_one_request(client: Registry, proxy: Proxy) -> None:
    blob = upload_blob(client, "up/long", pieces)
    assert (blob.digest, blob.size, blob.sent) == (DIGEST, len(DATA), True)
    assert stored(client, "up/long") == DATA
    assert [line.split()[0] for line in proxy.seen[:3]] == ["POST", "PATCH", "PUT"]


def test_a_short_blob_that_is_there_is_not_sent(client: Registry, proxy: Proxy) -> None:
    assert upload_bytes(client, "up/short", b"abc").sent
    before = proxy.body_bytes
    assert not upload_bytes(client, "up/short", b"abc").sent
    assert not upload_blob(client, "up/short", lambda: iter([b"a", b"bc"])).sent
    assert proxy.body_bytes == before


@pytest.mark.parametrize("breaks", [(6_000_000,), (4_000_000, 3_000_000)])
def test_a_broken_upload_is_completed(
    client: Registry, proxy: Proxy, no_sleep: list[float], breaks: tuple[int, ...]
) -> None:
    proxy.faults += [Fault("PATCH", "uploads", cut_after=count) for count in breaks]
    repository = f"up/broken-{len(breaks)}"
    assert upload_blob(client, repository, pieces).digest == DIGEST
    assert stored(client, repository) == DATA
    assert len(no_sleep) == len(breaks)


@pytest.mark.parametrize("data", [b"a few bytes", DATA], ids=["short", "long"])
def test_a_lost_answer_to_the_last_request_is_no_failure(
    client: Registry, proxy: Proxy, data: bytes
) -> None:
    proxy.faults.append(Fault("PUT", "uploads", lose_answer=True))
    blob = upload_blob(client, "up/lost", lambda: iter([data]))
    assert client.has_blob("up/lost", blob.digest)
    assert not proxy.faults


def test_a_registry_that_stays_broken_is_given_up(
    client: Registry, proxy: Proxy, no_sleep: list[float]
) -> None:
    proxy.faults += [Fault("PATCH", "uploads", status=500) for _ in range(20)]
    with pytest.raises(RegistryError, match="answered 500"):
        upload_blob(client, "up/dead", pieces)
    assert 20 - len(proxy.faults) == 6
    assert len(no_sleep) == 5


def test_mounting_shares_a_blob_with_another_repository(client: Registry, proxy: Proxy) -> None:
    digest = upload_bytes(client, "up/origin", b"shared").digest
    before = proxy.body_bytes
    assert mount_blob(client, "up/other", digest, "up/origin")
    assert client.has_blob("up/other", digest)
    assert proxy.body_bytes == before
