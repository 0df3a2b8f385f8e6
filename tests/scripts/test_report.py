"""Reports of images made by hand: packages, licences, sizes, what changed, and the page."""

import json
import re
from html.parser import HTMLParser

import oci_images
import pytest

from scripts import report, report_page, source, treemap
from scripts.problem import Problem

PYTHON = "usr/local/lib/python3.13/dist-packages"
MACHINE_READABLE = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-2+

License: GPL-2+
 The text.
"""


@pytest.fixture(autouse=True)
def no_engine(monkeypatch, tmp_path):
    monkeypatch.setenv("HOTHOUSE_CWD", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")


def base(version: str = "1.0") -> bytes:
    status = "".join(
        f"Package: {name}\nStatus: {status}\nArchitecture: amd64\nVersion: {version}\n\n"
        for name, status in (("tool", "install ok installed"), ("odd", "install ok installed"),
                             ("gone", "deinstall ok config-files")))
    return oci_images.layer({
        "bin": "usr/bin", "usr/bin/tool": b"x" * 1000, "etc/own": b"12345",
        "var/lib/dpkg/status": status.encode(),
        "var/lib/dpkg/info/tool.list": b"/.\n/bin\n/bin/tool\n/usr/share/doc/tool/copyright\n",
        "usr/share/doc/tool/copyright": MACHINE_READABLE.encode(),
    })


def wheel(name: str = "Thing", version: str = "2.0", licence: str = "License-Expression: MIT",
          size: int = 500, more: str = "", folder: str = PYTHON) -> bytes:
    info = f"{name.lower()}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{licence}\n\nText\n"
    files = {
        f"{folder}/{name.lower()}/__init__.py": b"#" * size,
        f"{folder}/{name.lower()}/__pycache__/__init__.cpython-313.pyc": b"c" * 300,
        "usr/local/bin/thing": b"s" * 50,
        f"{folder}/{info}/METADATA": metadata.encode(),
    }
    record = f"{name.lower()}/__init__.py,sha256=x,1\n../../../bin/thing,,\n{info}/METADATA,,\n"
    return oci_images.layer({**files, f"{folder}/{info}/RECORD": (record + more).encode()})


def gather(tmp_path, *tars: bytes, name: str = "image.tar", **settings) -> dict:
    oci_images.make(*tars, **settings).archive(tmp_path / name)
    return report.gather(f"./{name}")


def by_name(data: dict) -> dict[str, dict]:
    return {package["name"]: package for package in data["packages"]}


def test_packages_have_versions_licences_and_all_of_their_files(tmp_path):
    data = gather(tmp_path, base(), wheel())
    packages = by_name(data)
    assert set(packages) == {"tool", "odd", "Thing"}
    tool, thing = packages["tool"], packages["Thing"]
    assert (tool["ecosystem"], tool["version"], tool["licence"]) == ("debian", "1.0", "GPL-2+")
    # Through the link /bin; its copyright and its list belong to it too.
    assert tool["size"] > 1000 + len(MACHINE_READABLE)
    assert packages["odd"]["licence"] == "no copyright file"
    assert (thing["version"], thing["licence"], thing["layer"]) == ("2.0", "MIT", 1)
    assert thing["compiled"] == 300
    assert thing["size"] > 500 + 300 + 50
    owned = sum(package["size"] for package in data["packages"])
    assert owned + sum(row["size"] for row in data["other"]) == data["unpacked"]


def test_what_no_package_owns_is_summed_up_by_step_and_kind(tmp_path):
    data = gather(tmp_path, base())
    kinds = {row["kind"]: row for row in data["other"]}
    assert kinds["configuration"]["size"] == 5
    assert kinds["configuration"]["step"] == "step 0"
    assert kinds["dpkg's own state"]["files"] == 1


@pytest.mark.parametrize(("metadata", "licence"), [
    ("License-Expression: MIT\nLicense: other", "MIT"),
    ("License: Apache 2.0", "Apache 2.0"),
    ("License: The whole text\n        of a licence\nClassifier: License :: OSI Approved :: ISC",
     "ISC"),
    ("License: UNKNOWN\nClassifier: Programming Language :: Python", "UNKNOWN"),
    ("Summary: License: no", "not stated"),
])
def test_a_wheels_licence_is_found_where_it_is_stated(tmp_path, metadata, licence):
    assert by_name(gather(tmp_path, wheel(licence=metadata)))["Thing"]["licence"] == licence


def test_layers_have_sizes_and_what_they_hold(tmp_path):
    made = oci_images.make(base(), wheel(), labels={"io.hothouse.epoch": "1795219200"})
    made.archive(tmp_path / "image.tar")
    data = report.gather("./image.tar")
    assert [layer["digest"] for layer in data["layers"]] == made.layers
    assert [layer["size"] for layer in data["layers"]] == [len(made.blobs[d]) for d in made.layers]
    assert [layer["holds"] for layer in data["layers"]] == ["Debian: tool, odd", "Python: Thing"]
    text = report.text_of(data)
    assert "epoch    1795219200 (2026-11-21)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_what_changed_between_two_images(tmp_path):
    one = gather(tmp_path, base(), wheel(), wheel("Old"), name="one.tar")
    two = gather(tmp_path, base(), wheel(version="2.1", size=900), wheel("New"), name="two.tar")
    change = report.compare(one, two)
    assert [each["name"] for each in change["added"]] == ["New"]
    assert [each["name"] for each in change["removed"]] == ["Old"]
    changed, = change["changed"]
    assert (changed["name"], changed["before"], changed["version"]) == ("Thing", "2.0", "2.1")
    assert changed["grown"] >= 400
    assert [layer["state"] for layer in change["layers"]] == ["shared", "new", "new"]
    assert change["pull"] == two["layers"][1]["size"] + two["layers"][2]["size"]
    text = report.text_of_change(change)
    assert "2.0 → 2.1" in text
    assert max(map(len, text.splitlines())) <= 80


OTHER = "usr/lib/python3/dist-packages"


@pytest.mark.parametrize(("before", "after", "changed"), [
    (("1", "2"), ("1", "3"), [("2", "3")]), (("1", "2"), ("3", "2"), [("1", "3")]),
    (("1", "2"), ("2", "1"), [("1", "2"), ("2", "1")]), (("1", "2"), ("1", "2"), []),
])
def test_two_installs_of_one_name_are_two_packages(tmp_path, before, after, changed):
    one, two = (gather(tmp_path, wheel("six", first, folder=OTHER), wheel("six", second),
                       name=f"{number}.tar")
                for number, (first, second) in enumerate((before, after)))
    change = report.compare(one, two)
    assert sorted((each["before"], each["version"]) for each in change["changed"]) == changed
    assert change["added"] == change["removed"] == []
    reader = Reader()
    text = report_page.page(two, change)
    reader.feed(text)
    assert len(reader.ids) == len(set(reader.ids))
    assert text.count('class="python marked"') == len(changed)


@pytest.mark.parametrize("folder", [OTHER, PYTHON])
def test_a_second_install_of_a_name_is_added(tmp_path, folder):
    one = gather(tmp_path, wheel("six", "1"), name="one.tar")
    two = gather(tmp_path, wheel("six", "1"), wheel("Six", "2", folder=folder), name="two.tar")
    assert [each["version"] for each in report.compare(one, two)["added"]] == ["2"]
    assert [each["version"] for each in report.compare(two, one)["removed"]] == ["2"]


def test_another_folder_or_writing_of_the_name_is_the_same_package(tmp_path):
    one = gather(tmp_path, wheel("A_b.c", "1"), name="one.tar")
    two = gather(tmp_path, wheel("a-b-c", "2", folder=OTHER), name="two.tar")
    change = report.compare(one, two)
    assert [each["before"] for each in change["changed"]] == ["1"]
    assert change["added"] == change["removed"] == []


def test_the_same_version_in_another_size_is_said(tmp_path):
    one = gather(tmp_path, wheel(), name="one.tar")
    change = report.compare(one, gather(tmp_path, wheel(size=1500)))
    each, = change["resized"]
    assert (each["name"], each["grown"]) == ("Thing", 1000)
    assert "Same version, another size: 1 packages\n     +0.001 python  Thing" \
        in report.text_of_change(change)
    assert report.compare(one, one)["resized"] == []


def test_another_compression_is_told_from_another_layer(tmp_path):
    one = gather(tmp_path, base(), name="one.tar")
    two = gather(tmp_path, base(), name="two.tar", compression="gzip")
    change = report.compare(one, two)
    assert [layer["state"] for layer in change["layers"]] == ["other compression"]
    assert change["same_config"]
    assert not change["same_manifest"]
    assert change["pull"] == two["size"]
    assert "are the same image" in report.text_of_change(report.compare(one, one))


def test_json_holds_all_of_it(tmp_path, capsys):
    path = oci_images.make(base(), wheel()).archive(tmp_path / "image.tar")
    report.run(str(path), None, as_json=True, html=None)
    data = json.loads(capsys.readouterr().out)
    assert {"manifest", "config", "labels", "layers", "packages", "other", "size"} <= data.keys()
    report.run(str(path), str(path), as_json=True, html=None)
    assert json.loads(capsys.readouterr().out)["change"]["same_manifest"]


class Reader(HTMLParser):
    """Notes the tags, their attributes and what is never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.open, self.ids, self.links = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if values.get("id") else []
        if tag == "a":
            self.links.add(values["href"])
        assert not {"src", "srcset"} & values.keys()
        if tag not in ("meta", "input", "rect", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    one = oci_images.make(base(), wheel("<b>&Thing")).archive(tmp_path / "one.tar")
    two = oci_images.make(base("1.1"), wheel("<b>&Thing", "9")).archive(tmp_path / "two.tar")
    report.run(str(one), str(two), as_json=False, html="page.html")
    text = (tmp_path / "page.html").read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert len(reader.links) >= 3
    assert not re.search(r"https?://|@import|url\(", text)
    assert "<b>&Thing" not in text.replace("&lt;b&gt;&amp;Thing", "")
    assert 'class="python marked"' in text


def test_a_name_cannot_end_an_attribute_of_the_page(tmp_path):
    data = gather(tmp_path, wheel('x"onload=evil()'), wheel("y'z"))
    text = report_page.page(data)
    assert "x&quot;onload=evil()" in text
    assert 'x"onload' not in text
    assert "y'z" not in text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    path = oci_images.make(base()).archive(tmp_path / "image.tar")
    with pytest.raises(Problem, match="can't be written: No such file"):
        report.run(str(path), None, as_json=False, html=str(tmp_path / "no/page.html"))


@pytest.mark.parametrize("sizes", [[5], [6, 6, 4, 3, 2, 2, 1], [1000, 1, 1, 0.001], [1] * 50])
def test_a_treemap_fills_its_box_in_proportion(sizes):
    outer = treemap.Box(10, 20, 600, 400)
    boxes = treemap.squarify(sizes, outer)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.width * box.height == pytest.approx(600 * 400 * size / sum(sizes))
        assert box.x >= 10 - 1e-6
        assert box.x + box.width <= 610 + 1e-6
        assert box.y >= 20 - 1e-6
        assert box.y + box.height <= 420 + 1e-6
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            apart = (one.x + one.width <= other.x + 1e-6 or other.x + other.width <= one.x + 1e-6
                     or one.y + one.height <= other.y + 1e-6
                     or other.y + other.height <= one.y + 1e-6)
            assert apart


def test_a_treemap_of_like_sizes_has_no_slivers():
    boxes = treemap.squarify([6, 6, 4, 3, 2, 2, 1], treemap.Box(0, 0, 600, 400))
    assert max(max(b.width / b.height, b.height / b.width) for b in boxes) < 3


@pytest.mark.parametrize("more", ["a\rb,,\n", f"{'x' * 140_000},,\n"])
def test_a_record_that_cannot_be_read_is_one_line(tmp_path, more):
    with pytest.raises(Problem, match="/thing-2.0.dist-info/RECORD is no RECORD"):
        gather(tmp_path, wheel(more=more))


def test_a_package_without_a_name_is_shown_as_such(tmp_path):
    status = b"Status: install ok installed\nVersion: 1\n"
    data = gather(tmp_path, oci_images.layer({"var/lib/dpkg/status": status}))
    assert by_name(data)["?"]["version"] == "1"


@pytest.mark.parametrize("epoch", ["99999999999999", "\N{SUPERSCRIPT TWO}", "", "-1"])
def test_an_epoch_that_is_no_date_is_left_out(tmp_path, epoch):
    data = gather(tmp_path, base(), labels={"io.hothouse.epoch": epoch})
    assert "epoch" not in report.text_of(data)


def test_a_label_that_is_no_text_of_any_encoding_is_shown_anyway(tmp_path, capsys):
    path = oci_images.make(base(), labels={"odd": "\ud800"}).archive(tmp_path / "image.tar")
    report.run(str(path), None, as_json=False, html="page.html")
    assert "<code>?</code>" in (tmp_path / "page.html").read_text()
    report.run(str(path), None, as_json=True, html=None)
    text = capsys.readouterr().out.partition("\n")[2]
    assert text.isascii()
    assert json.loads(text)["labels"] == {"odd": "\ud800"}


EVIL = "\x1b[2J\nEvery file is explained.\x9b\u202e"
SHOWN = r"\x1b[2J\x0aEvery file is explained.\x9b\x202e"


def test_what_others_wrote_is_no_order_to_a_terminal(tmp_path):
    one = gather(tmp_path, base(), labels={source.REVISION: EVIL}, name="one.tar")
    text = report.text_of(one)
    assert f"source   {SHOWN}" in text
    two = gather(tmp_path, base(), wheel(licence=f"License: {EVIL[:4]}evil"))
    two["layers"][0]["step"] = EVIL
    change = report.text_of_change(report.compare(one, two))
    for each in (text, report.text_of(two), change):
        assert all(line.isprintable() for line in each.splitlines())
    assert SHOWN in change
    assert r"\x1b[2Jevil" in report.text_of(two)


def test_no_line_is_wider_than_a_terminal(tmp_path):
    long = "1.0+" + "x\x07" * 20
    labels = {source.REVISION: "a" * 40, "io.hothouse.lock": f"sha256:{'b' * 64}"}
    one = gather(tmp_path, base(), wheel("Long" * 9, long), wheel("Same", long),
                 wheel("Old" * 20, long), name="one.tar", labels=labels)
    two = gather(tmp_path, base(long), wheel("Long" * 9, long + "2"), wheel("Same", long, size=9),
                 wheel("New" * 20, long), labels={})
    for text in (report.text_of(one), report.text_of_change(report.compare(one, two))):
        assert max(map(len, text.splitlines())) == 80


def test_an_empty_image_has_a_page(tmp_path):
    data = gather(tmp_path, oci_images.layer({}))
    assert "<svg" in report_page.page(data)
    assert "0.0 MB unpacked, 1 layers" in report.text_of(data)
