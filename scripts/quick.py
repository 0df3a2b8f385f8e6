"""`inv verify --quick`: hold every file of an image against the locked packages; no rebuild."""

from __future__ import annotations

import re
import sys
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from scripts import claims, compiled, contents, elf, fetch, locked, locks, packages, source, state
from scripts.build import PLATFORM
from scripts.contents import Contents, Entry
from scripts.locks import Package
from scripts.oci import CHUNK, Image
from scripts.paths import ARTIFACTS
from scripts.printable import printable
from scripts.problem import Problem
from scripts.state import tomllib

RECORD = re.compile(r"[^/]+\.dist-info/RECORD")
STEP_WIDTH = 70
COMPILED = ".pyc files that the locked Python compiles to the same"


@dataclass
class Verdict:
    """``sums``: how many files are explained by what; ``made``: those that no package owns, by the
    step that made them; ``wrong``: path, reason and step of each file that is not explained."""

    sums: Counter = field(default_factory=Counter)
    made: dict[str, list[str]] = field(default_factory=dict)
    wrong: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Locked:
    """The packages that an image is made from, all of them in the store, and what they bring."""

    debs: tuple[Package, ...]
    wants: locked.Wants
    build_base: str


class Spool:
    """A temporary file for an ELF file of the image; closed, it becomes its loaded digest."""

    def __init__(self, digests: dict[str, str | None], path: str) -> None:
        self.file = tempfile.TemporaryFile(dir=ARTIFACTS)  # noqa: SIM115
        self.digests, self.path = digests, path

    def write(self, data: bytes) -> None:
        """Take in a part."""
        self.file.write(data)

    def close(self) -> None:
        """Hash what was written and let go of it."""
        self.file.flush()
        self.digests[self.path] = elf.loaded_digest(self.file)
        self.file.close()


def gather(checkout: Path, target: claims.Target) -> Locked:
    """Fetch what a revision's locks name and list what it brings.

    :raises Problem: a package can't be had.
    """
    images = checkout / "images"
    debs = locks.read(images / "base" / "packages.lock")
    base = tuple(p for p in debs.select(PLATFORM, target.variant) if p.layer != "bootstrap")
    wheels = {name: locks.read(images / name / "requirements.lock")
              for name in target.folders if name != "base"}
    for lock in (debs, *wheels.values()):
        chosen = base if lock is debs else lock.select(PLATFORM, target.variant)
        print(f"checking {len(chosen)} packages of {lock.path.relative_to(checkout)} …",
              file=sys.stderr, flush=True)
        fetch.fetch(fetch.verify(chosen), date=lock.date)
    wants = locked.Wants()
    build_base = (images / "builder" / "build-base").read_text(encoding="utf-8")
    for package in base:
        locked.debian(package, locked.path_rules(build_base), wants)
    folder = python_folder(wants)
    template = ""
    for name in target.folders:
        locked.rootfs(images / name / "rootfs", name, wants)
        if name not in wheels:
            continue
        chosen = wheels[name].select(PLATFORM, target.variant)
        pip = [package for package in chosen if package.name == "pip"]
        template = locked.script_template(fetch.path_of(pip[0].sha256)) if pip else template
        prune = images / name / "prune.toml"
        rules = tomllib.loads(prune.read_text(encoding="utf-8")) if prune.exists() else {}
        for package in chosen:
            locked.wheel(package, folder, rules, template, wants)
    return Locked(base, wants, build_base)


def python_folder(wants: locked.Wants) -> str:
    """The folder that Debian's Python has for local packages: usr/local/lib/python3.N/….

    :raises Problem: there is no Python.
    """
    for path in wants.files:
        if found := re.fullmatch(r"usr/bin/(python3\.\d+)", path):
            return f"usr/local/lib/{found[1]}/dist-packages"
    raise Problem("the lock of the base holds no Python", "run inv verify without --quick")


def run(image: Image) -> Verdict:
    """Check an image.

    :raises Problem: it can't be checked: see claims and source.
    """
    revision = source.revision_of(image)
    ARTIFACTS.mkdir(exist_ok=True)
    with source.checkout(revision) as checkout, \
            tempfile.TemporaryDirectory(prefix="verify-", dir=ARTIFACTS) as folder:
        target = claims.check(image, checkout, revision)
        lock = gather(checkout, target)
        sources = compiled.Sources(Path(folder))
        loaded: dict[str, str | None] = {}

        def watch(path: str, entry: Entry):
            wants = lock.wants.files.get(path, ())
            return Spool(loaded, path) if any(want.stripped for want in wants) \
                else sources(path, entry)

        def keep(path: str, entry: Entry) -> bool:
            return state.wanted(path, entry) or path.endswith(".dist-info/RECORD")

        found = contents.read(image, keep, hashes=True, watch=watch)
        python = Path(folder) / "python"
        python.mkdir()
        pycs = compiled.check(found, sources, compiled.Compiler(lock.debs, python))
        return judge(found, lock, loaded, pycs, source.steps_of(image))


def judge(
    found: Contents, lock: Locked, loaded: dict[str, str | None], pycs: dict[str, str],
    steps: list[str],
) -> Verdict:
    """Explain every file, or say why it can't be explained."""
    verdict = Verdict()
    done: set[str] = set()
    for name, wants in lock.wants.files.items():
        path = packages.resolve(name, found)
        entry = found.entries.get(path)
        if entry is None:
            if not all(want.removed or want.optional or want.kind == "folder"
                       for want in wants):
                dropped = found.dropped.get(path)
                verdict.wrong.append((
                    path, f"is missing; {wants[0].package} brings it",
                    steps[dropped] if dropped is not None else "no step"))
            continue
        reasons = [difference(path, entry, want, loaded) for want in wants]
        if entry.kind != "folder" or "" not in reasons:
            if entry.kind == "link" and all(want.kind == "folder" for want in wants) \
                    and state.rule_of(path):
                continue  # a folder of a package that its set-up made into a link
            done.add(path)
        if "" in reasons:
            want = wants[reasons.index("")]
            if entry.kind != "folder":
                verdict.sums[kind_of(want)] += 1
        else:
            verdict.wrong.append((path, reasons[0], steps[entry.layer]))
    records(found, verdict, steps, done)
    judging = state.State(found, lock.wants, done - {path for path, *_ in verdict.wrong},
                          lock.debs, lock.build_base)
    for path, entry in found.entries.items():
        if path in done or (entry.kind == "folder" and path in lock.wants.files):
            continue
        rule = state.rule_of(path)
        if entry.extended:
            unexplained = f"has extended attributes ({entry.extended})"
        elif path in pycs:
            unexplained = pycs[path] or state.odd_rights(entry, 0o644)
            verdict.sums[COMPILED] += not unexplained
        elif entry.kind == "folder" and not (rule and "folder" in rule):
            unexplained = "" if (entry.mode, entry.owner) == (0o755, "0:0") else \
                f"is a folder of {entry.owner} with the mode {entry.mode:o}"
        else:
            by, unexplained = state.judge(path, entry, judging) or (
                "", "belongs to no locked package and to no known step")
            if not unexplained:
                verdict.made.setdefault(f"{state.STEP}: {by}", []).append(path)
        if unexplained:
            verdict.wrong.append((path, unexplained, steps[entry.layer]))
    missing_pycs(found, verdict, steps)
    verdict.wrong.sort()
    return verdict


def kind_of(want: locked.Want) -> str:
    """Which line of the summary a file is counted in."""
    if want.stripped:
        return "libraries stripped by a rule of prune.toml; what is loaded is the wheel's"
    if want.archive:
        return "files of locked wheels"
    return "files of images/*/rootfs" if want.package.startswith("images/") \
        else "files of locked Debian packages"


def difference(path: str, entry: Entry, want: locked.Want, loaded: dict) -> str:
    """How a file differs from what a package brings, empty for not at all."""
    if want.removed and want.kind == "file":
        return f"should have been removed from {want.package}: {want.removed}"
    if entry.kind != want.kind:
        return f"is a {entry.kind}; {want.package} brings a {want.kind}"
    if entry.kind == "link" and entry.target != want.target:
        return f"leads to {entry.target}; {want.package} has it lead to {want.target}"
    if entry.kind == "file" and want.exact and entry.sha256 != want.sha256:
        if not want.stripped:
            if not want.member or entry.sha256 != member_digest(want):
                return f"has another content than {want.package}"
        elif not loaded.get(path) or loaded[path] != loaded_in(want):
            return f"has another loaded content than {want.package}, stripped"
    if entry.kind != "link" and entry.mode != want.mode:
        return f"has the mode {entry.mode:o}; {want.package} brings {want.mode:o}"
    if entry.owner != want.owner:
        return f"has the owner {entry.owner}; {want.package} brings {want.owner}"
    return f"has extended attributes ({entry.extended})" if entry.extended else ""


def member_digest(want: locked.Want) -> str:
    """Hash a wheel's member itself: its RECORD may be wrong, and pip does not look."""
    with zipfile.ZipFile(want.archive) as wheel:
        return locked.sha256(wheel.read(want.member))


def loaded_in(want: locked.Want) -> str | None:
    """The loaded digest of a wheel's member."""
    with zipfile.ZipFile(want.archive) as wheel, wheel.open(want.member) as member, \
            tempfile.TemporaryFile(dir=ARTIFACTS) as file:
        while data := member.read(CHUNK):
            file.write(data)
        file.flush()
        return elf.loaded_digest(file)


def records(found: Contents, verdict: Verdict, steps: list[str], done: set[str]) -> None:
    """Hold each RECORD's rows against the files of the image."""
    for path in sorted(done):
        folder, _, name = path.rpartition("/dist-packages/")
        folder += "/dist-packages"
        if not RECORD.fullmatch(name):  # some packages carry another's dist-info inside
            continue
        entry = found.entries[path]
        try:
            rows = packages.record_rows(found.text(path) or "")
        except ValueError as error:
            verdict.wrong.append((path, str(error), steps[entry.layer]))
            continue
        for each, written in rows:
            name = packages.normal_path(folder, each)
            named = found.entries.get(name)
            if named is None or (
                    written and packages.record_digest(written) != named.sha256):
                verdict.wrong.append((path, f"is not true of /{name}", steps[entry.layer]))
                break


def missing_pycs(found: Contents, verdict: Verdict, steps: list[str]) -> None:
    """Every module of the wheels is compiled; without its .pyc each start would be slower."""
    compiled_ones = {packages.source_of(path) for path in found.entries if path.endswith(".pyc")}
    for path, entry in found.entries.items():
        if path.endswith(".py") and "/dist-packages/" in path and path not in compiled_ones:
            verdict.wrong.append((path, "has no .pyc beside it", steps[entry.layer]))


def text_of(image: Image, verdict: Verdict) -> str:
    """The verdict as text, of which a path or a step can write no line of its own."""
    lines = [f"{image.name}", f"  manifest {image.digest}", "", "Explained:"]
    lines += [f"{count:7,}  {what}" for what, count in sorted(verdict.sums.items())]
    lines += ["", "Of no package, by the step that made it:"]
    for step, paths in sorted(verdict.made.items()):
        shown = ", ".join(f"/{path}" for path in paths[:3])
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        lines.append(f"{len(paths):7,}  {step}: {shown}{more}")
    if verdict.wrong:
        lines += ["", "Not explained:"]
        for path, what, step in verdict.wrong:
            lines += [f"  /{path}", f"      {what} (step {shortened(step)})"]
    lines += ["", "Not looked at here: the configuration (environment, user, command); a rebuild "
              "compares it."]
    return "\n".join(map(printable, lines))


def shortened(step: str) -> str:
    """A step of somebody else's Dockerfile may be a screen long."""
    return step if len(step) <= STEP_WIDTH else step[: STEP_WIDTH - 1] + "…"


def end(image: Image, verdict: Verdict, code: int) -> None:
    """Say how it ended.

    :param code: the exit status where a file is not explained.
    :raises Problem: a file is not explained.
    """
    if verdict.wrong:
        number = len(verdict.wrong)
        raise Problem(f"{number} {'file' if number == 1 else 'files'} of {image.name} "
                      f"{'is' if number == 1 else 'are'} not explained by its locks (see above)",
                      "do not trust this image, or build it again", code)
    print("Every file is explained by the locks of its revision.")
