"""Draws figures without a browser, in a process of its own.

V8 needs 150 MB: the report's process has returned its memory for tables before, but not to the
system. Run as a program it reads {"figures": {key: specification}} from standard input and writes
the page's Vega bundle and a picture of each figure as JSON.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schema.errors import UserError

_TIMEOUT_S = 600

_LARGE_SVG = 60_000
"""A longer SVG, of many marks, may be larger than a PNG."""


class DrawingError(UserError):
    """Figures cannot be drawn."""


@dataclass(frozen=True)
class Drawn:
    """The program that draws a page's figures in a browser, and drawings for one without scripts.

    Attributes:
        bundle: Vega, Vega-Lite and Vega-Embed as one script.
        pictures: the drawing of each figure by its key, as the address of an image (data:), which
            runs no script and loads nothing: SVG, or PNG where that is smaller.
    """

    bundle: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)


class Drawing:
    """The process that draws, started at once: the bundle takes it a second, in parallel.

    Use it as a context: it ends the process.
    """

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, __file__], text=True, encoding="utf-8",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise _failed(str(error)) from error

    def __enter__(self) -> "Drawing":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def draw(self, figures: Mapping[str, Mapping[str, Any]]) -> Drawn:
        """Draw complete Vega-Lite specifications, once.

        Raises:
            DrawingError: the process failed, for example for lack of memory.
        """
        said = ""
        try:
            answer, said = self._process.communicate(json.dumps({"figures": figures}), _TIMEOUT_S)
            drawn = json.loads(answer)
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            raise _failed((said.strip() or str(error)).splitlines()[-1]) from error
        return Drawn(drawn["bundle"], drawn["pictures"])


def _failed(why: str) -> DrawingError:
    return DrawingError(
        f"The figures cannot be drawn: {why}.",
        "pull-study-analysis tables writes all numbers without figures",
    )


def _bundle() -> str:
    import vl_convert  # noqa: PLC0415 (in the process of its own)

    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    for address in (
        "https://vega.github.io/editor/",
        "https://vega.github.io/schema/vega/v6.json",
        "https://github.com/vega/vega-lite/issues/2415",
    ):
        bundle = bundle.replace(address, "")
    return bundle.replace("</script", "<\\/script")


def _picture(spec: dict[str, Any]) -> str:
    """Return a drawing as the address of an image."""
    import vl_convert  # noqa: PLC0415

    svg = vl_convert.vegalite_to_svg(spec)
    kind, content = "svg+xml", svg.encode()
    if len(content) > _LARGE_SVG:
        png = vl_convert.svg_to_png(svg)
        kind, content = min((kind, content), ("png", png), key=lambda each: len(each[1]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _main() -> None:
    bundle = _bundle()
    _picture({"data": {"values": []}, "mark": "point"})  # starts what draws while nothing waits
    figures = json.load(sys.stdin)["figures"]
    pictures = {key: _picture(spec) for key, spec in figures.items()}
    json.dump({"bundle": bundle, "pictures": pictures}, sys.stdout)


if __name__ == "__main__":
    _main()
