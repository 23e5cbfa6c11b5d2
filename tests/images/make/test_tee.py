"""One image to several registries: made once, whatever becomes of one of them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images.errors import RegistryError
from images.make import layer_tar
from images.make.build import build_image
from images.make.content import Piece, file_content
from images.make.remote import open_remote
from images.make.tee import Tee
from images.registry.client import Registry
from images.registry.reference import Target
from images.verify import verify_image
from schema.image_tag import ImageTag
from tests.images.faulty_proxy import Fault, Proxy
from tests.images.local_registry import LocalRegistry, run_registry

TAG = ImageTag(3, 12_000_000)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[LocalRegistry]:
    with run_registry(tmp_path / "second") as running:
        yield running


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of every content file that is made."""
    numbers: list[int] = []

    def counted(seed: str, number: int, size: int, share: float) -> Iterator[Piece]:
        numbers.append(number)
        yield from file_content(seed, number, size, share)

    monkeypatch.setattr(layer_tar, "file_content", counted)
    return numbers


def test_an_image_for_two_registries_is_made_once(
    registry: LocalRegistry, second: LocalRegistry, made: list[int]
) -> None:
    targets = [registry.target("two"), second.target("other/name", tag="x")]
    built = build_image(TAG, *targets)
    assert sorted(made) == [0, 1, 2]
    assert [str(target) for target in built.targets] == [
        f"{registry.name}/two:{TAG}",
        f"{second.name}/other/name:x",
    ]
    for target in built.targets:
        with open_remote(target) as remote:
            assert (remote.target.digest, verify_image(remote).content) == (
                built.digest,
                TAG.size_bytes,
            )
    assert built.sent > 2 * built.compressed
    assert build_image(TAG, *targets).sent == 0


def test_only_the_registry_that_lacks_the_image_gets_it(
    registry: LocalRegistry, second: LocalRegistry, made: list[int]
) -> None:
    first = build_image(TAG, registry.target("lacks"))
    both = build_image(TAG, registry.target("lacks"), second.target("lacks"))
    assert both.digest == first.digest
    assert first.compressed < both.sent < first.compressed + 10_000


def test_a_registry_that_breaks_in_between_delays_no_other(
    registry: LocalRegistry, proxy: Proxy, made: list[int], no_sleep: list[float]
) -> None:
    proxy.faults.append(Fault("PATCH", "uploads", cut_after=1_500_000))
    broken = Target(proxy.name, "breaks")
    built = build_image(ImageTag(1, 30_000_000), registry.target("whole"), broken)
    assert len(made) == 2  # again, for one registry
    with open_remote(built.targets[1]) as remote:
        assert verify_image(remote).content == 30_000_000


def test_one_refusal_stops_all_and_is_the_error(
    registry: LocalRegistry, proxy: Proxy, no_sleep: list[float]
) -> None:
    proxy.faults.append(Fault("PATCH", "uploads", status=400, always=True))
    with pytest.raises(RegistryError, match="answered 400 when sending a layer to refused"):
        build_image(TAG, registry.target("stopped"), Target(proxy.name, "refused"))
    with Registry(registry.name) as client:
        assert client.find_manifest(registry.target("stopped", tag=str(TAG))) is None


def test_pieces_are_made_only_a_few_ahead_of_the_slowest_reader() -> None:
    yielded: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            yielded.append(number)
            yield bytes([number])

    tee, slow = Tee(pieces(), 2), threading.Event()

    def read_slowly() -> bytes:
        assert slow.wait(10)
        return b"".join(tee.read(1))

    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(read_slowly)
        fast = tee.read(0)
        first = [next(fast) for _ in range(4)]
        assert len(yielded) <= 10
        slow.set()
        assert b"".join([*first, *fast]) == later.result(10) == bytes(range(100))


def test_an_error_reaches_every_reader_and_one_that_left_holds_up_no_other() -> None:
    def pieces() -> Iterator[bytes]:
        yield from [b"x"] * 50
        raise OSError("gone")

    tee = Tee(pieces(), 3)
    tee.leave(2)
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(b"".join, tee.read(number)) for number in range(2)]
        for end in ends:
            with pytest.raises(OSError, match="gone"):
                end.result(10)
