"""The command `hothouse`: what it takes, prints and exits with."""

from __future__ import annotations

import json
import os
import sys

USAGE = """usage: hothouse doctor [--quick] [--json] [--expect-gpu] [--limit SECONDS]
       hothouse gpu [--json] [--limit SECONDS]

doctor  look at the image, the driver, the GPUs and the limits, then time TensorFlow on each device
        --quick       look only
        --expect-gpu  exit with 1 unless a GPU computes (with --quick: unless one is usable)
        --limit       seconds that TensorFlow may take on one device (300; 1800 where it compiles)
gpu     one line: which GPU is used, or why none
        --limit       seconds that the driver may take (45)
--json  print one JSON document instead of text"""


class Wrong(Exception):
    """The command line is not understood; says what and what to do."""


def parse(words: list[str]) -> tuple[str, dict[str, object]]:
    """Read the command line.

    :returns: the command and its options.
    :raises Wrong: an unknown or missing word.
    """
    if not words:
        raise Wrong("no command was given. Fix: hothouse doctor")
    command, *rest = words
    known: dict[str, dict[str, object]] = {
        "doctor": {"quick": False, "json": False, "expect-gpu": False, "limit": 0.0},
        "gpu": {"json": False, "limit": 0.0},
    }
    if command not in known:
        raise Wrong(f"there is no command {command!r}. Fix: hothouse doctor, or hothouse gpu")
    options = known[command]
    while rest:
        word, _, value = rest.pop(0).partition("=")
        name = word.removeprefix("--")
        if name not in options or not word.startswith("--") or (value and name != "limit"):
            raise Wrong(f"hothouse {command} does not take {word!r}. Fix: leave it out")
        if name != "limit":
            options[name] = True
            continue
        value = value or (rest.pop(0) if rest else "")
        if not value.isdecimal() or int(value) < 1:
            raise Wrong(f"--limit takes whole seconds, not {value!r}. Fix: --limit 600")
        options[name] = float(value)
    return command, options


def gpu(options: dict) -> int:
    """Print the one line; see :func:`hothouse.gpu.quick`."""
    from hothouse.gpu import QUICK_LIMIT, quick

    answer = quick(options["limit"] or QUICK_LIMIT)
    print(json.dumps(answer) if options["json"] else answer["line"])
    return 0 if answer["ok"] else 1


def doctor(options: dict) -> int:
    """Look, measure, print; return the exit status."""
    from hothouse import doctor as module

    return module.run(
        quick=options["quick"], as_json=options["json"], expect_gpu=options["expect-gpu"],
        limit=options["limit"],
    )


def main(words: list[str]) -> int:
    """Run the command line and return the exit status: 2 where it is not understood."""
    if words and words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    try:
        command, options = parse(words)
    except Wrong as error:
        print(f"{USAGE}\nerror: {error}", file=sys.stderr)
        return 2
    try:
        return gpu(options) if command == "gpu" else doctor(options)
    except KeyboardInterrupt:
        print("error: interrupted. Fix: run the same command again", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `hothouse doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
