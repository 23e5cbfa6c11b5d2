import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from infra.config import parse_settings
from infra.settings import Settings
from tests.infra.stack_files import declared_keys, stack_files, stack_of, stacks, values_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TYPES = {"integer": int, "boolean": bool, "string": str, "object": dict, "array": list}


def test_every_cluster_of_the_study_has_a_file() -> None:
    sizes = {f"size-{nodes}" for nodes in (4, 8, 16, 32, 64, 128, 256, 1000)}
    variants = {
        "size-4-n1-standard-64", "size-16-local-ssd", "size-16-streaming", "size-16-parallel-pulls",
        "size-16-minicluster", "size-16-parallel-unpack", "size-16-preloaded",
        "size-16-pull-through",
    }  # fmt: skip
    assert sizes | variants <= set(stacks())


@pytest.mark.parametrize("stack", stacks())
def test_file_makes_valid_settings_with_as_many_nodes_as_its_name_says(stack: str) -> None:
    settings = parse_settings(values_of(stack), stack=stack, project="a-project", now=NOW)
    match = re.match(r"size-(\d+)", stack)
    assert match is not None
    assert settings.node_count == int(match[1])


@pytest.mark.parametrize("path", stack_files(), ids=stack_of)
def test_file_is_in_the_clis_own_layout(path: Path) -> None:
    # Values as strings, keys sorted, the salt last: so no command rewrites the file.
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    assert list(content) == ["config", "encryptionsalt"]
    assert all(isinstance(value, str) for value in content["config"].values())
    assert list(content["config"]) == sorted(content["config"])


@pytest.mark.parametrize("path", stack_files(), ids=stack_of)
def test_file_is_a_few_lines_without_a_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 7
    assert "secure:" not in text


class TestKeys:
    def test_are_the_settings_fields(self) -> None:
        fields = {
            field.alias for name, field in Settings.model_fields.items()
            if name not in {"stack", "project"}
        }  # fmt: skip
        assert set(declared_keys()) == fields

    @pytest.mark.parametrize("key", declared_keys())
    def test_have_a_type_a_description_and_the_settings_default(self, key: str) -> None:
        schema = declared_keys()[key]
        name, field = next(item for item in Settings.model_fields.items() if item[1].alias == key)
        assert len(schema["description"]) > 20
        if field.is_required():
            assert (name, "default" in schema) == ("node_count", False)
            return
        expected = "" if field.default is None else field.default
        expected = list(expected) if isinstance(expected, tuple) else expected
        assert schema["default"] == expected
        assert type(schema["default"]) is TYPES[schema["type"]]
        TypeAdapter(field.rebuild_annotation()).validate_python(schema["default"] or field.default)
