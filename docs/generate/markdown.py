"""Tables in Markdown, and their places on a page: between `<!-- NAME -->` and `<!-- /NAME -->`."""

from collections.abc import Iterable, Mapping


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """Return a page with its tables replaced.

    Raises:
        ValueError: the page has no place for one.
    """
    for name, text in tables.items():
        before, start, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not start or not end:
            raise ValueError(f"the page has no place for the table {name}")
        page = before + start + text + end + after
    return page
