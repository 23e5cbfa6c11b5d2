"""The programs that come first on PATH in a rehearsal, and Pulumi's folder of plugins.

- skopeo is pointed to the mirror.
- pulumi is the one that tools/ locates, with a language host beside it: the official one where
  pulumi is installed with it, else this project's own.
- Provider plugins that the user has installed are linked; the others are replaced by fakes.
- gke-gcloud-auth-plugin, which on GKE prints the Google user's access token, prints one of
  rehearsal.machine.tokens: the same kubeconfig works here, with an administrator's rights.
"""

import os
import secrets
import shlex
import shutil
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from rehearsal.machine.home import Home
from rehearsal.machine.tokens import LAST_S, OVERLAP_S
from tools import packages
from tools.programs import locate

PROVIDERS = {"gcp": "pulumi-gcp", "kubernetes": "pulumi-kubernetes"}
"""Provider by name: the Python package whose version its plugin must have."""

_LANGUAGE_HOST = "pulumi-language-python"


def write_programs(home: Home) -> None:
    home.programs.mkdir(exist_ok=True)
    write_plugin(home)
    skopeo = next(each for each in packages.PACKAGES if each.name == "skopeo").path()
    if skopeo:  # its option is older than its variable for the same thing
        logins = home.folder / "no-logins.json"  # the user's own are for no mirror, if readable
        logins.write_text("{}", encoding="ascii")
        command = (
            f'exec env REGISTRY_AUTH_FILE="{logins}" '
            f'{skopeo} --registries-conf "{home.registries_conf}" "$@"'
        )
        _write_script(home.programs / "skopeo", command)
    write_pulumi(home.programs)


def write_pulumi(folder: Path) -> None:
    """Write pulumi and a language host into a folder, unless pulumi came with the official one."""
    pulumi = locate("pulumi").path
    if (pulumi.parent / _LANGUAGE_HOST).exists():
        return
    _link(pulumi.resolve(), folder / "pulumi")  # it looks for language hosts beside it
    command = f'exec {shlex.quote(sys.executable)} -P -m rehearsal.pulumi.language_host "$@"'
    _write_script(folder / _LANGUAGE_HOST, command)


def official_plugin(name: str) -> Path | None:
    """Return the folder of a provider's official plugin, in the SDK's version, if installed."""
    users = Path(os.environ.get("PULUMI_HOME", "") or Path.home() / ".pulumi")
    folder = users / "plugins" / f"resource-{name}-v{version(PROVIDERS[name])}"
    return folder if (folder / f"pulumi-resource-{name}").is_file() else None


def link_plugins(pulumi_home: Path) -> set[str]:
    """Link the official provider plugins that the user has; return their names."""
    plugins = pulumi_home / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    found = {name: folder for name in PROVIDERS if (folder := official_plugin(name))}
    for folder in found.values():
        # Pulumi skips a plugin's folder that is a link.
        (plugins / folder.name).mkdir()
        for each in folder.iterdir():
            (plugins / folder.name / each.name).symlink_to(each)
    return set(found)


def _write_script(path: Path, command: str) -> None:
    path.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    path.chmod(0o755)


def _link(program: Path, path: Path) -> None:
    with suppress(OSError):  # another file system
        path.hardlink_to(program)
        return
    shutil.copy2(program, path)


AUTH_PLUGIN = "gke-gcloud-auth-plugin"

_AUTH_SCRIPT = """\
#!/bin/sh
# Without this argument the real plugin uses gcloud's own login, which a rehearsal does not have.
if [ "$*" != --use_application_default_credentials ]; then
    echo 'print credential failed with error: no gcloud account is logged in' >&2
    exit 1
fi
# Answers in the version of the ExecCredential API that is requested (client-go, plugin/exec).
case "$KUBERNETES_EXEC_INFO" in
*'client.authentication.k8s.io/v1"'*) version=v1 ;;
*) version=v1beta1 ;;
esac
end=$((($(date +%%s) + %(overlap)d) / %(last)d * %(last)d + %(last)d))
printf '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/%%s", ' "$version"
printf '"status": {"token": "%(secret)s.%%s", "expirationTimestamp": "%%s"}}\\n' "$end" \\
    "$(date -u -d "@$end" +%%Y-%%m-%%dT%%H:%%M:%%SZ)"
"""


def write_plugin(home: Home) -> None:
    """Write the secret of the clusters' tokens, and the plugin that prints a token."""
    secret = secrets.token_urlsafe(32)
    _write(home.token_secret, secret, 0o600)
    home.programs.mkdir(exist_ok=True)
    values = {"secret": secret, "last": LAST_S, "overlap": OVERLAP_S}
    _write(home.programs / AUTH_PLUGIN, _AUTH_SCRIPT % values, 0o700)


def _write(path: Path, text: str, mode: int) -> None:
    path.touch(mode=mode)
    path.write_text(text, encoding="ascii")
