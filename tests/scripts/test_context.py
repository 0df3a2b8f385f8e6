"""The builder's root is made anew when what it is made from or by has changed."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from scripts import build, context, fetch, resolve_debs
from scripts.locks import Package
from scripts.problem import Problem


def deb(name: str, *files: str) -> bytes:
    """A package with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for file in files:
            tar.addfile(tarfile.TarInfo(f"./{file}"))
    data = buffer.getvalue()
    head = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
    return b"!<arch>\n" + head + data + b"\n" * (len(data) % 2)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lay out the context of one small package; returns its folder."""
    monkeypatch.setattr(context, "CONTEXTS", tmp_path / "context")
    monkeypatch.setattr(fetch, "path_of", lambda sha256: tmp_path / "store" / sha256)
    (tmp_path / "store").mkdir()
    content = deb("base-files", "etc/one")
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "store" / sha256).write_bytes(content)
    package = Package(sha256, len(content), "any", "any", "base", "base-files", "1",
                      "debian:pool/base-files_1_all.deb")
    return lambda: context.lay_out_debs((package,), ["python3", "tini"])


def names(folder: Path) -> list[str]:
    with tarfile.open(folder / "bootstrap.tar") as tar:
        return tar.getnames()


def test_the_root_is_made_once(made):
    before = (made() / "bootstrap.tar").stat()
    assert names(made()) == ["etc/one"]
    assert (made() / "bootstrap.tar").stat().st_mtime_ns == before.st_mtime_ns


def test_a_root_that_other_code_wrote_is_made_anew(made, tmp_path, monkeypatch):
    folder = made()
    (folder / "bootstrap.tar").write_bytes(b"of other code")
    other = tmp_path / "context.py"
    other.write_text(Path(context.__file__).read_text() + "# changed\n")
    monkeypatch.setattr(context, "__file__", str(other))
    assert names(made()) == ["etc/one"]


def test_no_stamp_is_left_where_the_root_could_not_be_written(made, monkeypatch):
    folder = made()
    (folder / "bootstrap.tar").unlink()

    def stops(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(context, "write_bootstrap", stops)
    with pytest.raises(KeyboardInterrupt):
        made()
    assert not (folder / "bootstrap.key").exists()


def test_the_names_of_the_base_image_are_read_as_the_resolver_reads_them(
    made, tmp_path, monkeypatch
):
    path = tmp_path / "packages.in"
    monkeypatch.setattr(resolve_debs, "INPUT", path)
    path.write_text("# suite: trixie\n#layer: bootstrap\nx1\n#  layer:base  # why\npython3 # why\n"
                    "\ntini\n# layer: more\nother\n")
    assert build.wanted() == ["python3", "tini"]
    assert (made() / "wanted").read_text() == "python3\ntini\n"
    path.write_text("# suite: trixie\n# layer: bootstrap\nx1\n# layer: base\n")
    with pytest.raises(Problem, match="names nothing for the layer base"):
        build.wanted()
