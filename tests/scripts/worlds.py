"""A tiny signed Debian archive, a package index, and a checkout's images folder on top of them."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import hashlib
import io
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lying_server import LyingServer

from scripts import install, lock, locks, mirrors, release, resolve_wheels
from scripts.problem import Problem

SUITES = {"debian": ("trixie", "trixie-updates"), "debian-security": ("trixie-security",)}
INPUTS = {
    "base/packages.in": "# suite: trixie\n# layer: bootstrap\nbuilder\n# layer: base\npython3\n",
    "tensorflow/overrides.in": "tensorflow ; python_version < '3'\n",
    "tensorflow/requirements.in": (
        "# layer: runtime\nnumpy\n# layer: keras\nkeras\n# layer: cudnn cuda\nnvidia-cudnn-cu12\n"
        "# layer: tensorflow cpu\ntensorflow-cpu>=2  # a reason\n"
        "# layer: tensorflow cuda\ntensorflow[and-cuda]>=2\n"
    ),
    "jupyter/requirements.in": "# layer: science\nscipy\n# layer: jupyter\njupyterlab\n",
}


def keyring_deb(public: Path) -> bytes:
    """A package that brings a keyring, as Debian's own does: the rest of it nobody unpacks."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        info = tarfile.TarInfo("./usr/share/keyrings/debian-archive-keyring.pgp")
        info.size = public.stat().st_size
        tar.addfile(info, io.BytesIO(public.read_bytes()))
    data = buffer.getvalue()
    head = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
    return b"!<arch>\n" + head + data + b"\n" * (len(data) % 2)


@dataclass(frozen=True)
class Keys:
    """A signing key of the test's own; its public half is in ``public``."""

    folder: Path

    @property
    def public(self) -> Path:
        return self.folder / "debian-archive-test.gpg"

    @property
    def fingerprint(self) -> str:
        command = [*self.gpg, "--with-colons", "--list-keys"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return re.search(r"^fpr:+([0-9A-F]{40}):", done.stdout, re.MULTILINE)[1]

    @property
    def gpg(self) -> list[str]:
        return ["gpg", "--homedir", str(self.folder), "--batch", "--quiet", "--no-tty"]

    def sign(self, text: str, *options: str) -> bytes:
        """Clear-sign a text as Debian does its InRelease."""
        return subprocess.run(
            [*self.gpg, *options, "--clearsign"], input=text.encode(), capture_output=True,
            check=True,
        ).stdout


@contextlib.contextmanager
def new_key(expires: str = "never", *options: str) -> Iterator[Keys]:
    # Short, because gpg's socket lies in it.
    with tempfile.TemporaryDirectory(prefix="hh-") as folder:
        made = Keys(Path(folder))
        make = ["--passphrase", "", "--quick-gen-key", "test@hothouse.invalid", "rsa2048", "sign"]
        subprocess.run([*made.gpg, *options, *make, expires], check=True, capture_output=True)
        subprocess.run([*made.gpg, "-o", str(made.public), "--export"], check=True)
        os.chmod(folder, 0o755)
        try:
            yield made
        finally:
            subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)


@pytest.fixture(scope="session")
def keys() -> Iterator[Keys]:
    """What signs the tiny archive. A bare Debian checks signatures but makes none: installs gpg."""
    if not shutil.which("gpg"):
        if os.getuid() or not shutil.which("apt-get"):
            pytest.skip("not run: no gpg here to sign an archive with; install the package gpg")
        install.apt_get("reading the package lists", "update")
        install.apt_get("installing gpg for the tests", "install", "--yes",
                        "--no-install-recommends", "gpg", "gpg-agent")
    with new_key() as made:
        yield made


@pytest.fixture(scope="session")
def stranger() -> Iterator[Keys]:
    """A key that nobody trusts."""
    with new_key() as made:
        yield made


HOUR = datetime.timedelta(hours=1)


def at(moment: datetime.datetime) -> str:
    """A date as Debian writes it."""
    return email.utils.format_datetime(moment).replace("+0000", "UTC")


@dataclass
class World:
    """A mirror, an index and a checkout's images folder."""

    server: LyingServer
    keys: Keys
    images: Path
    debs: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)

    def deb(
        self, name: str, version: str, more: str = "", archive: str = "debian",
        content: bytes | None = None,
    ) -> str:
        """Publish a package in place of its older version; returns its path on the server."""
        path = f"/{archive}/pool/main/{name[0]}/{name}/{name}_{version.split(':')[-1]}_amd64.deb"
        if name in self.debs:
            del self.server.files[self.debs[name][1]]
        content = content or f"{name} {version}".encode()
        digest = self.server.add(path, content)
        file = path.removeprefix(f"/{archive}/")
        stanza = (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n{more}Filename: {file}\n"
            f"Size: {len(content)}\nSHA256: {digest}\n\n"
        )
        self.debs[name] = (archive, path, stanza)
        self.publish()
        return path

    def packages_file(self, archive: str, suite: str) -> bytes:
        # All packages of an archive stand in its first suite.
        first = suite == SUITES[archive][0]
        return "".join(s for a, _, s in self.debs.values() if a == archive and first).encode()

    def publish(self) -> None:
        for archive, suites in SUITES.items():
            for suite in suites:
                packages = self.packages_file(archive, suite)
                rows = ""
                for kind, content in (("", packages), (".xz", lzma.compress(packages))):
                    listed = f"main/binary-amd64/Packages{kind}"
                    rows += f" {hashlib.sha256(content).hexdigest()} {len(content)} {listed}\n"
                    if kind:  # as Debian does: the plain one is named, not served
                        self.server.add(f"/{archive}/dists/{suite}/{listed}", content)
                self.sign(archive, suite, rows=rows)

    def sign(
        self, archive: str, suite: str, *, rows: str | None = None, by: Keys | None = None,
        **fields: str,
    ) -> bytes:
        """Publish a signed Release file.

        :param rows: of its ``SHA256:``; those that it had before by default.
        :param fields: other values than the right ones, ``-`` written as ``_``.
        """
        rows = self.rows[suite] if rows is None else rows
        self.rows[suite] = rows
        now = datetime.datetime.now(datetime.timezone.utc)
        head = {
            "Origin": "Debian", "Label": release.LABELS[archive], "Suite": suite,
            "Codename": suite, "Date": at(now - HOUR), "Valid-Until": at(now + HOUR),
            "Architectures": "amd64", "Components": "main",
        } | {name.replace("_", "-"): value for name, value in fields.items()}
        text = "".join(f"{name}: {value}\n" for name, value in head.items() if value)
        content = (by or self.keys).sign(f"{text}SHA256:\n{rows}")
        self.server.add(f"/{archive}/dists/{suite}/InRelease", content)
        return content

    def lock(self, upgrade: str | bool | None = None) -> bool:
        return lock.run(upgrade, images=self.images)

    def problem(self, upgrade: str | bool | None = None) -> str:
        with pytest.raises(Problem) as caught:
            self.lock(upgrade)
        assert "\n" not in caught.value.message
        return caught.value.message

    def packages(self, image: str) -> dict[str, locks.Package]:
        file = "packages.lock" if image == "base" else "requirements.lock"
        return {p.name: p for p in locks.read(self.images / image / file).packages}

    def versions(self) -> dict[str, str]:
        return {
            name: package.version
            for image in ("tensorflow", "jupyter")
            for name, package in self.packages(image).items()
        }

    def bytes(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.images.rglob("*.lock")}


@pytest.fixture
def world(keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        *resolve_wheels.UV_SETTINGS,
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOTHOUSE_DEBIAN_MIRROR", "HOTHOUSE_DEBIAN_MIRROR_SECURITY", "HOTHOUSE_SNAPSHOT"):
        monkeypatch.delenv(name, raising=False)
    etc = tmp_path / "apt"
    etc.mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("HOTHOUSE_FETCH_TIMEOUT", "5")
    monkeypatch.setattr(release, "STORE", tmp_path / "artifacts/store")
    # An apt of another suite, with hooks of its own that must not run.
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc "{etc}/";\nDir::State "{tmp_path}/none/";\nDir::Etc::parts "/dev/null";\n'
        f'APT::Update::Pre-Invoke {{ "touch {tmp_path}/hook"; }};\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    images = tmp_path / "images"
    for name, text in INPUTS.items():
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_text(text)
    (images / "base/keys.in").write_text(f"{keys.fingerprint}  # the test's\n")
    with LyingServer() as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.index)
        signed = f"signed-by={keys.public}"
        (etc / "sources.list").write_text(
            f"deb [{signed}] {server.url}/debian bookworm main\n"
            f"deb [{signed}] {server.url}/debian-security bookworm-security main\n"
        )
        # Not heeded: no Release file of the old suite was ever fetched.
        monkeypatch.setattr(mirrors, "PYTHON_APT_TEMPLATE", tmp_path / "none")
        monkeypatch.setattr(mirrors, "DEBIAN_KEYRING", keys.public)
        made = World(server, keys, images)
        made.deb("base-files", "13+b1", "Essential: yes\n")
        made.deb("apt", "3.0", "Depends: libx\n", archive="debian-security")
        made.deb("libx", "1:2.0+b1~x")
        made.deb("python3", "3.13", "Depends: libpy\nRecommends: extra\n")
        made.deb("libpy", "3.13")
        made.deb("builder", "1", "Depends: libpy, tool\n")
        made.deb("tool", "1")
        made.deb("extra", "1")
        for project, requires in (
            ("numpy", ()),
            ("keras", ("numpy", "rich")),
            ("rich", ()),
            ("tensorflow-cpu", ("numpy", "keras", "rich", "protobuf")),
            (
                "tensorflow",
                ("numpy", "keras", "protobuf", "nvidia-cudnn-cu12 ; extra == 'and-cuda'"),
            ),
            ("protobuf", ()),
            ("nvidia-cudnn-cu12", ()),
            ("scipy", ("numpy",)),
            ("jupyterlab", ("tornado", "rich")),
            ("tornado", ()),
        ):
            server.add_wheel(project, "2.0", requires)
        yield made
    assert not (tmp_path / "hook").exists()
