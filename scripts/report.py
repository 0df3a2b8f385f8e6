"""`inv report`: what is in an image, and what changed between two."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections import Counter
from pathlib import Path

from scripts import contents, oci, packages, record, source
from scripts.paths import ARTIFACTS
from scripts.printable import printable
from scripts.problem import Problem

RECORDS = ARTIFACTS / "build"

ECOSYSTEMS = {"debian": "Debian", "python": "Python"}
#: What no package owns, by where it lies; the first that fits counts.
STATE = (
    ("var/lib/dpkg/", "dpkg's own state"),
    ("var/lib/", "state that Debian's packages wrote when they were set up"),
    ("etc/ssl/certs/", "certificates as OpenSSL wants them"),
    ("etc/", "configuration"),
)


def gather(name: str) -> dict:
    """Read an image and return all that the report shows, as JSON knows it.

    :returns: sizes in bytes; ``size`` is compressed, ``unpacked`` is not.
    :raises Problem: there is no such image, or it is damaged.
    """
    with oci.open_image(name) as image:
        found = contents.read(image, packages.wanted)
        installed, owners = packages.find(found)
        steps = source.steps_of(image)
        layers = [
            {"digest": layer.digest, "diff_id": layer.diff_id, "size": layer.size,
             "unpacked": found.layers[number], "step": steps[number],
             "holds": holds(number, installed)}
            for number, layer in enumerate(image.layers)
        ]
        return {
            "image": name, "place": image.place.shown, "manifest": image.digest,
            "config": image.config_digest, "created": image.config.get("created", ""),
            "labels": image.labels, "record": record.find(RECORDS, image.digest),
            "size": sum(layer["size"] for layer in layers),
            "unpacked": sum(layer["unpacked"] for layer in layers),
            "layers": layers,
            "packages": [
                {"ecosystem": each.ecosystem, "name": each.name, "version": each.version,
                 "licence": each.licence, "place": each.place, "size": each.size,
                 "compiled": each.compiled, "files": each.files, "layer": each.layer}
                for each in installed
            ],
            "other": other(found, owners, steps),
        }


def holds(number: int, installed: list[packages.Package]) -> str:
    """Say in a few words which packages a layer holds, the largest first."""
    here = sorted((each for each in installed if each.layer == number),
                  key=lambda each: -each.size)
    parts = []
    for key, title in ECOSYSTEMS.items():
        names = [each.name for each in here if each.ecosystem == key]
        if names:
            more = f" and {len(names) - 2} more" if len(names) > 2 else ""
            parts.append(f"{title}: {', '.join(names[:2])}{more}")
    return "; ".join(parts) or "files"


def other(found: contents.Contents, owners: dict, steps: list[str]) -> list[dict]:
    """Sum up what no package owns, by the step that made it and by kind."""
    sums: dict[tuple[int, str], list[int]] = {}
    for path, entry in found.entries.items():
        if path in owners or entry.kind == "folder":
            continue
        kind = next((text for start, text in STATE if path.startswith(start)), "files")
        if path.endswith(".pyc"):
            kind = "compiled Python without a package"
        row = sums.setdefault((entry.layer, kind), [0, 0])
        row[0] += 0 if entry.same else entry.size
        row[1] += 1
    return [{"layer": layer, "step": steps[layer], "kind": kind, "size": size, "files": files}
            for (layer, kind), (size, files) in sorted(sums.items())]


def name_of(package: dict) -> tuple[str, str]:
    """What is equal for all versions of a package, however its name is written."""
    name = package["name"]
    return package["ecosystem"], re.sub(r"[-_.]+", "-", name).lower() \
        if package["ecosystem"] == "python" else name


def paired(one: dict, two: dict) -> list[dict[tuple, dict]]:
    """The packages of two reports, each by what is equal for two versions of it: its name, and
    where one image has several of that name also where it lies."""
    several = {name for data in (one, two)
               for name, number in Counter(map(name_of, data["packages"])).items() if number > 1}
    sides = []
    for data in (one, two):
        side: dict[tuple, dict] = {}
        for each in sorted(data["packages"], key=lambda each: each["version"]):
            name, number = name_of(each), 0
            # Several may even lie in one folder.
            while (key := (*name, each["place"] if name in several else "", number)) in side:
                number += 1
            side[key] = each
        sides.append(side)
    return sides


def compare(one: dict, two: dict) -> dict:
    """Say what changed from the report ``one`` to the report ``two``.

    :returns: ``pull``: the compressed bytes that someone who has ``one`` fetches for ``two``.
    """
    before, after = paired(one, two)
    had = {layer["digest"] for layer in one["layers"]}
    unpacked = {layer["diff_id"] for layer in one["layers"]}
    layers = [
        {**layer, "state": "shared" if layer["digest"] in had else
         "other compression" if layer["diff_id"] in unpacked else "new"}
        for layer in two["layers"]
    ]
    keys = sorted(before.keys() & after.keys())
    changed = [key for key in keys if before[key]["version"] != after[key]["version"]]
    resized = [key for key in keys if before[key]["version"] == after[key]["version"]
               and before[key]["size"] != after[key]["size"]]
    return {
        "from": one["image"], "to": two["image"],
        "same_manifest": one["manifest"] == two["manifest"],
        "same_config": one["config"] == two["config"],
        "size": two["size"] - one["size"], "unpacked": two["unpacked"] - one["unpacked"],
        "pull": sum(layer["size"] for layer in layers if layer["digest"] not in had),
        "added": [after[key] for key in sorted(after.keys() - before.keys())],
        "removed": [before[key] for key in sorted(before.keys() - after.keys())],
        "changed": [{**after[key], "before": before[key]["version"],
                     "grown": after[key]["size"] - before[key]["size"]} for key in changed],
        "resized": [{**after[key], "grown": after[key]["size"] - before[key]["size"]}
                    for key in resized],
        "layers": layers,
        "labels": {name: [one["labels"].get(name), two["labels"].get(name)]
                   for name in sorted(one["labels"].keys() | two["labels"].keys())
                   if one["labels"].get(name) != two["labels"].get(name)},
    }


def megabytes(size: int) -> str:
    """A size as people read it, in MB of a million bytes."""
    return f"{size / 1e6:.1f}" if abs(size) >= 50_000 or not size else f"{size / 1e6:.3f}"


def cut(text: str, width: int) -> str:
    """Shorten a text to a column's width."""
    return text if len(text) <= width else text[: width - 1] + "…"


def table(rows: list[tuple[str, ...]], widths: tuple[int, ...]) -> list[str]:
    """Lay out rows; a negative width is a column aligned to the right."""
    lines = []
    for row in rows:
        cells = [cut(printable(cell), abs(width)).rjust(-width) if width < 0
                 else cut(printable(cell), width).ljust(width)
                 for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + " ".join(cells).rstrip())
    return lines


def text_of(data: dict) -> str:
    """The report of one image as text, at most 80 columns wide but for names and labels."""
    lines = [
        data["image"],
        f"manifest {data['manifest']}",
        f"config   {data['config']}",
        f"{megabytes(data['size'])} MB compressed, {megabytes(data['unpacked'])} MB unpacked, "
        f"{len(data['layers'])} layers",
        *made_of(data),
        "", "Layers, lowest first: MB compressed and unpacked, step, what it holds",
    ]
    lines += table([
        (megabytes(layer["size"]), megabytes(layer["unpacked"]), layer["step"], layer["holds"])
        for layer in data["layers"]
    ], (-7, -7, 22, 38))
    for key, title in ECOSYSTEMS.items():
        here = [each for each in data["packages"] if each["ecosystem"] == key]
        if here:
            total = sum(each["size"] for each in here)
            lines += ["", f"{title}: {len(here)} packages, {megabytes(total)} MB unpacked"]
            lines += table([(megabytes(each["size"]), each["name"], each["version"],
                             each["licence"]) for each in here], (-7, 26, 20, 21))
    if data["other"]:
        lines += ["", "Of no package: MB, files, step, what"]
        lines += table([(megabytes(row["size"]), str(row["files"]), row["step"], row["kind"])
                        for row in data["other"]], (-7, -6, 22, 40))
    return "\n".join(map(printable, lines))


def made_of(data: dict) -> list[str]:
    """Lines about what an image was made from, and by what where that is recorded here."""
    labels = data["labels"]
    lines = [f"{title:9}{labels[name]}" for title, name in
             (("source", source.REVISION), ("locks", source.LABELS + "lock")) if name in labels]
    epoch = labels.get(source.LABELS + "epoch", "")
    if re.fullmatch("[0-9]{1,11}", epoch):  # more is no date that Python knows
        day = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
        lines.append(f"epoch    {epoch} ({day:%Y-%m-%d})")
    if builder := (data["record"] or {}).get("builder"):
        lines.append("built by " + ", ".join(f"{name} {value}" for name, value
                                              in builder.items() if value))
    return lines


def text_of_change(change: dict) -> str:
    """The comparison as text, at most 80 columns wide but for names and labels."""
    if change["same_manifest"]:
        return printable(f"{change['from']} and {change['to']} are the same image.")
    lines = [f"From {change['from']} to {change['to']}",
             f"  to pull {megabytes(change['pull'])} MB; the size changes by "
             f"{change['size'] / 1e6:+.1f} MB compressed, {change['unpacked'] / 1e6:+.1f} MB "
             "unpacked",
             "", "Layers: MB compressed, step, what it holds"]
    lines += table([(layer["state"], megabytes(layer["size"]), layer["step"], layer["holds"])
                    for layer in change["layers"]], (17, -7, 22, 29))
    for key, title in (("added", "Added"), ("removed", "Removed")):
        if change[key]:
            lines += ["", f"{title}: {len(change[key])} packages"]
            lines += table([(megabytes(each["size"]), each["ecosystem"], each["name"],
                             each["version"]) for each in change[key]], (-7, 7, 30, 30))
    if change["changed"]:
        lines += ["", f"Changed: {len(change['changed'])} packages"]
        lines += table([(f"{each['grown'] / 1e6:+.1f}", each["ecosystem"], each["name"],
                         f"{each['before']} → {each['version']}")
                        for each in change["changed"]], (-7, 7, 26, 35))
    if change["resized"]:
        lines += ["", f"Same version, another size: {len(change['resized'])} packages"]
        lines += table([(f"{each['grown'] / 1e6:+.3f}", each["ecosystem"], each["name"],
                         each["version"]) for each in change["resized"]], (-9, 7, 26, 33))
    if change["labels"]:
        lines += ["", "Labels"]
        for name, (old, new) in change["labels"].items():
            lines += [f"  {name}", f"    {old or 'none'}", f"    {new or 'none'}"]
    return "\n".join(map(printable, lines))


def run(image: str, other_image: str | None, *, as_json: bool, html: str | None) -> None:
    """Print the report of an image, or what changed from it to another.

    :param html: write a page to this file, relative to the caller's folder.
    :raises Problem: there is no such image, or the page can't be written.
    """
    one = gather(image)
    two = gather(other_image) if other_image else None
    change = compare(one, two) if two else None
    if html:
        from scripts import report_page

        path = Path(os.environ.get("HOTHOUSE_CWD", ".")) / html
        try:
            path.write_text(report_page.page(two or one, change), encoding="utf-8",
                            errors="replace")
        except OSError as error:
            raise Problem(f"{html} can't be written: {error.strerror}",
                          "name a file in a folder that you may write to") from None
    if as_json:
        data = {"images": [one, two], "change": change} if change else one
        print(json.dumps(data, indent=2))
    elif html:
        print(f"wrote {html}")
    else:
        print(text_of_change(change) if change else text_of(one))
