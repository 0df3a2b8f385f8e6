"""Where this machine gets packages from: mirrors, index, proxies, certificates.

Nothing here names a server: a mirror or an index always comes from the machine's own
configuration, so that a machine behind a company's mirror works with no setting.
"""

from __future__ import annotations

import configparser
import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from scripts import apt_sources
from scripts.problem import Problem

PYTHON_APT_TEMPLATE = Path("/usr/share/python-apt/templates/Debian.info")
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SET_MIRROR = "set HOTHOUSE_DEBIAN_MIRROR to the base address of a Debian mirror"


@dataclass(frozen=True)
class Source:
    """One entry of the machine's apt sources. ``signed_by``: a path, a key block or ``""``."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str


@dataclass(frozen=True)
class Archive:
    """A Debian archive: its base address, without a final slash, and who signs it."""

    url: str
    signed_by: str


def shown(url: str) -> str:
    """``url`` without the user name and password that it may hold, for messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


# --- apt ---------------------------------------------------------------------------------------


def apt_config() -> dict[str, str]:
    """The machine's apt configuration by lower-case name; ``{}`` where there is no apt."""
    if not shutil.which("apt-config"):
        return {}
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    found = re.findall(r'^(\S+) "(.*)";$', done.stdout, re.MULTILINE)
    return {name.lower(): value for name, value in found}


def apt_proxies(config: Mapping[str, str] | None = None) -> dict[str, str]:
    """apt's proxies as ``requests`` wants them: ``{"http": …, "https": …, "http://HOST": …}``."""
    config = apt_config() if config is None else config
    proxies: dict[str, str] = {}
    for scheme in ("http", "https"):
        default = config.get(f"acquire::{scheme}::proxy", "")
        # As in apt itself, https falls back to the proxy of http.
        default = default or (config.get("acquire::http::proxy", "") if scheme == "https" else "")
        if default and default.upper() != "DIRECT":
            proxies[scheme] = default
        for name, value in config.items():
            found = re.fullmatch(rf"acquire::{scheme}::proxy::([^:]+)", name)
            if found and value:
                proxies[f"{scheme}://{found[1]}"] = "" if value.upper() == "DIRECT" else value
    return proxies


def _resolved(uri: str) -> str:
    """The address behind apt's ``mirror+file:`` (as in Debian's cloud images), else ``uri``."""
    if uri.startswith("mirror+file:"):
        try:
            lines = Path(urlsplit(uri).path).read_text().splitlines()
        except OSError:
            return ""
        uri = next((line.split()[0] for line in lines if re.match(r"https?://", line)), "")
    return uri.rstrip("/")


def _sources(path: Path) -> Iterator[Source]:
    for fields in apt_sources.read(path):
        if "deb" in fields["Types"].split():
            for uri in fields["Uris"].split():
                yield Source(
                    _resolved(uri),
                    tuple(fields["Suites"].split()),
                    tuple(fields["Components"].split()),
                    fields.get("Signed-By", "").strip(),
                )


def machine_sources(config: Mapping[str, str] | None = None) -> list[Source]:
    """The machine's enabled binary apt sources, of both formats, in apt's own order."""
    config = apt_config() if config is None else config
    etc = Path(config.get("dir", "/")) / config.get("dir::etc", "etc/apt")
    files = [etc / config.get("dir::etc::sourcelist", "sources.list")]
    parts = etc / config.get("dir::etc::sourceparts", "sources.list.d")
    if parts.is_dir():
        files += sorted(parts.iterdir())
    sources: list[Source] = []
    for file in files:
        if file.suffix in (".list", ".sources") and file.is_file():
            with contextlib.suppress(OSError):
                sources += _sources(file)
    return [source for source in sources if source.uri.startswith(("http://", "https://"))]


def _labels() -> dict[str, str]:
    """Base address → archive, for the sources whose signed Release file says that it is Debian."""
    if not shutil.which("apt-get"):
        return {}
    form = "$(REPO_URI)\t$(ORIGIN)\t$(LABEL)"
    command = ["apt-get", "indextargets", "--format", form]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = {"Debian": "debian", "Debian-Security": "debian-security"}
    found = {}
    for line in done.stdout.splitlines():
        uri, origin, label = [*line.split("\t"), "", ""][:3]
        if origin:
            found[uri.rstrip("/")] = archives.get(label, "") if origin == "Debian" else ""
    return found


def _archive_of(source: Source, labels: Mapping[str, str]) -> str:
    """``debian``, ``debian-security``, or ``""`` for a source that isn't Debian's."""
    if source.uri in labels:
        return labels[source.uri]
    # No Release file yet (a fresh container): go by the names that mirrors use. Others have a
    # folder `debian` too, but not Debian's component and key.
    if "main" not in source.components or "debian-archive" not in (
        source.signed_by or "debian-archive"
    ):
        return ""
    last = urlsplit(source.uri).path.rpartition("/")[2]
    return last if last in ("debian", "debian-security") else ""


def _beside(url: str, archive: str) -> str:
    """The address of ``archive`` beside that of another archive of the same mirror."""
    return f"{url.rstrip('/').rpartition('/')[0]}/{archive}"


def debian_archives() -> dict[str, Archive]:
    """The archives ``debian`` and ``debian-security`` of this machine's mirror.

    In this order: ``HOTHOUSE_DEBIAN_MIRROR`` (and ``…_SECURITY``), the machine's apt sources,
    python-apt's template of Debian (on Ubuntu).

    :raises Problem: none of them is there.
    """
    keyring = str(DEBIAN_KEYRING) if DEBIAN_KEYRING.exists() else ""
    found: dict[str, Archive] = {}
    if mirror := os.environ.get("HOTHOUSE_DEBIAN_MIRROR"):
        found["debian"] = Archive(mirror.rstrip("/"), keyring)
    if mirror := os.environ.get("HOTHOUSE_DEBIAN_MIRROR_SECURITY"):
        found["debian-security"] = Archive(mirror.rstrip("/"), keyring)
    if "debian" not in found:
        labels = _labels()
        for source in machine_sources():
            if archive := _archive_of(source, labels):
                found.setdefault(archive, Archive(source.uri, source.signed_by or keyring))
    if "debian" not in found and PYTHON_APT_TEMPLATE.exists():
        text = PYTHON_APT_TEMPLATE.read_text(errors="replace")
        if base := re.search(r"^BaseURI: (https?://\S+)", text, re.MULTILINE):
            found["debian"] = Archive(base[1].rstrip("/"), keyring)
    if "debian" not in found:
        raise Problem("this machine's apt names no Debian mirror", SET_MIRROR)
    if "debian-security" not in found:
        main = found["debian"]
        found["debian-security"] = Archive(_beside(main.url, "debian-security"), main.signed_by)
    return found


def snapshot(archive_url: str, archive: str, date: str) -> str | None:
    """The base address of ``archive`` as it was at the end of ``date`` (``YYYY-MM-DD``).

    ``HOTHOUSE_SNAPSHOT`` names a snapshot server; else it is the neighbour of a mirror whose host
    is called ``deb``. None where neither holds.
    """
    base = os.environ.get("HOTHOUSE_SNAPSHOT", "").rstrip("/")
    parts = urlsplit(archive_url)
    if not base and parts.netloc.startswith("deb."):
        base = f"{parts.scheme}://snapshot.{parts.netloc.removeprefix('deb.')}"
    return f"{base}/archive/{archive}/{date.replace('-', '')}T235959Z" if base else None


# --- pip's index -------------------------------------------------------------------------------


@functools.cache
def pip_config() -> dict[str, str]:
    """pip's configuration files, merged as pip does: global, user, venv, ``PIP_CONFIG_FILE``.

    Read here, not by pip: a virtual environment made by uv holds no pip to ask.
    """
    home = Path.home()
    xdg = os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    files = [Path(folder) / "pip/pip.conf" for folder in xdg]
    files += [Path("/etc/pip.conf"), Path("/Library/Application Support/pip/pip.conf")]
    files += [home / ".pip/pip.conf", home / "Library/Application Support/pip/pip.conf"]
    files += [Path(os.environ.get("XDG_CONFIG_HOME", home / ".config")) / "pip/pip.conf"]
    files += [Path(sys.prefix) / "pip.conf"]
    chosen = os.environ.get("PIP_CONFIG_FILE")
    files = [] if chosen == os.devnull else files + ([Path(chosen)] if chosen else [])
    parser = configparser.RawConfigParser(strict=False)
    for file in files:
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError):
            raise Problem(f"{file} is no valid pip configuration", "correct or remove it") from None
    merged: dict[str, str] = {}
    for section in ("global", "download", "install"):
        if parser.has_section(section):
            merged |= {k.replace("_", "-"): v for k, v in parser.items(section) if v}
    return merged


def index_url() -> str:
    """The base address of the machine's package index, with a final slash."""
    env = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    named = next((os.environ[name] for name in env if os.environ.get(name)), "")
    # uv allows NAME=URL.
    named = re.sub(r"^[\w-]+=(?=https?://)", "", named)
    return (named or pip_config().get("index-url") or PYPI_SIMPLE_ENDPOINT).rstrip("/") + "/"


def certificates() -> str | None:
    """The machine's own file of certificates, or None for the tools' default."""
    env = ("REQUESTS_CA_BUNDLE", "PIP_CERT", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
    named = [os.environ.get(name) for name in env] + [pip_config().get("cert")]
    return next((name for name in named if name and Path(name).exists()), None)


def session(*, pool: int = 8) -> requests.Session:
    """A session with this machine's proxies and certificates, good for ``pool`` threads."""
    made = requests.Session()
    made.headers["User-Agent"] = "hothouse"
    # A server that compresses on the way would spoil sizes and ranges.
    made.headers["Accept-Encoding"] = "identity"
    adapter = requests.adapters.HTTPAdapter(pool_connections=pool, pool_maxsize=pool)
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    made.verify = certificates() or True
    if proxy := pip_config().get("proxy"):
        made.proxies = {"http": proxy, "https": proxy}
    return made


def trouble(error: Exception, url: str) -> Problem:
    """What ``error`` means to a person, when asking ``url`` has raised it."""
    host, text = urlsplit(url).hostname or url, str(error)
    if isinstance(error, requests.exceptions.ProxyError):
        status = re.search(r"\b(407|403|50\d)\b", text)
        if status and status[1] == "407":
            return Problem(
                f"the proxy wants a password for {host} (407)",
                "put user and password into your proxy setting",
            )
        if status and status[1] == "403":
            return Problem(
                f"the proxy forbids {host} (403)",
                "ask its keeper to allow it or use another mirror",
            )
        return Problem(
            f"the proxy for {host} can't be reached", "correct or unset http_proxy and https_proxy"
        )
    if isinstance(error, requests.exceptions.SSLError):
        return Problem(
            f"the certificate of {host} isn't trusted here",
            "name your organisation's certificates in SSL_CERT_FILE",
        )
    if re.search(r"NameResolution|getaddrinfo|Name or service not known|resolve|dns error", text):
        return Problem(f"the name {host} can't be resolved", "check this machine's DNS and network")
    if "refused" in text:
        return Problem(f"{host} refuses connections", "check the mirror and proxy settings")
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in text:
        return Problem(
            f"{host} doesn't answer in time",
            "check the network, then run it again; what came is kept",
        )
    return Problem(f"the connection to {host} broke", "run it again; what came is kept")


def refused(status: int, url: str) -> Problem:
    """What an HTTP status that isn't a success means to a person."""
    parts = urlsplit(url)
    host = parts.hostname or url
    if status == 407:
        return Problem(
            f"the proxy wants a password for {host} (407)",
            "put user and password into your proxy setting",
        )
    if status in (401, 403):
        return Problem(
            f"{host} refuses {parts.path} ({status})",
            "check the proxy's rules and the index's password",
        )
    if status == 404:
        return Problem(f"{host} has no {parts.path} (404)", "check the mirror or index setting")
    return Problem(
        f"{host} answers with an error ({status})",
        "wait a little and run it again; what came is kept",
    )
