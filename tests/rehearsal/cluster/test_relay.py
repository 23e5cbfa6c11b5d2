from collections.abc import Iterator

import pytest
import requests
from aiohttp import web as aiohttp_web

from rehearsal.cluster.relay import Relay
from rehearsal.machine import web

BODY = bytes(range(256)) * 4096


@pytest.fixture
def relay() -> Iterator[Relay]:
    """Before a server that answers with BODY."""
    route = web.route("GET", "/", lambda _call: aiohttp_web.Response(body=BODY))
    with web.serving([route]) as url:
        relay = Relay(url.removeprefix("http://"))
        yield relay
        relay.stop()


def test_passes_requests_and_answers_on(relay: Relay) -> None:
    assert requests.get(f"http://{relay.address}", timeout=20).content == BODY


def test_refuses_connections_for_a_while_and_resets_open_ones(relay: Relay) -> None:
    url = f"http://{relay.address}"
    with requests.Session() as session:
        session.get(url, timeout=20)
        with relay.refusing():
            with pytest.raises(requests.ConnectionError):
                session.get(url, timeout=20)
            with pytest.raises(requests.ConnectionError, match="refused"):
                requests.get(url, timeout=20)
        assert session.get(url, timeout=20).content == BODY


def test_stops_while_it_refuses(relay: Relay) -> None:
    with relay.refusing():
        relay.stop()
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(f"http://{relay.address}", timeout=20)
