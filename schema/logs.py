"""What `-v` and `--log-level` show on standard error: requests, retries and programs started.

Only the loggers of `LOGGERS` are heard at these levels, since others, such as the Kubernetes
client's, log bodies. Secrets are replaced in every line of every logger.
"""

import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TextIO

from schema.inert import visible

LOG = logging.getLogger("pull_study")
"""The logger of all programs of this project."""
LOGGERS = (LOG.name, "urllib3")
"""Every HTTP request goes through urllib3; Cloud Logging's gRPC is logged by its own module."""
LOG_LEVEL_VARIABLE = "PULL_STUDY_LOG_LEVEL"

_SENSITIVE = r"(?:token|passw|passphrase|secret|credential|api[_-]?key|private[_-]?key)[\w.-]{0,40}"
"""How a name ends; bounded, since a foreign line could take minutes otherwise."""
_SECRETS = (
    re.compile(r"(?s)(-----BEGIN )(?:(?!-----END).)*"),
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[^\s'\",]+"),
    re.compile(r"([?&][^=&\s\"]+=)[^&\s\"']+"),  # a signed URL, a page token: of any parameter
    re.compile(r"(://)[^/@\s]+(?=@)"),
    re.compile(rf"(?i)({_SENSITIVE}[\"']?\s*[=:]\s*[\"']?)[^\s\"',&]+"),
    re.compile(rf"(?i)(--[\w.-]{{0,40}}{_SENSITIVE} )(?!--[a-z])\S+"),
    re.compile(r"(\b(?:ya29\.|eyJ))[\w.-]+"),
)
_SECRET_VARIABLE = re.compile(rf"(?i).*{_SENSITIVE}")
_SHORTEST_SECRET = 6
"""Characters; a shorter value of a variable would hide parts of ordinary words."""
_HIDDEN = "[hidden]"


class LogLevel(StrEnum):
    """The least severe lines that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def without_secrets(text: str) -> str:
    """Return a line with credentials replaced: by their form, or as a value of a variable."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.fullmatch(name):
            text = text.replace(value, _HIDDEN)
    return text


def start_logging(level: LogLevel) -> None:
    """Show log lines of this level and above on standard error, from now on."""
    if _HANDLER not in logging.root.handlers:
        logging.root.addHandler(_HANDLER)
        sys.addaudithook(_audited)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(level.upper())


class _Stderr(logging.StreamHandler[TextIO]):
    """Standard error as it is when a line is logged; one that is closed or full ends nothing."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr

    def format(self, record: logging.LogRecord) -> str:
        return visible(without_secrets(super().format(record)), keep="\n\t")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        del record


_HANDLER = _Stderr()
_HANDLER.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))


def _audited(event: str, arguments: Sequence[object]) -> None:
    """Log each program that is started, wherever that is done (sys.audit's subprocess.Popen)."""
    if event == "subprocess.Popen" and LOG.isEnabledFor(logging.DEBUG):
        _, command, folder, _ = arguments
        words = [command] if isinstance(command, str | bytes | os.PathLike) else command
        text = shlex.join(os.fsdecode(word) for word in words)  # type: ignore[attr-defined]
        LOG.debug("start %s%s", text, f" in {os.fsdecode(folder)}" if folder else "")  # type: ignore[arg-type]
