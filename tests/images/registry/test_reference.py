import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.errors import BadReferenceError
from images.registry.reference import Target, base_url, is_loopback, parse_source, parse_target

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ghcr.io/org/chonks:1.0", Target("ghcr.io", "org/chonks", "1.0")),
        ("127.0.0.1:5000/x", Target("127.0.0.1:5000", "x")),
        ("localhost/x:y", Target("localhost", "x", "y")),
        ("[::1]:5000/x:y", Target("[::1]:5000", "x", "y")),
        (
            f"us-central1-docker.pkg.dev/p/r/i:t@{DIGEST}",
            Target("us-central1-docker.pkg.dev", "p/r/i", "t", DIGEST),
        ),
    ],
)
def test_references_are_read_and_written_alike(text: str, expected: Target) -> None:
    assert parse_target(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    ["", "busybox", "library/busybox", "ghcr.io/", "ghcr.io/A:b", "ghcr.io/a:b:c", "http://a.b/c"],
)
def test_what_names_no_registry_is_refused(text: str) -> None:
    with pytest.raises(BadReferenceError, match="does not name a registry and a repository"):
        parse_target(text)


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("python:3.12", "docker.io/library/python:3.12"),
        ("library/python", "docker.io/library/python"),
        (f"org/app@{DIGEST}", f"docker.io/org/app@{DIGEST}"),
        ("ghcr.io/org/chonks:1.0", "ghcr.io/org/chonks:1.0"),
        ("localhost/x:y", "localhost/x:y"),
    ],
)
def test_an_image_that_is_read_may_be_short_as_for_docker(short: str, whole: str) -> None:
    assert str(parse_source(short)) == whole


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadReferenceError):
        assert str(parse_target(text)) == text


@pytest.mark.parametrize("name", ["127.0.0.1:5000", "127.9.9.9", "localhost:1", "[::1]:5000"])
def test_loopback_is_plain_http(name: str) -> None:
    assert is_loopback(name)
    assert base_url(name) == f"http://{name}"


@pytest.mark.parametrize("name", ["ghcr.io", "10.0.0.1:5000", "localhost.evil.com", "127.0.0.1.io"])
def test_anything_else_is_https(name: str) -> None:
    assert not is_loopback(name)
    assert base_url(name) == f"https://{name}"
