"""`inv bundle`: everything that a build needs in one file, the same bytes wherever it is made.

The file is a plain tar of one folder: the source of a commit, ready to run ``scripts/inv build``
in, with the store filled below ``.artifacts``. Not a git bundle: git's packs differ from version to
version. The commit objects are in it, so that the source can still be held against the commit's ID.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from scripts import build, download, fetch, gittree, locks, release, resolve_debs, tools, worktree
from scripts.locks import Package, shown
from scripts.paths import ARTIFACTS, ROOT, STORE
from scripts.problem import Problem

VARIANTS = {"cpu": ("cpu",), "cuda": ("cuda",), "all": ("cpu", "cuda")}
FORMAT = 1
RECORD = ".artifacts/bundle"
MANIFEST = f"{RECORD}/manifest.sha256"
TOOLS = ".artifacts/tools"
BLOCK = 512
CHUNK = 2**20


@dataclass(frozen=True)
class Member:
    """A file of the bundle: its path below the bundle's folder and where its bytes are."""

    path: str
    size: int
    sha256: str
    executable: bool
    source: bytes | Path


def of_bytes(path: str, content: bytes, executable: bool = False) -> Member:
    """A member whose bytes are at hand."""
    digest = hashlib.sha256(content).hexdigest()
    return Member(path, len(content), digest, executable, content)


def of_store(path: str, package: Package, store: Path) -> Member:
    """A member that lies in the store."""
    source = download.path_of(package.sha256, store)
    return Member(path, package.size, package.sha256, False, source)


def git(*arguments: str, stdin: bytes = b"") -> bytes:
    """Run git in the checkout and return what it prints.

    :raises Problem: git isn't there, or failed.
    """
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, input=stdin, capture_output=True,
                              check=False)
    except OSError:
        raise Problem("a bundle is made with git, which isn't here", "install git") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise Problem(f"git {arguments[0]}: {words[-1].rstrip('.')}",
                      "make the bundle in a git checkout with its history")
    return done.stdout


def clean_commit() -> str:
    """The commit that is checked out.

    :raises Problem: this is no git checkout, or its files aren't those of the commit.
    """
    top = Path(os.fsdecode(git("rev-parse", "--show-toplevel")).rstrip("\n"))
    if top.resolve() != ROOT:
        raise Problem("this folder is no git checkout", "make the bundle in a git checkout")
    changed = git("status", "--porcelain", "--untracked-files=normal").decode().splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise Problem(
            f"the working tree differs from its commit: {changed[0][3:]}{more}",
            "commit it, or git stash --include-untracked; a bundle holds a commit",
        )
    return git("rev-parse", "HEAD").decode().strip()


def source_of(commit: str) -> list[Member]:
    """The files of a commit, read from git: what lies in the folder may have been converted.

    :raises Problem: one of them is no plain file.
    """
    rows = []
    for line in git("ls-tree", "-r", "-z", "--full-tree", commit).decode().split("\0")[:-1]:
        head, _, path = line.partition("\t")
        mode, _, blob = head.split(" ")
        if mode not in (gittree.FILE, gittree.EXECUTABLE):
            raise Problem(f"{path} is no plain file, and a bundle holds nothing else",
                          "replace it by a file")
        rows.append((path, mode, blob))
    out = io.BytesIO(git("cat-file", "--batch", stdin="".join(f"{b}\n" for *_, b in rows).encode()))
    found = []
    for path, mode, _ in rows:
        size = int(out.readline().split()[2])
        found.append(of_bytes(path, out.read(size), mode == gittree.EXECUTABLE))
        out.read(1)
    return found


def record_of(commit: str, variant: str) -> list[Member]:
    """What the bundle says of itself, with the git objects that it can be held against.

    :raises Problem: a shallow clone does not hold the commit that the images are of.
    """
    revision = worktree.last_change(build.SOURCES, commit)
    if worktree.cut_off(revision):
        raise Problem("this clone is shallow, so which commit last changed the images is not known",
                      "git fetch --unshallow")
    about = {"format": FORMAT, "commit": commit, "revision": revision, "variant": variant,
             "platform": build.PLATFORM, "epoch": locks.epoch(),
             "pythons": [".".join(map(str, python)) for python in tools.PYTHONS]}
    return [
        of_bytes(f"{RECORD}/bundle.json", (json.dumps(about, indent=2) + "\n").encode()),
        of_bytes(f"{RECORD}/commit", git("cat-file", "commit", commit)),
        of_bytes(f"{RECORD}/revision.commit", git("cat-file", "commit", revision)),
        of_bytes(f"{RECORD}/revision.tree", git("cat-file", "tree", f"{revision}^{{tree}}")),
    ]


def packages_of(variant: str) -> list[Package]:
    """The packages that the images of a variant are made from."""
    found = {
        package.sha256: package
        for path in locks.ALL
        for one in VARIANTS[variant]
        for package in locks.read(path).select(build.PLATFORM, one)
    }
    return list(found.values())


def collect(variant: str, commit: str) -> list[Member]:
    """Fetch what is missing, check Debian's signatures, and name all members, sorted.

    :raises Problem: a package can't be had, or the lock isn't what Debian signed.
    """
    lock = locks.read(locks.DEBS)
    suite, _ = resolve_debs.read_input(resolve_debs.INPUT)
    packages = packages_of(variant)
    debs = [package for package in packages if package.file.endswith(".deb")]
    fetch.fetch(fetch.verify(debs), date=lock.date)
    fetch.fetch(fetch.verify(package for package in packages if package not in debs))
    packages += [proof.index for proof in release.audit(lock, suite)]
    wheels = tools.fetch_all(STORE)
    store = STORE.relative_to(ROOT).as_posix()
    members = [
        *source_of(commit),
        *record_of(commit, variant),
        *(of_store(f"{store}/sha256/{p.sha256[:2]}/{p.sha256}", p, STORE) for p in packages),
        *(of_store(f"{TOOLS}/{p.file}", p, STORE) for p in wheels),
    ]
    return sorted(members, key=lambda member: member.path)


def manifest_of(members: list[Member]) -> bytes:
    """The manifest: what ``sha256sum --check`` reads, with a digest of its own lines on top."""
    lines = "".join(f"{member.sha256}  {member.path}\n" for member in members).encode()
    return b"# sha256:" + hashlib.sha256(lines).hexdigest().encode() + b"\n" + lines


# --- writing -----------------------------------------------------------------------------------


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line for each tenth; yields what to call with bytes done."""
    console = Console(highlight=False)
    if console.is_terminal:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        with Progress(TextColumn(what), BarColumn(), DownloadColumn(), console=console) as bar:
            task = bar.add_task("", total=total)
            yield lambda size: bar.advance(task, size)
        return
    done = tenth = 0
    console.print(f"{what}, {fetch.amount(total)}", soft_wrap=True)

    def advance(size: int) -> None:
        nonlocal done, tenth
        done += size
        if total and done * 10 // total > tenth:
            tenth = done * 10 // total
            console.print(f"{what}: {fetch.amount(done)} of {fetch.amount(total)}", soft_wrap=True)
            console.file.flush()

    yield advance


def size_of_tar(members: list[Member]) -> int:
    """Bytes of a tar with these members, a little too many."""
    return sum(member.size + 3 * BLOCK for member in members) + tarfile.RECORDSIZE


def write_tar(target: Path, top: str, members: list[Member], mtime: int) -> str:
    """Write the tar; its bytes depend on the arguments alone. Returns its SHA-256 (hex).

    :param top: the folder that all lies in.
    :param mtime: of every member, in seconds.
    :raises Problem: a file of the store is not what its name says.
    """
    with open(target, "wb") as raw:
        out = _Hashing(raw)
        with (
            tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            progress("writing the bundle", sum(member.size for member in members)) as advance,
        ):
            for member in members:
                info = tarfile.TarInfo(f"{top}/{member.path}")
                info.size, info.mtime = member.size, mtime
                info.mode = 0o755 if member.executable else 0o644
                tar.addfile(info, _Reader(member, advance))
        raw.flush()
        os.fsync(raw.fileno())
    return out.digest.hexdigest()


class _Hashing:
    """A file that is written to, and hashed on the way."""

    def __init__(self, raw: io.BufferedWriter) -> None:
        self.raw, self.digest = raw, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.raw.write(data)


class _Reader(io.RawIOBase):
    """A member's bytes, checked when the last one is read."""

    def __init__(self, member: Member, advance: Callable[[int], None]) -> None:
        self.member, self.advance = member, advance
        self.digest, self.left = hashlib.sha256(), member.size
        content = member.source
        held = isinstance(content, bytes)
        self.file = io.BytesIO(content) if held else content.open("rb")

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        self.left -= len(data)
        self.advance(len(data))
        if self.left <= 0 or not data:
            self.file.close()
            if self.left or self.digest.hexdigest() != self.member.sha256:
                raise Problem(
                    f"{shown(Path(str(self.member.source)))} is damaged in the store",
                    "remove that file and run the same command again",
                )
        return data


def unwritable(target: Path, error: OSError) -> Problem:
    """A file that its folder or disk does not take."""
    return Problem(f"{target} can't be written: {error.strerror}", "name another file or disk")


def run(variant: str = "cpu", output: str | None = None) -> Path:
    """Write the bundle of the commit that is checked out.

    :param variant: ``cpu``, ``cuda`` or ``all``.
    :param output: the file, relative to the user's folder; by default below ``.artifacts``.
    :raises Problem: a dirty tree, a package that can't be had, too little disk, a file that can't
        be written there.
    """
    if variant not in VARIANTS:
        raise Problem(f'no variant "{variant}"', f"choose from: {', '.join(VARIANTS)}")
    commit = clean_commit()
    top = f"hothouse-{variant}-{commit[:12]}"
    base = Path(os.environ.get("HOTHOUSE_CWD", Path.cwd()))
    ARTIFACTS.mkdir(exist_ok=True)
    target = base / output if output else ARTIFACTS / f"{top}.tar"
    try:
        wrong = target.is_dir() or not target.parent.is_dir()
    except OSError as error:
        raise unwritable(target, error) from None
    if wrong:
        raise Problem(f"{target} can't be a file", "name a file in a folder that exists")
    members = collect(variant, commit)
    manifest = of_bytes(MANIFEST, manifest_of(members))
    need = size_of_tar(members)
    fetch.enough_space(target.parent, need, "the bundle")
    partial = target.with_name(f".{target.name}.partial")
    try:
        digest = write_tar(partial, top, [manifest, *members], locks.epoch())
        partial.chmod(0o644)
        partial.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise unwritable(target, error) from None
    finally:
        with contextlib.suppress(OSError):  # a name that is too long is too long here too
            partial.unlink()
    size = fetch.amount(target.stat().st_size)
    print(f"{shown(target)}  {len(members)} files, {size}, sha256:{digest}")
    print(f"Commit {commit}; keep this ID apart from the bundle: it is what proves its content.")
    print(f"Next, where there is no network: scripts/inv build --bundle {shown(target)}, or")
    print(f"tar xf {target.name}; cd {top}; scripts/inv build")
    return target
