"""Check a clear-signed file (Debian's InRelease) with gpgv or sqv, whichever apt brought along.

Nothing of the machine's configuration can switch this off: neither apt nor its settings are asked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts.locks import shown
from scripts.problem import Problem

_MARKS = (
    b"-----BEGIN PGP SIGNED MESSAGE-----",
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----END PGP SIGNATURE-----",
)
#: OpenPGP's numbers of SHA-256, SHA-384 and SHA-512: what was signed by a weaker one is refused.
_HASHES = {"8", "9", "10"}


class NoVerifier(Problem):
    """Neither gpgv nor sqv is on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "no gpgv or sqv here to check Debian's signatures",
            "install the package gpgv (apt brings gpgv or sqv; elsewhere it comes with GnuPG)",
        )


class BadSignature(Problem):
    """The text isn't what the keys signed, or nobody signed it."""


@dataclass(frozen=True)
class Signed:
    """The text that was signed, and the fingerprints of the primary keys that signed it."""

    text: bytes
    signers: tuple[str, ...]


def read_keys(path: Path) -> frozenset[str]:
    """The fingerprints that a person trusts (keys.in).

    :raises Problem: the file is missing, empty, or a line is no fingerprint.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        raise Problem(f"{shown(path)} is missing", "git checkout it") from None
    keys = {line.partition("#")[0].strip() for line in lines} - {""}
    if wrong := sorted(key for key in keys if not re.fullmatch(r"[0-9A-F]{40}", key)):
        raise Problem(
            f"{shown(path)}: {wrong[0][:60]} is no fingerprint", "write 40 digits and capitals A-F"
        )
    if not keys:
        raise Problem(f"{shown(path)} names no key", "write one fingerprint a line")
    return frozenset(keys)


def check(content: bytes, what: str, keys: frozenset[str], keyrings: list[Path]) -> Signed:
    """Check that one of ``keys`` signed the clear-signed ``content``.

    :param what: how messages call it, such as ``trixie's InRelease``.
    :param keyrings: files with public keys, the first that knows one of ``keys`` counts; that
        a key is in there is no reason to trust it.
    :returns: the signed text alone: nothing outside the signature is heeded.
    :raises BadSignature: the text was changed, isn't signed, or by others.
    :raises NoVerifier: the machine has neither gpgv nor sqv.
    """
    lines = content.splitlines()
    # One message and nothing around it: parsers don't agree on what else means.
    if [line for line in lines if line.startswith((b"-----BEGIN PGP", b"-----END PGP"))] != list(
        _MARKS
    ) or (lines[0], lines[-1]) != (_MARKS[0], _MARKS[2]):
        raise BadSignature(f"{what} isn't signed", "use another Debian mirror")
    program = shutil.which("gpgv") or shutil.which("sqv")
    if not program:
        raise NoVerifier
    seen: set[str] = set()
    for keyring in keyrings:
        signed = _gpgv(program, content, what, keyring) if program.endswith("gpgv") else _sqv(
            program, content, keyring
        )
        seen.update(signed.signers)
        if good := keys.intersection(signed.signers):
            return Signed(signed.text, tuple(sorted(good)))
    if seen:
        raise BadSignature(
            f"{what} is signed by {min(seen)}, not by a key of Debian's that images/base/keys.in "
            "names", "use another Debian mirror; for a new suite, correct keys.in",
        )
    if not keyrings:
        raise BadSignature(
            f"this machine holds no key of Debian's to check {what}",
            "install the package debian-archive-keyring",
        )
    raise BadSignature(
        f"{what} holds no valid signature of a key that this machine knows",
        "use another Debian mirror, or install a newer debian-archive-keyring",
    )


def _gpgv(program: str, content: bytes, what: str, keyring: Path) -> Signed:
    with tempfile.TemporaryDirectory(prefix="hothouse-") as folder:
        source, text = Path(folder) / "signed", Path(folder) / "text"
        source.write_bytes(content)
        # gpgv takes a keyring's name for one in its home folder unless it holds a slash.
        command = [program, "--verbose", "--homedir", folder, "--status-fd", "1",
                   "--keyring", str(keyring.absolute()), "--output", str(text), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace",
                              check=False, env={**os.environ, "LC_ALL": "C"})
        signed = text.read_bytes() if text.exists() else b""
    status = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("[GNUPG:]")]
    if any(words[0] == "BADSIG" for words in status):
        raise BadSignature(f"{what} was changed after it was signed", "use another Debian mirror")
    # Of a key that is both, the status tells only that it has expired.
    revoked = "has been revoked" in done.stderr
    signers, usable, until, ends = [], False, None, []
    for words in status:
        if words[0] == "NEWSIG":
            usable, ends = False, []
        elif words[0] == "KEYEXPIRED":
            ends.append(int(words[1]))
        # A signature is told by one of these lines, then by VALIDSIG. A key that has expired
        # since is no reason to doubt what it signed while it was valid; revoked is another thing.
        elif words[0] in ("GOODSIG", "EXPKEYSIG", "EXPSIG", "REVKEYSIG", "ERRSIG"):
            expired = words[0] == "EXPKEYSIG"
            usable = words[0] == "GOODSIG" or (expired and not revoked)
            # The first of the primary key's and its subkeys' ends: the status names no key there.
            until = min(ends, default=0) if expired else None
        elif words[0] == "VALIDSIG" and usable and words[8] in _HASHES and (
            until is None or int(words[3]) <= until
        ):
            signers.append(words[10])
    return Signed(signed, tuple(signers)) if signed else Signed(b"", ())


def _sqv(program: str, content: bytes, keyring: Path) -> Signed:
    with tempfile.TemporaryDirectory(prefix="hothouse-") as folder:
        source, text = Path(folder) / "signed", Path(folder) / "text"
        source.write_bytes(content)
        # It prints the primary fingerprint of each valid signature's key.
        command = [program, f"--keyring={keyring.absolute()}", f"--output={text}", "--cleartext",
                   str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not text.exists():
            return Signed(b"", ())
        return Signed(text.read_bytes(), tuple(re.findall(r"^[0-9A-F]{40}$", done.stdout, re.M)))
