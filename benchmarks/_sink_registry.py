"""A registry that keeps nothing: it reads uploads, counts them and answers as a registry does.

For measuring the memory and speed of a push of more bytes than this machine's disk should hold.

    python -m benchmarks._sink_registry    prints its port, then the bytes received at the end
"""

import asyncio
import contextlib
import sys
from urllib.parse import parse_qs, urlsplit

_BUFFER = 4 << 20
_EMPTY = b"Content-Length: 0\r\n"


class Sink:
    """Counts the bytes of blobs."""

    def __init__(self) -> None:
        self.received = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().split("\r\n")
                method, url, _ = request.split(" ")
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                length = await _drain(reader, headers)
                self.received += length
                writer.write(_answer(method, url))
                await writer.drain()
        writer.close()


async def _drain(reader: asyncio.StreamReader, headers: dict[str, str]) -> int:
    if headers.get("transfer-encoding") != "chunked":
        length = int(headers.get("content-length", "0"))
        await reader.readexactly(length)
        return length
    total = 0
    while length := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(length + 2)
        total += length
    await reader.readexactly(2)
    return total


def _answer(method: str, url: str) -> bytes:
    parts = urlsplit(url)
    location = b"Location: /v2/sink/blobs/uploads/1\r\n"
    match method:
        case "POST" | "PATCH":
            return b"HTTP/1.1 202 Accepted\r\n" + location + _EMPTY + b"\r\n"
        case "PUT":
            digest = parse_qs(parts.query).get("digest", [""])[0]
            named = f"Docker-Content-Digest: {digest}\r\n".encode() if digest else b""
            return b"HTTP/1.1 201 Created\r\n" + named + _EMPTY + b"\r\n"
        case _:
            return b"HTTP/1.1 404 Not Found\r\n" + _EMPTY + b"\r\n"


async def main() -> None:
    """Serve until standard input ends."""
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, limit=_BUFFER)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    sys.stdout.write(f"{sink.received}\n")


if __name__ == "__main__":
    asyncio.run(main())
