import re

import pytest

from infra.cluster import NODE_ROLES, STREAMING_ROLE
from infra.dead_man import PERMISSIONS
from infra.event_exporter import CONFIGURATION
from tests.infra.docs_tables import PAGE, updated
from tests.infra.stack_files import ROOT

TEXT = PAGE.read_text(encoding="utf-8")


def test_tables_are_what_the_code_says() -> None:
    assert updated(TEXT) == TEXT, "run .venv/bin/python -m tests.infra.docs_tables"


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert links
    assert all((PAGE.parent / link).exists() for link in links)


def test_dead_mans_permission_is_the_programs() -> None:
    assert all(f"`{permission}`" in TEXT for permission in PERMISSIONS)


def test_exporters_limits_are_the_programs() -> None:
    assert "maxEventAgeSeconds: 1200" in CONFIGURATION
    assert "kubeQPS: 100" in CONFIGURATION
    assert "1200 s, 100 requests a second" in TEXT


def test_nodes_have_as_many_roles_as_it_says() -> None:
    assert len(NODE_ROLES) == 2
    assert STREAMING_ROLE not in NODE_ROLES
    assert "one per stack, with two roles" in TEXT


@pytest.mark.parametrize("key", set(re.findall(r"pull-study:([a-z]+[A-Za-z]*)", TEXT)) - {"KEY"})
def test_keys_in_commands_exist(key: str) -> None:
    assert f"pull-study:{key}:" in (ROOT / "Pulumi.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["preview.yml"])
def test_workflows_that_it_names_exist(name: str) -> None:
    assert f".github/workflows/{name}" in TEXT
    assert (ROOT / ".github" / "workflows" / name).is_file()
