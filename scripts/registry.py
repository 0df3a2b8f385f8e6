"""The pull side of a registry, by the API that the OCI distribution specification describes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3

from scripts import blobs, mirrors
from scripts.problem import Problem

ACCEPT = ", ".join((
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
))
#: Seconds to connect, and between two packets.
TIMEOUT = (10, 60)
LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")
NAME = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")
TOKEN = re.compile(r"[!-~]+")
TAG = re.compile(r"\w[\w.-]{0,127}")


class Registry:
    """One repository of a registry; see :class:`scripts.blobs.Place`.

    :param reference: ``HOST[:PORT]/NAME[:TAG]``.
    :param digest: of the manifest or index, instead of the tag.
    :raises Problem: the reference is none.
    """

    def __init__(self, reference: str, digest: str | None) -> None:
        self.host, _, rest = reference.partition("/")
        self.name, _, tag = rest.partition(":")
        if not NAME.fullmatch(self.name) or not TAG.fullmatch(tag or "latest"):
            raise Problem(f'"{reference}" is no reference to an image',
                          "write it as HOST/NAME:TAG, in small letters")
        self.wanted = digest or tag or "latest"
        self.shown = reference + (f"@{digest}" if digest else "")
        self.kind = f"the registry {self.host}"
        scheme = "http" if LOOPBACK.fullmatch(self.host) else "https"
        self.base = f"{scheme}://{self.host}/v2/{self.name}"
        self.session = mirrors.session(pool=1)
        if scheme == "http":
            self.session.trust_env = False  # no proxy reaches this machine's own loopback
            self.session.proxies = {}
        self.token = ""
        self.manifests: dict[str, bytes | None] = {}

    def descriptors(self) -> list[dict]:
        """See :class:`scripts.blobs.Place`: the one that the reference names."""
        data = self.manifest(self.wanted)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.manifests[digest] = data
        return [{"digest": digest, "size": len(data)}]

    def manifest(self, reference: str) -> bytes:
        """Get a manifest or index by tag or digest, and note which manifests it names.

        :raises Problem: the registry has none, or does not answer.
        """
        with self.trouble():
            answer = self.ask(f"{self.base}/manifests/{reference}", accept=ACCEPT)
            data = answer.raw.read(blobs.SMALL, decode_content=True)
        listed = blobs.read_json(data, self.shown, f"the manifest {reference}").get("manifests")
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict) and isinstance(each.get("digest"), str):
                self.manifests.setdefault(each["digest"], None)
        return data

    def open(self, digest: str) -> BinaryIO:
        """See :class:`scripts.blobs.Place`."""
        blobs.blob_name(digest, self.shown)  # refuses what is no digest
        if digest in self.manifests:
            data = self.manifests[digest]
            return io.BytesIO(self.manifest(digest) if data is None else data)
        with self.trouble():
            return Body(self, self.ask(f"{self.base}/blobs/{digest}"))

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Turn the network's errors into one line.

        :raises Problem: instead of them.
        """
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            cause = mirrors.trouble(error, self.base).cause
            raise Problem(f"{self.shown} can't be read: {cause}",
                          f"check that {self.host} is a registry that runs, and the network"
                          ) from None

    def ask(self, url: str, accept: str = "*/*") -> requests.Response:
        """GET; answers a challenge for a token or a password once.

        :raises Problem: the registry refuses or has no such thing.
        """
        for attempt in range(2):
            headers = {"Accept": accept, **({"Authorization": self.token} if self.token else {})}
            answer = self.session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
            if answer.status_code != 401 or attempt:
                break
            challenge = answer.headers.get("WWW-Authenticate", "")
            answer.close()
            self.token = self.authorize(challenge)
        if answer.status_code == 404:
            what = url.rsplit("/", 2)
            raise Problem(f"the registry {self.host} has no {what[1].rstrip('s')} {what[2]} of "
                          f"{self.name}", "check the name and the tag")
        if answer.status_code in (401, 403):
            raise Problem(f"the registry {self.host} refuses {self.name} ({answer.status_code})",
                          f"docker login {self.host}")
        if answer.status_code != 200:
            raise Problem(f"the registry {self.host} answers with {answer.status_code}",
                          "wait a little and try again")
        return answer

    def authorize(self, challenge: str) -> str:
        """Answer a registry's challenge (RFC 7235; Docker's token scheme for Bearer).

        :returns: the value of the header Authorization, empty where nothing is known.
        """
        kind, _, rest = challenge.partition(" ")
        login = login_for(self.host)
        if kind.lower() == "basic":
            return f"Basic {login}" if login else ""
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = fields.pop("realm", "")
        try:
            parts = urlsplit(realm)
        except ValueError:
            return ""
        safe = parts.scheme == "https" or LOOPBACK.fullmatch(parts.netloc)
        if kind.lower() != "bearer" or not safe:
            return ""
        query = {"service": fields.get("service", ""),
                 "scope": fields.get("scope", f"repository:{self.name}:pull")}
        headers = {"Authorization": f"Basic {login}"} if login else {}
        answer = self.session.get(realm, params=query, headers=headers, timeout=TIMEOUT)
        try:
            given = answer.json() if answer.status_code == 200 else {}
        except ValueError:
            given = {}
        if not isinstance(given, dict):
            return ""
        token = given.get("token") or given.get("access_token")
        # What is no such text can't be a header's value.
        return f"Bearer {token}" if isinstance(token, str) and TOKEN.fullmatch(token) else ""

    def close(self) -> None:
        """End the connections."""
        self.session.close()


class Body:
    """The body of an answer as a stream; what the network does to it becomes one line."""

    def __init__(self, registry: Registry, answer: requests.Response) -> None:
        self.registry, self.answer = registry, answer

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, all that is left for -1.

        :raises Problem: the connection broke.
        """
        with self.registry.trouble():
            return self.answer.raw.read(None if size < 0 else size)

    def close(self) -> None:
        """End the answer, read or not."""
        self.answer.close()

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def login_for(host: str) -> str:
    """What ``docker login`` kept for a registry in its plain file: base64 of NAME:PASSWORD, or
    empty. Credential helpers are not asked."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        kept = json.loads((folder / "config.json").read_text())["auths"][host]["auth"]
        base64.b64decode(kept, validate=True)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return kept
