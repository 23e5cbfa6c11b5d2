"""The bearer token of a kubeconfig's credential plugin, kept fresh in the background.

gke-gcloud-auth-plugin hands out one token for an hour, the same until 10 s before its end
(kubernetes/cloud-provider-gcp, cmd/gke-gcloud-auth-plugin). So a thread fetches a new one within
those seconds, before any request needs it; the plugin never runs twice at once, and a request
waits for it only where the token has expired or was refused. The protocol is client-go's
(https://kubernetes.io/docs/reference/access-authn-authz/authentication/, ExecCredential).
"""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from experiment.waiting import now

_PLUGIN_S = 60
_AHEAD_S = 60.0
_LAST_S = 9.0
"""Before the end, when gke-gcloud-auth-plugin gives a new token."""
_AGAIN_S = 1.0


class TokenError(Exception):
    """The plugin gave no token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and when it ends; None where the plugin does not say."""

    value: str
    ends_at: datetime | None


class FreshToken:
    """A token for several threads.

    Args:
        first: the token to begin with.
        fetch: returns a token; raises TokenError.
        clock: the time, in UTC.
    """

    def __init__(
        self,
        first: Token,
        fetch: Callable[[], Token | None],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._token = first
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        if first.ends_at:
            threading.Thread(target=self._run, name="token", daemon=True).start()

    def value(self) -> str:
        """Return the token; a new one if it has ended.

        Raises:
            TokenError: the plugin gave none.
        """
        token = self._token
        return token.value if self._left_s(token) > 0 else self.after(token.value)

    def after(self, refused: str) -> str:
        """Return another token than one that has ended or was refused: one fetch for all callers.

        A plugin may give the same again.

        Raises:
            TokenError: the plugin gave none.
        """
        with self._lock:
            if self._token.value == refused:
                self._token = self._fetch() or self._token
            return self._token.value

    def refresh(self) -> float:
        """Fetch a token if the present one ends soon; return the seconds until the next look."""
        if self._left_s(self._token) <= _AHEAD_S:
            with suppress(TokenError):  # asked again; a request that needs it reports the failure
                self.after(self._token.value)
        return pause_s(self._left_s(self._token))

    def close(self) -> None:
        """Fetch no more in the background."""
        self._closed.set()

    def _left_s(self, token: Token) -> float:
        return (token.ends_at - self._clock()).total_seconds() if token.ends_at else float("inf")

    def _run(self) -> None:
        pause = pause_s(self._left_s(self._token))
        while not self._closed.wait(pause):
            pause = self.refresh()


def pause_s(left_s: float) -> float:
    """Return the seconds until the next fetch, from those that the token is still valid."""
    for moment in (_AHEAD_S, _LAST_S):
        if left_s > moment:
            return left_s - moment
    return _AGAIN_S


def run_plugin(
    plugin: Mapping[str, Any], cluster: Mapping[str, Any], folder: str | None
) -> Token | None:
    """Run a credential plugin; None if it gives a certificate and no token.

    Args:
        plugin: `exec` of a kubeconfig's user.
        cluster: of the kubeconfig, for plugins that ask for it.
        folder: where to run it; None for the current one.

    Raises:
        TokenError: it failed, took more than a minute, or its answer is not an ExecCredential.
    """
    version, command = str(plugin.get("apiVersion")), str(plugin.get("command"))
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = dict(cluster)
    info = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
    added = {str(each["name"]): str(each["value"]) for each in plugin.get("env") or []}
    try:
        done = subprocess.run(
            [command, *map(str, plugin.get("args") or [])],
            cwd=folder,
            env={**os.environ, **added, "KUBERNETES_EXEC_INFO": info},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PLUGIN_S,
            check=True,
        )
        status = json.loads(done.stdout)["status"]
        ends_at = status.get("expirationTimestamp")
        if "token" not in status:
            return None
        return Token(str(status["token"]), datetime.fromisoformat(ends_at) if ends_at else None)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        why = f"it exited with {error.returncode}{': ' + said[-1] if said else ''}"
    except subprocess.TimeoutExpired:
        why = f"it did not end within {_PLUGIN_S} s"
    except OSError as error:
        why = str(error.strerror or error)
    except (ValueError, KeyError, TypeError, AttributeError):
        why = "its answer is not an ExecCredential"
    raise TokenError(f"the kubeconfig's credential plugin {command} failed: {why}")
