from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from starlette.applications import Starlette

from images.reference import Target
from rehearsal import processes, registry
from rehearsal.mirror import ImageMaker, mirror_routes
from rehearsal.registry import LocalRegistry
from schema.image_tag import parse_tag
from tests.rehearsal.local_google import Loopback
from tools.packages import PACKAGES

pytestmark = pytest.mark.skipif(
    not next(each for each in PACKAGES if each.name == "docker-registry").path(),
    reason="docker-registry is not installed",
)

NAME = "owner/container-chonks"
TAG = "2-layers-size-40000000-bytes"
OCI = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
