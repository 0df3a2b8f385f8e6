"""The date of the images is in one place: images/epoch.lock, which `inv lock` writes."""

import datetime
import re

from test_lint import ROOT, tracked

from scripts import locks

#: What gives SOURCE_DATE_EPOCH, or a variable with that meaning, a number.
SET = re.compile(
    r"(?:SOURCE_DATE_EPOCH|LAYER_TIME|\bepoch)\"?\s*[=:]\s*[\"'{(]*(\d[\d_]{7,})", re.IGNORECASE
)
#: The one constant for the times of files: 1980, the earliest that a zip archive can hold.
FILES_TIME = "315532800"


def test_no_other_file_sets_a_date():
    found = {}
    for path in tracked():
        relative = path.relative_to(ROOT)
        if relative.parts[0] in ("tests", "docs") or path.suffix == ".lock":
            continue
        for value in SET.findall(path.read_text(errors="replace")):
            found.setdefault(str(relative), set()).add(value)
    assert found == {"images/builder/build-base": {FILES_TIME},
                     "images/builder/build-layer": {FILES_TIME}}


def test_the_date_is_that_of_the_newest_lock():
    newest = max(locks.read(path).date for path in locks.ALL)
    moment = datetime.datetime.fromisoformat(newest).replace(tzinfo=datetime.timezone.utc)
    assert locks.epoch() == moment.timestamp()
