"""Study images: speed of build and push against what the machine can do, and memory.

The bounds and the push are taken in turns, several times, and the median of each turn's ratio is
told, so that a machine's other work weighs on all alike. The bounds: SHA-256 of the same tar twice
plus the same compressor on all cores; and the registry's own rate of taking blobs of that size.
The registry runs on the same machine, so on few cores the two are taken at once as well.
"""

import hashlib
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import requests

from benchmarks import Figure
from images.make.build import build_image
from images.make.busybox import find_busybox
from images.make.compression import BLOCK, compressor
from images.make.content import Piece
from images.make.layer_tar import gather, layer_tar
from images.make.plan import Compression, ImagePlan, plan_image
from images.make.push import push_plan
from images.make.remote import open_remote
from images.registry.client import Registry
from images.registry.reference import Target
from images.registry.upload import upload_blob
from images.verify import verify_image
from schema.image_tag import ImageTag, parse_tag
from schema.study import load_study

_ROOT = Path(__file__).parent.parent
_TURNS = 5
_SPEED = ImageTag(8, 400_000_000)
_MATRIX_SCALE = 0.01
_MATRIX_ENV = "PULL_STUDY_DATA"
_START_SECONDS = 20
_SMALL, _LARGE = 100_000_000, 20_000_000_000
_MEMORY = (
    "import re, sys\n"
    "from images.make.build import build_image\n"
    "from images.registry.reference import parse_target\n"
    "from schema.image_tag import ImageTag\n"
    "build_image(ImageTag(9, int(sys.argv[1])), parse_target(sys.argv[2]))\n"
    # Not ru_maxrss, which begins with the memory of the process that started this one.
    "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
)


def measure() -> list[Figure]:
    """Measure on this machine; takes some minutes, most of them for 20 GB."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="bench-journal-")
    try:
        return [*_speeds(), *_memory(), *_matrix()]
    finally:
        shutil.rmtree(os.environ.pop("XDG_CACHE_HOME"), ignore_errors=True)


def _speeds() -> Iterator[Figure]:
    megabytes = _SPEED.size_bytes / 1e6
    for kind, level in ((Compression.GZIP, 6), (Compression.ZSTD, 3)):
        ratios, rates, own, shared = [], [], [], []
        for turn in range(_TURNS):
            tag = ImageTag(_SPEED.layers, _SPEED.size_bytes, f"{kind}{level}st{turn}")
            plan = plan_image(tag)
            blocks = [list(gather(layer_tar(layer), BLOCK)) for layer in plan.layers]
            before = _cpu_s()
            tar = list(chain.from_iterable(blocks))
            packed, computing = _compute(plan, tar)
            bound_cpu = _cpu_s() - before
            with _registry() as name:
                storing = _store(name, packed, plan)
            with _registry() as name, ThreadPoolExecutor(1) as beside:
                began = time.perf_counter()
                stored = beside.submit(_store, name, packed, plan)
                _compute(plan, tar)
                stored.result()
                both = time.perf_counter() - began
            with _registry() as name:
                before = _cpu_s()
                began = time.perf_counter()
                push_plan(plan, [Target(name, "bench", str(tag))], find_busybox())
                took = time.perf_counter() - began
                own.append((_cpu_s() - before) / bound_cpu)
            ratios.append(max(computing, storing) / took)
            shared.append(both / took)
            rates.append(megabytes / took)
        what = f"build and push, {kind} {level}, {megabytes:.0f} MB in {_SPEED.layers} layers"
        yield Figure(what, statistics.median(rates), "MB/s")
        share = 100 * statistics.median(ratios)
        yield Figure(f"{what}: of the slower bound", share, "%", "at least 80 %")
        # The registry computes digests too, and here on the same cores.
        share = 100 * statistics.median(shared)
        yield Figure(f"{what}: of both bounds' work at once on these cores", share, "%")
        cpu = 100 * statistics.median(own)
        yield Figure(f"{what}: processor time, of hashing and compressing alone", cpu, "%")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _compute(plan: ImagePlan, blocks: list[Piece]) -> tuple[list[bytes], float]:
    """The compressed blocks, and the seconds to make them and to hash the tar twice."""
    compress = compressor(plan.compression, plan.level)

    def work(block: Piece) -> bytes:
        hashlib.sha256(block).digest()
        hashlib.sha256(block).digest()
        return compress(block)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        began = time.perf_counter()
        packed = list(pool.map(work, blocks))
        return packed, time.perf_counter() - began


def _store(name: str, packed: list[bytes], plan: ImagePlan) -> float:
    """Seconds that the registry takes for blobs of the layers' sizes."""
    count = len(plan.layers)
    each = len(packed) // count
    with (
        Registry(name, push=True) as registry,
        ThreadPoolExecutor((os.cpu_count() or 1) + 2) as pool,
    ):
        began = time.perf_counter()
        parts = [packed[n * each : (n + 1) * each] for n in range(count)]
        list(pool.map(lambda part: upload_blob(registry, "bench", lambda: iter(part)), parts))
        return time.perf_counter() - began


def _memory() -> Iterator[Figure]:
    for size in (_SMALL, _LARGE):
        with _sink() as sink:
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", _MEMORY, str(size), f"{sink.name}/bench"],
                cwd=_ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            took = time.perf_counter() - began
        if sink.received < size / 2:
            raise RuntimeError(f"the sink got {sink.received} bytes of {size} half compressed")
        what = f"{size / 1e9:g} GB into a sink that counts"
        mib = int(done.stdout) / 1024
        yield Figure(f"{what}: memory, peak", mib, "MiB", "at most 200 MB (191 MiB)")
        yield Figure(f"{what}: rate", size / 1e6 / took, "MB/s")


def _matrix() -> Iterator[Figure]:
    folder = Path(os.environ.get(_MATRIX_ENV, _ROOT.parent / "shared" / "data"))
    path = folder / "container-chonks" / "studies" / "pulling-test-test.json"
    if not path.exists():
        return
    tags = [parse_tag(tag) for group in load_study(path).images for tag in group.tags]
    with _registry() as name:
        target = Target(name, "matrix")
        began = time.perf_counter()
        for tag in tags:
            build_image(tag, target, scale=_MATRIX_SCALE)
        took = time.perf_counter() - began
        what = f"the original's {len(tags)} images at scale {_MATRIX_SCALE:g}"
        yield Figure(f"{what}: build and push", took, "s", "at most 120 s")
        began = time.perf_counter()
        wrong = 0
        for tag in tags:
            with open_remote(target.with_tag(str(tag))) as remote:
                wrong += any(verify_image(remote).faults)
        yield Figure(f"{what}: verify", time.perf_counter() - began, "s")
        yield Figure(f"{what}: images with faults", wrong, "", "0")


@contextmanager
def _registry() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bench-registry-") as place:
        port = _free_port()
        config = Path(place) / "config.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {place}/data}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}'}}\n"
        )
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _await(f"http://127.0.0.1:{port}/v2/")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


@dataclass(slots=True)
class _Sink:
    name: str
    received: int = 0


@contextmanager
def _sink() -> Iterator[_Sink]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._sink_registry"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the sink has no pipes")
        sink = _Sink(f"127.0.0.1:{process.stdout.readline().strip()}")
        yield sink
        process.stdin.close()
        sink.received = int(process.stdout.read())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(requests.ConnectionError):
            requests.get(url, timeout=5)
            return
        time.sleep(0.05)
    raise RuntimeError(f"docker-registry did not answer within {_START_SECONDS} s")
