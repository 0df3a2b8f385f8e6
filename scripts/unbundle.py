"""`inv build --bundle FILE`: check a bundle, unpack it and build in it, without any network."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from invoke.exceptions import Exit

from scripts import build, bundle, fetch, gittree
from scripts.paths import ARTIFACTS
from scripts.problem import Problem

AGAIN = "get the bundle again"
#: What the build needs beside the bundle's own files: the tools' environment, the contexts.
WORKSPACE = 600_000_000  # bytes
#: What a build reads below .artifacts. Anything else would be taken for the work of a build that
#: was there before, such as a builder's root that nobody has checked.
KNOWN = re.compile(r"\.artifacts/(store/sha256/(..)/(?P<stored>\2[0-9a-f]{62})|tools/[^/]+\.whl"
                   r"|bundle/(bundle\.json|commit|revision\.(commit|tree)))")


@dataclass(frozen=True)
class About:
    """What a checked bundle says of itself, and the folder that it was unpacked into."""

    root: Path
    commit: str
    revision: str
    variant: str


def damaged(what: str) -> Problem:
    """A bundle that isn't what was written."""
    return Problem(f"the bundle {what}", AGAIN)


def entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a tar; one whose header is damaged ends it."""
    with contextlib.suppress(tarfile.TarError, EOFError, ValueError):
        while member := tar.next():
            yield member


def plain(member: tarfile.TarInfo) -> bool:
    """Whether a member is a file as `inv bundle` writes it: a sparse one could be any size."""
    return member.type == tarfile.REGTYPE and not member.issparse()


def read_manifest(content: bytes) -> dict[str, str]:
    """The SHA-256 of each member by its path, in the bundle's order.

    :raises Problem: the manifest was damaged, or names a file outside the bundle's folder or one
        that no build reads.
    """
    head, _, body = content.partition(b"\n")
    if head != b"# sha256:" + hashlib.sha256(body).hexdigest().encode():
        raise damaged("has a damaged manifest")
    found = {}
    for line in body.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line)
        path = PurePosixPath(match[2]) if match else PurePosixPath("/")
        inside = not path.is_absolute() and ".." not in path.parts and str(path) == (
            match[2] if match else ""
        )
        if not match or not inside or match[2] in found:
            raise damaged("has a manifest of no known form")
        known = KNOWN.fullmatch(match[2])
        if path.parts[0] == ".artifacts" and not known:
            raise damaged(f"holds {path}, which no build needs")
        if known and known["stored"] not in (None, match[1]):
            raise damaged(f"holds {path}, which has another hash")
        found[match[2]] = match[1]
    folders = {str(parent) for path in found for parent in PurePosixPath(path).parents}
    if folders & set(found):
        raise damaged("has a manifest of no known form")
    return found


def unpack(file: Path, folder: Path) -> Path:
    """Unpack a bundle into a folder; every member is checked against the manifest on the way.

    :returns: the bundle's own folder in it.
    :raises Problem: a member is damaged, missing or one too many: it is named.
    """
    with open(file, "rb") as raw:
        try:
            tar = tarfile.open(fileobj=raw, mode="r:")  # noqa: SIM115 - closed below
            first = tar.next()
        except (tarfile.TarError, EOFError):
            first = None
        if first is None or not first.name.endswith(f"/{bundle.MANIFEST}") or not plain(first):
            raise Problem(f"{file} is no Hothouse bundle, or its beginning is damaged", AGAIN)
        with tar:
            top = first.name.removesuffix(f"/{bundle.MANIFEST}")
            if "/" in top or top in ("", ".", ".."):
                raise damaged("has a folder of no known form")
            try:
                content = tar.extractfile(first).read()
            except tarfile.ReadError:
                raise damaged(f"is cut off in {bundle.MANIFEST}") from None
            wanted = read_manifest(content)
            root = folder / top
            place(root, bundle.MANIFEST, False).write_bytes(content)
            with bundle.progress("checking the bundle", file.stat().st_size) as advance:
                _members(tar, top, wanted, root, advance)
            end = tar.offset
        raw.seek(end)
        while rest := raw.read(bundle.CHUNK):
            if rest.strip(b"\0"):
                raise damaged("holds something after its last member")
    return root


def _members(tar: tarfile.TarFile, top: str, wanted: dict[str, str], root: Path, advance) -> None:
    found = {}
    members = entries(tar)
    for path, digest in wanted.items():
        member = next(members, None)
        if member is None:
            raise damaged(f"is cut off or damaged at {path}")
        name = member.name.removeprefix(f"{top}/")
        if name == path and not plain(member):
            raise damaged(f"holds {name}, which is no plain file")
        if name != path:
            if name in wanted and name not in found:
                raise damaged(f"lacks {path}")
            raise damaged(f"holds {name}, which its manifest does not name there")
        executable = bool(member.mode & 0o100)
        found[path] = (executable, _copy(tar, member, path, digest, root, executable))
        advance(member.size + bundle.BLOCK)
    if extra := next(members, None):
        raise damaged(f"holds {extra.name.removeprefix(f'{top}/')}, which its manifest does not "
                      "name")
    _prove(root, found)


def _copy(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, digest: str, root: Path,
    executable: bool,
) -> str:
    """Copy a member out of the tar and check it; returns git's ID of it."""
    sha256 = hashlib.sha256()
    sha1 = hashlib.sha1(f"blob {member.size}\0".encode(), usedforsecurity=False)
    source, left = tar.extractfile(member), member.size
    target = place(root, path, executable)
    with open(target, "wb") as out:
        while left:
            try:
                data = source.read(min(left, bundle.CHUNK))
            except tarfile.ReadError:
                data = b""
            if not data:
                raise damaged(f"is cut off in {path}")
            left -= len(data)
            sha256.update(data)
            sha1.update(data)
            out.write(data)
    if sha256.hexdigest() != digest:
        raise damaged(f"is damaged: {path} is not what the manifest says")
    return sha1.hexdigest()


def place(root: Path, path: str, executable: bool) -> Path:
    """Make an empty file with its folders, with the mode that git would give it.

    :raises Problem: its name is none that a file can have here.
    """
    target = root / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENAMETOOLONG, errno.EINVAL,
                                                              errno.EILSEQ):
            raise
        raise damaged(f"holds {path[:80]!r}, which no file here can be called") from None
    target.chmod(0o755 if executable else 0o644)
    return target


def _prove(root: Path, found: dict[str, tuple[bool, str]]) -> None:
    """Check that the source is that of the commit which the bundle names."""
    files = {
        path: (gittree.EXECUTABLE if executable else gittree.FILE, blob)
        for path, (executable, blob) in found.items()
        if not path.startswith(".artifacts/")
    }
    try:
        commit = (root / bundle.RECORD / "commit").read_bytes()
    except OSError:
        raise damaged(f"lacks {bundle.RECORD}/commit") from None
    if gittree.tree_of_commit(commit) != gittree.tree_id(files):
        raise damaged(f"holds other source than commit {gittree.object_id('commit', commit)}")


def about(root: Path) -> About:
    """What an unpacked bundle says of itself, held against its git objects.

    The commit's ID is computed from the source. Of the revision it is known that its commit has
    these images' files, not that the commit is one of the history; whoever has that can look.

    :raises Problem: it says something else than its objects, or is of a newer kind.
    """
    record = root / bundle.RECORD
    try:
        said = json.loads((record / "bundle.json").read_text())
        if said["format"] != bundle.FORMAT:
            raise Problem(f"the bundle is of format {said['format']}, this is for {bundle.FORMAT}",
                          "unpack it with tar and run its own scripts/inv build")
        it = About(root, said["commit"], said["revision"], said["variant"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise damaged("says nothing of itself (bundle.json)") from None
    if it.variant not in list(bundle.VARIANTS):
        raise damaged(f"is of no known variant: {str(it.variant)[:80]}")
    if it.commit != gittree.object_id("commit", (record / "commit").read_bytes()):
        raise damaged(f"names a commit that it is not of: {it.commit}")
    sources = [root / path.relative_to(bundle.ROOT) for path in build.SOURCES]
    if it.revision != gittree.revision(sources, record):
        raise damaged(f"names a revision that its images are not of: {it.revision}")
    return it


def run(name: str, target: str | None = None, *, no_cache: bool = False) -> None:
    """Build from a bundle alone, with the bundle's own scripts, and print the digests.

    :param name: the file, relative to the user's folder.
    :param target: a bake target; by default the variant's last image and all that it stands on.
    :raises Problem: the bundle is damaged, or isn't of this target.
    :raises Exit: the build failed and has said why.
    """
    file = Path(os.environ.get("HOTHOUSE_CWD", Path.cwd())) / name
    if not file.is_file():
        raise Problem(f"there is no bundle {file}", "name the file that scripts/inv bundle wrote")
    ARTIFACTS.mkdir(exist_ok=True)
    size = file.stat().st_size
    fetch.enough_space(ARTIFACTS, size + WORKSPACE, "unpacking the bundle and building from it")
    # Beside the store: a temporary folder of the system may be small and in memory.
    folder = Path(tempfile.mkdtemp(prefix="unbundled-", dir=ARTIFACTS))
    try:
        it = about(unpack(file, folder))
        chosen = bundle.VARIANTS[it.variant]
        # A group of targets is called as the variant that it needs.
        variant = (target or it.variant).rpartition("-")[2]
        if not set(bundle.VARIANTS.get(variant, ())) <= set(chosen):
            raise Problem(f"the bundle holds the variant {it.variant}, not what {target} needs",
                          f"make one with scripts/inv bundle --variant {variant}")
        print(f"The bundle is whole: commit {it.commit}, images of revision {it.revision}.")
        here = build.revision()
        if here != it.revision:
            print(f"note: this checkout's images are of revision {here}; the bundle's are built")
        if shutil.which("gpgv") or shutil.which("sqv"):
            inside(it.root, "lock", "--check")
        else:
            print("note: no gpgv or sqv here, so Debian's signatures were not checked; the hashes "
                  "are those of the commit's locks")
        for name in [target] if target else [f"jupyter-{variant}" for variant in chosen]:
            inside(it.root, "build", name, *(["--no-cache"] if no_cache else []))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def inside(root: Path, *words: str) -> None:
    """Run a task of the unpacked tree, where pip has no index to ask.

    :raises Exit: it failed; its last line has said why.
    """
    command = [str(root / "scripts" / "inv"), *words]
    print("+ scripts/inv", *words, flush=True)
    environment = {**os.environ, "PIP_NO_INDEX": "1"}
    with subprocess.Popen(command, cwd=root, env=environment) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            # It had the same signal, and says so itself.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            raise Exit(code=130) from None
    if process.returncode:
        raise Exit(code=max(process.returncode, 1))
