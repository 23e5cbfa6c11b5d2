import json

import pytest

from experiment.preview.difference import Change
from experiment.preview.previews import StackPreview
from experiment.preview.report import report
from schema.output import Output

UPDATE = Change("update", "gcp:container/nodePool:NodePool", "measured", ("nodeConfig.diskSizeGb",))
CREATE = Change("create", "gcp:container/cluster:Cluster", "cluster")
SMALL = StackPreview(
    "size-4",
    changes=(UPDATE,),
    unchanged=18,
    nodes={"measured": 4, "monitoring": 1},
    machine_type="n1-standard-16",
    usd_per_hour=3.40,
    usd_per_hour_before=3.34,
)
LARGE = StackPreview("size-256", changes=(UPDATE,), unchanged=18, usd_per_hour=198.72)
NEW = StackPreview("new", changes=(CREATE,), warnings=("a | b", "a | b"), broken=("has 400 nodes",))
BAD = StackPreview("bad", problem="Stack bad sets\n  something")


def markdown(*previews: StackPreview, against: str = "main", deleted: tuple[str, ...] = ()) -> str:
    return report(previews, against=against, deleted=deleted, output=Output.MARKDOWN)


def test_table_has_a_row_a_stack_with_counts_and_both_prices() -> None:
    assert "| size-4 | 0 | 1 | 0 | 18 | 4 + 1 | n1-standard-16 | 3.34 -> 3.40 |  |" in (
        markdown(SMALL)
    )


def test_a_change_of_several_stacks_is_one_line() -> None:
    line = "update NodePool `measured` (nodeConfig.diskSizeGb)"
    assert f"- every stack: {line}" in markdown(SMALL, LARGE, NEW)
    other = StackPreview("size-8", unchanged=19)
    assert f"- size-4, size-256: {line}" in markdown(SMALL, LARGE, other)


def test_a_new_stack_is_not_listed_resource_by_resource() -> None:
    assert "**Changes**" not in markdown(NEW)


def test_no_cell_can_break_the_table() -> None:
    rows = [line for line in markdown(NEW, BAD).splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    assert {line.replace("\\|", "").count("|") for line in rows} == {10}


def test_broken_guards_and_problems_stand_under_it() -> None:
    text = markdown(NEW, BAD)
    assert "BREAKS A GUARD: has 400 nodes; a \\| b |" in text
    assert "**Broken guards (infra/policy.py, infra/limits.yaml)**\n\n- new: has 400 nodes" in text
    assert "**Cannot be previewed**\n\n- bad: Stack bad sets\n  something" in text


def test_many_changed_properties_are_counted() -> None:
    paths = tuple("abcdefgh")
    change = Change("update", "gcp:storage/bucket:Bucket", "archive", paths)
    text = markdown(StackPreview("s", changes=(change,), unchanged=1))
    assert "(a, b, c, d, e, f, 2 more)" in text


def test_shows_what_it_is_compared_with_and_deleted_stacks() -> None:
    assert "Compared with the program and stack files of main;" in markdown(SMALL)
    assert "Compared with nothing: every resource is new;" in markdown(NEW, against="")
    assert "Deleted since main: size-2." in markdown(SMALL, deleted=("size-2",))


@pytest.mark.parametrize("form", list(Output))
def test_shows_which_providers_are_official(form: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_DEBUG_PROVIDERS", "gcp:1234")
    text = report([SMALL], against="", deleted=(), output=form)
    assert "10.2.0 (a fake, not the official plugin)" in text
    assert "4.34.2 (official plugin)" in text


def test_text_has_the_same_rows_in_columns() -> None:
    lines = report([SMALL, NEW], against="", deleted=(), output=Output.TABLE).splitlines()
    assert lines[1].split() == [
        "size-4", "0", "1", "0", "18", "4", "+", "1", "n1-standard-16", "3.34", "->", "3.40",
    ]  # fmt: skip
    assert lines[0].index("machine type") == lines[1].index("n1-standard-16")


def test_json_has_every_field() -> None:
    text = report([SMALL], against="main", deleted=["size-2"], output=Output.JSON)
    stack, change, deleted, *providers = json.loads(text)
    assert stack["nodes"] == {"measured": 4, "monitoring": 1}
    assert change["properties"] == ["nodeConfig.diskSizeGb"]
    assert deleted == {"table": "deleted", "stack": "size-2", "against": "main"}
    assert [each["provider"] for each in providers] == ["gcp", "kubernetes"]


@pytest.mark.parametrize("form", list(Output))
def test_a_name_cannot_drive_the_terminal(form: Output) -> None:
    changed = Change("update", "gcp:container/nodePool:NodePool", "a\x1b]0;b\x07", ("\u202ec",))
    named = [StackPreview("s", changes=(changed,), unchanged=1)]
    text = report(named, against="main", deleted=(), output=form)
    assert ("a\\u001b]0;b" if form is Output.JSON else "a\\x1b]0;b") in text
    assert {"\x1b", "\x07", "\u202e"}.isdisjoint(text)
