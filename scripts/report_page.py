"""The report as one HTML page that needs nothing else: a treemap in SVG, and tables."""

from __future__ import annotations

import html

from scripts.report import ECOSYSTEMS, megabytes
from scripts.treemap import Box, squarify

WIDTH, HEIGHT, STRIP = 1200, 680, 20
#: A letter's width in the treemap, and the least height of a cell with a name in it.
LETTER, LINE = 6.6, 15
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #5a5a5a; --rule: #c9c9c9;
  --debian: #bcd4f5; --python: #bfe5c3; --other: #e3ddd0; --layer: #f2f2f2; --mark: #a33400; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --paper: #161616; --soft: #b4b4b4;
  --rule: #4a4a4a; --debian: #27436b; --python: #22502a; --other: #4b4538; --layer: #242424;
  --mark: #ff9d66; } }
body { margin: 1.5rem auto; max-width: 1240px; padding: 0 1rem; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
code { overflow-wrap: anywhere; font-size: .9em; } .soft { color: var(--soft); }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; pointer-events: none; }
svg rect { stroke: var(--paper); stroke-width: 1; } svg .layer { fill: var(--layer); }
.debian { fill: var(--debian); } .python { fill: var(--python); } .other { fill: var(--other); }
svg .marked { stroke: var(--mark); stroke-width: 3; }
a:hover rect, a:focus-visible rect { stroke: var(--ink); stroke-width: 3; }
a:focus-visible { outline: none; }
.key span { display: inline-block; padding: .1rem .6rem; margin-right: .5rem; color: var(--ink); }
.key .debian { background: var(--debian); } .key .python { background: var(--python); }
.key .other { background: var(--other); }
.key .marked { outline: 3px solid var(--mark); outline-offset: -3px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr:target { outline: 3px solid var(--mark); outline-offset: -3px; }
input { font: inherit; padding: .3rem .5rem; width: min(24rem, 100%); color: inherit;
  background: var(--paper); border: 1px solid var(--soft); }
"""
SCRIPT = """
const field = document.getElementById("filter");
field.addEventListener("input", () => {
  const wanted = field.value.toLowerCase();
  for (const row of document.querySelectorAll("#packages tbody tr"))
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
"""


def esc(value: object) -> str:
    """A value as HTML text."""
    return html.escape(str(value))


def anchor(number: int) -> str:
    """The name of a package's row: by its place among them, for names may be there twice."""
    return f"package-{number}"


def same(package: dict) -> tuple[str, ...]:
    """What tells one package of an image from the others."""
    return tuple(package[key] for key in ("ecosystem", "name", "version", "place"))


def page(data: dict, change: dict | None = None) -> str:
    """The page of an image, with what changed before it where that is given.

    :param data: from :func:`scripts.report.gather`.
    :param change: from :func:`scripts.report.compare`; ``data`` is the newer image's.
    """
    parts = [header(data), changes(change) if change else "", drawing(data, change), layers(data),
             packages(data), others(data)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(data['image'])}: what is in it</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(parts)}<script>{SCRIPT}</script></body></html>\n"
    )


def header(data: dict) -> str:
    """What the image is."""
    labels = "".join(f"<tr><th scope=row>{esc(name)}</th><td><code>{esc(value)}</code></td></tr>"
                     for name, value in sorted(data["labels"].items()))
    record = data.get("record") or {}
    built = "".join(f"<tr><th scope=row>built by {esc(name)}</th><td>{esc(value)}</td></tr>"
                    for name, value in (record.get("builder") or {}).items() if value)
    return (
        f"<h1>{esc(data['image'])}</h1><p>{megabytes(data['size'])} MB to pull, "
        f"{megabytes(data['unpacked'])} MB unpacked, {len(data['layers'])} layers, "
        f"{len(data['packages'])} packages.</p>"
        f"<details><summary>Digests and labels</summary><table>"
        f"<tr><th scope=row>manifest</th><td><code>{esc(data['manifest'])}</code></td></tr>"
        f"<tr><th scope=row>config</th><td><code>{esc(data['config'])}</code></td></tr>"
        f"{labels}{built}</table></details>"
    )


def cells(data: dict, number: int) -> list[dict]:
    """What a layer holds, the largest first: its packages, and the rest by kind."""
    here = [{"class": each["ecosystem"], "name": each["name"], "size": each["size"],
             "href": anchor(place), "key": same(each),
             "text": f"{each['name']} {each['version']}, {megabytes(each['size'])} MB"
                     + (f" ({megabytes(each['compiled'])} MB of it .pyc)"
                        if each["compiled"] else "")}
            for place, each in enumerate(data["packages"]) if each["layer"] == number]
    here += [{"class": "other", "name": each["kind"], "size": each["size"], "href": "other",
              "key": None, "text": f"{each['kind']}, {megabytes(each['size'])} MB in "
              f"{each['files']} files"}
             for each in data["other"] if each["layer"] == number]
    return sorted((cell for cell in here if cell["size"] > 0), key=lambda cell: -cell["size"])


def drawing(data: dict, change: dict | None) -> str:
    """The treemap: a box for each layer, in it one for each package, by unpacked size."""
    marked = {same(each) for part in ("added", "changed", "resized")
              for each in (change or {}).get(part, ())}
    groups = sorted(((number, cells(data, number)) for number in range(len(data["layers"]))),
                    key=lambda group: -sum(cell["size"] for cell in group[1]))
    groups = [group for group in groups if group[1]]
    sums = [sum(cell["size"] for cell in group) for _, group in groups]
    shapes = []
    for (number, group), outer in zip(groups, squarify(sums, Box(0, 0, WIDTH, HEIGHT)),
                                      strict=True):
        layer = data["layers"][number]
        title = f"Layer {number + 1}, {layer['step']}: {megabytes(sum(c['size'] for c in group))}"
        shapes.append(rectangle(outer, "layer") + label(outer, f"{title} MB"))
        inner = outer.inside(2, STRIP if outer.height > 2 * STRIP else 0)
        for cell, box in zip(group, squarify([c["size"] for c in group], inner), strict=True):
            if box.width < 0.5 or box.height < 0.5:
                continue
            kind = cell["class"] + (" marked" if cell["key"] in marked else "")
            shapes.append(
                f'<a href="#{cell["href"]}" aria-label="{esc(cell["text"])}"><g>'
                f"<title>{esc(cell['text'])}</title>{rectangle(box, kind)}"
                f"{label(box, cell['name'], megabytes(cell['size']) + ' MB')}</g></a>")
    keys = "".join(f"<span class={name}>{title}</span>" for name, title in
                   (*ECOSYSTEMS.items(), ("other", "of no package")))
    keys += "<span class=marked>changed</span>" if marked else ""
    return (
        "<h2>Where the room goes</h2><p class=soft>Each box is a package, as large as its files "
        "unpacked; grey frames are layers. A box leads to its row below.</p>"
        f"<p class=key>{keys}</p>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="Treemap of the packages by size">{"".join(shapes)}</svg>'
    )


def rectangle(box: Box, kind: str) -> str:
    """A rectangle in SVG."""
    return (f'<rect class="{kind}" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
            f'height="{box.height:.1f}"/>')


def label(box: Box, *lines: str) -> str:
    """Lines of text in a box, as far as they fit; a name is cut, a second line is not."""
    room = int((box.width - 8) / LETTER)
    texts = []
    for number, line in enumerate(lines):
        y = box.y + LINE * (number + 1)
        if room < 3 or y + 3 > box.y + box.height or (number and len(line) > room):
            break
        shown = line if len(line) <= room else line[: room - 1] + "…"
        texts.append(f'<text x="{box.x + 4:.1f}" y="{y:.1f}">{esc(shown)}</text>')
    return "".join(texts)


def table(heads: list[tuple[str, str]], rows: list[str], name: str = "") -> str:
    """A table; a head is its class (``n`` for numbers) and its text."""
    head = "".join(f'<th scope=col class="{kind}">{esc(text)}</th>' for kind, text in heads)
    return (f'<div class=wide><table id="{name}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>")


def row(*cells_: tuple[str, object], name: str = "") -> str:
    """A row; a cell is its class and its value."""
    mark = f' id="{name}"' if name else ""
    return f"<tr{mark}>" + "".join(f'<td class="{kind}">{esc(value)}</td>'
                                   for kind, value in cells_) + "</tr>"


def layers(data: dict) -> str:
    """The table of the layers."""
    rows = [row(("n", number + 1), ("n", megabytes(each["size"])),
                ("n", megabytes(each["unpacked"])), ("", each["step"]), ("", each["holds"]),
                ("", each["digest"][7:19]))
            for number, each in enumerate(data["layers"])]
    return "<h2>Layers, lowest first</h2>" + table(
        [("n", ""), ("n", "MB to pull"), ("n", "MB unpacked"), ("", "step"), ("", "holds"),
         ("", "digest")], rows)


def packages(data: dict) -> str:
    """The table of the packages, with a field that filters it."""
    rows = [row(("", ECOSYSTEMS[each["ecosystem"]]), ("", each["name"]), ("", each["version"]),
                ("n", megabytes(each["size"])), ("n", each["files"]), ("", each["licence"]),
                name=anchor(place)) for place, each in enumerate(data["packages"])]
    return (
        "<h2>Packages</h2><p><label>Show those with <input id=filter type=search></label></p>"
        + table([("", "of"), ("", "name"), ("", "version"), ("n", "MB"), ("n", "files"),
                 ("", "licence")], rows, "packages")
    )


def others(data: dict) -> str:
    """The table of what no package owns."""
    rows = [row(("", each["step"]), ("", each["kind"]), ("n", megabytes(each["size"])),
                ("n", each["files"])) for each in data["other"]]
    return "<h2>Of no package</h2>" + table(
        [("", "step"), ("", "what"), ("n", "MB"), ("n", "files")], rows, "other")


def changes(change: dict) -> str:
    """What changed, as a table."""
    rows = []
    for part, title in (("added", "added"), ("removed", "removed"), ("changed", "changed"),
                        ("resized", "another size")):
        for each in change[part]:
            rows.append(row(("", title), ("", ECOSYSTEMS[each["ecosystem"]]), ("", each["name"]),
                            ("", each.get("before", "" if part == "added" else each["version"])),
                            ("", "" if part == "removed" else each["version"]),
                            ("n", f"{each.get('grown', each['size']) / 1e6:+.2f}"
                             if part != "removed" else f"{-each['size'] / 1e6:+.2f}")))
    shared = sum(layer["state"] == "shared" for layer in change["layers"])
    return (
        f"<h2>What changed from {esc(change['from'])}</h2><p>{megabytes(change['pull'])} MB to "
        f"pull for someone who has it; {shared} of {len(change['layers'])} layers are shared. "
        f"{change['size'] / 1e6:+.1f} MB compressed, {change['unpacked'] / 1e6:+.1f} MB unpacked."
        "</p>" + table([("", "what"), ("", "of"), ("", "name"), ("", "before"), ("", "now"),
                        ("n", "MB")], rows)
    )
