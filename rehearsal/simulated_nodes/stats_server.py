"""Where simulated kubelets answer: stats/summary, as the API server's node proxy asks for it.

A port a node on loopback, TLS, one server for all. Figures are those of the model: bytes received
are the layers that were downloaded, disk is what images take. A kubelet answers far more, and asks
who is asking; this does not.
"""

import ssl
from typing import Any

from aiohttp import web

from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.events import timestamp
from rehearsal.simulated_nodes.kubelet import Kubelet

_SENT_SHARE = 0.01
"""Of the bytes received, what requests and acknowledgements of them take."""


class KubeletServer:
    """Serves the kubelets of an emitter."""

    def __init__(self, certificate: str, key: str, clock: Clock) -> None:
        self._clock = clock
        self._kubelets: dict[int, Kubelet] = {}
        self._sites: dict[int, web.TCPSite] = {}
        app = web.Application()
        app.router.add_get("/stats/summary", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate, key)

    async def start(self) -> None:
        """Get ready; `listen` before anything is answered."""
        await self._runner.setup()

    async def listen(self, kubelet: Kubelet) -> int:
        """Answer for a kubelet; the port."""
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = int(self._runner.addresses[-1][1])
        self._kubelets[port] = kubelet
        self._sites[port] = site
        return port

    async def forget(self, port: int) -> None:
        """Answer no more on a port."""
        self._kubelets.pop(port, None)
        if site := self._sites.pop(port, None):
            await site.stop()

    async def close(self) -> None:
        """Close all ports."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        transport = request.transport
        port = transport.get_extra_info("sockname")[1] if transport else 0
        kubelet = self._kubelets.get(port)
        if kubelet is None or not kubelet.connected.is_set():
            return web.Response(status=503, text="this node does not answer")
        return web.json_response(summary(kubelet, self._clock))


def summary(kubelet: Kubelet, clock: Clock) -> dict[str, Any]:
    """A kubelet's stats/summary (k8s.io/kubelet/pkg/apis/stats/v1alpha1), in part."""
    stamp = timestamp(clock.at(clock.now()) + kubelet.recorder.offset)
    images = kubelet.images
    disk = {"time": stamp, "availableBytes": images.available, "capacityBytes": images.capacity}
    interface = {
        "name": "eth0",
        "rxBytes": kubelet.received,
        "rxErrors": 0,
        "txBytes": int(kubelet.received * _SENT_SHARE),
        "txErrors": 0,
    }
    return {
        "node": {
            "nodeName": kubelet.name,
            "network": {"time": stamp, **interface, "interfaces": [interface]},
            "fs": {**disk, "usedBytes": images.capacity - images.available},
            "runtime": {"imageFs": {**disk, "usedBytes": images.image_bytes}},
        },
        "pods": [],
    }
