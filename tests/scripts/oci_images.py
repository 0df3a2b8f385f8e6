"""Small images for the tests, made by hand: an OCI layout, its archive, a registry's answers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import zstandard

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
COMPRESS = {
    "zstd": zstandard.ZstdCompressor().compress,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "none": bytes,
}


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def ar(members: dict[str, bytes]) -> bytes:
    """An ar archive, as a .deb is one."""
    data = b"!<arch>\n"
    for name, content in members.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    return data


def layer(files: dict[str, bytes | str | tarfile.TarInfo | None],
          modes: dict[str, int] | None = None) -> bytes:
    """A layer's tar: text is a link's target, None a folder, a TarInfo lies as it is.

    :param modes: those that are not 0644, of a folder 0755.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o644
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            member.mode = (modes or {}).get(name, member.mode)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


@dataclass
class Made:
    """The blobs of an image by digest, and the digest of its manifest."""

    blobs: dict[str, bytes]
    manifest: str
    config: str
    layers: list[str]
    index: dict = field(default_factory=dict)
    manifests: set[str] = field(default_factory=set)

    def edit(self, which: str, change: Callable[[dict], object]) -> Made:
        """Change the ``config`` or the ``manifest``, and what names it; return the image."""
        old = getattr(self, which)
        value = json.loads(self.blobs.pop(old))
        change(value)
        return self.replace(which, json.dumps(value).encode())

    def replace(self, which: str, data: bytes) -> Made:
        """Put other bytes in the place of ``config`` or ``manifest``; return the image."""
        self.blobs[digest_of(data)] = data
        setattr(self, which, digest_of(data))
        names = {"digest": digest_of(data), "size": len(data)}
        if which == "config":
            return self.edit("manifest", lambda manifest: manifest["config"].update(names))
        self.manifests = {self.manifest}
        self.index["manifests"][0].update(names)
        return self

    def name(self, other: Made) -> Made:
        """Have the manifest name another image's first layer; return the image."""
        self.blobs |= {other.layers[0]: other.blobs[other.layers[0]]}
        names = {"digest": other.layers[0], "size": len(other.blobs[other.layers[0]])}
        return self.edit("manifest", lambda manifest: manifest["layers"][0].update(names))

    def folder(self, path: Path) -> Path:
        """Write an OCI layout."""
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (path / "index.json").write_text(json.dumps(self.index))
        for digest, data in self.blobs.items():
            (path / "blobs/sha256" / digest.partition(":")[2]).write_bytes(data)
        return path

    def archive(self, path: Path) -> Path:
        """Write an OCI archive; the index comes last, as in the engine's own."""
        with tarfile.open(path, "w") as archive:
            for name, data in [
                *((f"blobs/sha256/{d.partition(':')[2]}", data) for d, data in self.blobs.items()),
                ("index.json", json.dumps(self.index).encode()),
            ]:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return path


def make(*tars: bytes, compression: str = "zstd", labels: dict | None = None,
         architecture: str = "amd64", created: str = "2026-01-01T00:00:00Z",
         **config: object) -> Made:
    """Make an image of layers.

    :param config: the part of the configuration that a container runs by, as ``Env``.
    """
    packed = [COMPRESS[compression](tar) for tar in tars]
    settings = json.dumps({
        "os": "linux", "architecture": architecture, "created": created,
        "config": {"Labels": labels or {}, **config},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [{"created_by": f"step {number}"} for number in range(len(tars))],
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": digest_of(settings), "size": len(settings)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": digest_of(data), "size": len(data)} for data in packed],
    }).encode()
    blobs = {digest_of(data): data for data in (*packed, settings, manifest)}
    entry = {"mediaType": MANIFEST, "digest": digest_of(manifest), "size": len(manifest),
             "platform": {"os": "linux", "architecture": architecture}}
    return Made(blobs, digest_of(manifest), digest_of(settings), [digest_of(d) for d in packed],
                {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]},
                {digest_of(manifest)})


def several(*images: Made) -> Made:
    """Put images of several platforms under one index, as a registry has them; the first one's
    digests are the result's."""
    entries = [each.index["manifests"][0] for each in images]
    inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    blobs = {digest_of(inner): inner}
    for each in images:
        blobs |= each.blobs
    outer = {"mediaType": INDEX, "digest": digest_of(inner), "size": len(inner)}
    return Made(blobs, images[0].manifest, images[0].config, images[0].layers,
                {"schemaVersion": 2, "manifests": [outer]},
                {digest_of(inner)}.union(*(each.manifests for each in images)))


class Registry:
    """Answers the pull side of the API for ``test/image:1`` on a port of the loopback address.

    :param token: ask for this token, which it hands out at /token to ``user:secret``.
    :param realm: where it says that the token is had, instead.
    """

    def __init__(self, image: Made, token: object = "", realm: str = "") -> None:
        self.image, self.token, self.asked, self.logins = image, token, [], []
        self.realm = realm
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.answer(self)

            def log_message(self, *arguments: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        given = request.headers.get("Authorization", "")
        self.logins.append(given)
        status, kind, body, headers = 404, "application/json", b"{}", {}
        top = self.image.index["manifests"][0]
        if request.path.startswith("/token?"):
            status = 200 if given == "Basic dXNlcjpzZWNyZXQ=" else 401
            body = json.dumps(self.token if isinstance(self.token, list)
                              else {"token": self.token}).encode() if status == 200 else b"{}"
        elif self.token and given != f"Bearer {self.token}":
            status = 401
            realm = self.realm or f"http://{self.host}/token"
            headers = {"WWW-Authenticate": f'Bearer realm="{realm}",'
                                           'service="test",scope="repository:test/image:pull"'}
        elif request.path == "/v2/test/image/manifests/1":
            status, kind, body = 200, top["mediaType"], self.image.blobs[top["digest"]]
        else:
            start, _, what = request.path.rpartition("/")
            data = self.image.blobs.get(what)
            kind_of = "manifests" if what in self.image.manifests else "blobs"
            if data is not None and start == f"/v2/test/image/{kind_of}":
                status, body = 200, data
        request.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)),
                            **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    def __enter__(self) -> Registry:
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()
