"""Files that no package brings because Debian's packages wrote them when they were set up: which
step made each, and whether what it holds follows from the locked packages. Rules: state.toml."""

from __future__ import annotations

import functools
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts import context, fetch, locked, packages
from scripts.contents import Contents, Entry
from scripts.locks import Package
from scripts.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STEP = "base/bootstrapped"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
#: A system user that a package made: no password, no shell.
SYSTEM_USER = re.compile(r"_[a-z-]+:[*!]:[1-9]\d*:\d+:[^:]*:[^:]*:/usr/sbin/nologin")
MASTER = "usr/share/base-passwd/passwd.master"
EXAMPLE = "usr/share/doc/apt/examples/debian.sources"
CACHE_MAGIC = b"glibc-ld.so.cache1.1"


@dataclass
class State:
    """What the rules judge by. ``sound``: the paths whose content is that of a locked package."""

    found: Contents
    wants: locked.Wants
    sound: set[str]
    packages: tuple[Package, ...]
    build_base: str

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """A path of each content that a locked package brings; none that is empty."""
        entries = self.found.entries
        return {entries[path].sha256: path for path in self.sound
                if entries[path].kind == "file" and entries[path].size}


@functools.cache
def rules() -> list[dict]:
    """Read state.toml."""
    return tomllib.loads((ROOT / "scripts" / "state.toml").read_text(encoding="utf-8"))["rule"]


@functools.lru_cache(maxsize=100_000)
def rule_of(path: str) -> dict | None:
    """The first rule that fits a path."""
    return next((rule for rule in rules() if locked.glob_pattern(rule["files"]).fullmatch(path)),
                None)


def wanted(path: str, entry: Entry) -> bool:
    """Whether :func:`judge` needs the content of this file."""
    rule = rule_of(path)
    return entry.size < 4 << 20 and (
        bool(rule and ("lines" in rule or "check" in rule))
        or path == MASTER or path.startswith("usr/share/ca-certificates/"))


def judge(path: str, entry: Entry, state: State) -> tuple[str, str] | None:
    """Judge a path by its rule.

    :returns: who wrote it, and what is wrong with it, empty for nothing; None without a rule.
    """
    rule = rule_of(path)
    if rule is None:
        return None
    return rule["by"], reason(path, entry, rule, state)


def reason(path: str, entry: Entry, rule: dict, state: State) -> str:
    """What is wrong with a path, empty for nothing."""
    if "folder" in rule:
        same = f"{entry.owner} {entry.mode:o}" == rule["folder"] and entry.kind == "folder"
        return "" if same else f"is a {entry.kind} of {entry.owner} {entry.mode:o}"
    if "link" in rule:
        if entry.kind != "link":
            return f"is a {entry.kind}, not a link"
        if entry.owner != "0:0":
            return f"has the owner {entry.owner}"
        target = packages.follow(path, state.found)
        behind = state.found.entries.get(target)
        sound = behind and (behind.kind == "folder" or target in state.sound)
        # Folders that a running system makes, such as /run.
        return "" if sound or target.split("/")[0] == "run" else f"leads to /{target}"
    if entry.kind != "file":
        return f"is a {entry.kind}, not a file"
    if odd := odd_rights(entry, int(rule.get("mode", "644"), 8)):
        return odd
    if "empty" in rule:
        return "is not empty" if entry.size else ""
    if "copy" in rule:
        return "" if entry.sha256 in state.digests else "equals no file of a locked package"
    text = state.found.text(path)
    if text is None:
        return "is too large"
    if "lines" in rule:
        return odd_line(text, rule["lines"])
    return CHECKS[rule["check"]](path, text, state)


def odd_rights(entry: Entry, mode: int) -> str:
    """Another mode than the step gives, or another owner than root, as a reason."""
    return "" if (entry.mode, entry.owner) == (mode, "0:0") else \
        f"has the mode {entry.mode:o} and the owner {entry.owner}"


def odd_line(text: str, pattern: str) -> str:
    """The first line that is no comment and does not fit, as a reason."""
    for line in text.splitlines():
        if not line.startswith("#") and not re.fullmatch(pattern, line):
            return f"holds the line {line[:80]!r}"
    return ""


def check_status(path: str, text: str, state: State) -> str:
    """dpkg's list of what is installed names the locked packages and versions, and no others."""
    found = {(each.get("package", "?"), each.get("version", "?")): each.get("status")
             for each in packages.stanzas(text)}
    wanted_ones = {(each.name, each.version) for each in state.packages}
    for name, version in sorted(found.keys() - wanted_ones):
        return f"names {name} {version}, which is not locked"
    for name, version in sorted(wanted_ones - found.keys()):
        return f"does not name {name} {version}"
    odd = sorted(name for (name, _), status in found.items() if status != "install ok installed")
    return f"says that {odd[0]} is not installed" if odd else ""


def check_names(path: str, text: str, state: State) -> str:
    """A package's list of files names what its .deb holds."""
    name = path.removeprefix(locked.INFO).removesuffix(".list")
    if name not in state.wants.lists:
        return "belongs to no locked package"
    odd = sorted(set(text.splitlines()) ^ state.wants.lists[name])
    return f"differs from the package at {odd[0]}" if odd else ""


def check_certificates(path: str, text: str, state: State) -> str:
    """The bundle holds the certificates of the locked package, and no others."""
    known: set[str] = set()
    for each in state.sound:
        if each.startswith("usr/share/ca-certificates/"):
            known.update(CERTIFICATE.findall(state.found.text(each) or ""))
    found = set(CERTIFICATE.findall(text))
    if found - known:
        return "holds a certificate that no locked package brings"
    if known - found:
        return "lacks a certificate of ca-certificates"
    return "" if not CERTIFICATE.sub("", text).strip() else "holds more than certificates"


def check_libraries(path: str, text: str, state: State) -> str:
    """Every library that the loader's cache names is a file of a locked package (ld.so(8)).

    The format is glibc's: a header of 48 bytes, then entries of 24, then the strings.
    """
    data = state.found.entries[path].content or b""
    if not data.startswith(CACHE_MAGIC):
        return "is not in the format of this C library"
    try:
        count, = struct.unpack_from("<I", data, 20)
        for number in range(count):
            _, key, value = struct.unpack_from("<iII", data, 48 + number * 24)
            name, library = (data[at: data.index(b"\0", at)].decode() for at in (key, value))
            target = packages.follow(library.lstrip("/"), state.found)
            if target not in state.sound or Path(library).name != name:
                return f"leads {name} to {library}"
    except (struct.error, ValueError):
        return "is damaged"
    return ""


def check_accounts(path: str, text: str, state: State) -> str:
    """Every account is Debian's own, a system user without a shell, or the one of build-base."""
    known = set((state.found.text(MASTER) or "").splitlines()) if MASTER in state.sound else set()
    for line in text.splitlines():
        if line not in known and f"'{line}'" not in state.build_base \
                and not SYSTEM_USER.fullmatch(line):
            return f"holds the account {line[:80]!r}"
    return ""


def check_sources(path: str, text: str, state: State) -> str:
    """apt's sources are its own example for this release, with the component main alone."""
    apt = next(each for each in state.packages if each.name == "apt")
    with context.unpacked(fetch.path_of(apt.sha256)) as tree:
        example = next((tree.extractfile(member).read().decode() for member in tree
                        if member.name.removeprefix("./") == EXAMPLE), "")
    example = re.sub(r"^Components:.*", "Components: main", example, flags=re.MULTILINE)
    return "" if text == example else "differs from apt's example"


def check_filters(path: str, text: str, state: State) -> str:
    """dpkg's filters are those that build-base names."""
    known = [f"path-{'exclude' if exclude else 'include'}={pattern}"
             for exclude, pattern in locked.path_rules(state.build_base)]
    return "" if text.splitlines() == known else "differs from build-base"


CHECKS: dict[str, Callable[[str, str, State], str]] = {
    "status": check_status, "names": check_names, "certificates": check_certificates,
    "libraries": check_libraries, "accounts": check_accounts, "sources": check_sources,
    "filters": check_filters,
}
