"""`hothouse doctor`: all rows, then what they come to."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from hothouse import checks, findings, gpu, rows
from hothouse.machine import Machine
from hothouse.rows import FAIL, OK, Row


def run(quick: bool, as_json: bool, expect_gpu: bool, limit: float) -> int:
    """Print the report and return the exit status.

    :param quick: without measuring.
    :param as_json: one JSON document instead of text.
    :param expect_gpu: a GPU that computes is part of what must work.
    :param limit: seconds that TensorFlow may take on one device.
    """
    facts = gpu.look(Machine(), context=True)
    verdict = gpu.judge(facts, expect_gpu)
    found = checks.quick(facts, verdict)
    computes = verdict.state == "works"
    more: dict[str, object] = {"gpu": gpu.line(facts, verdict), "state": verdict.state,
                               "cuda": facts.cuda, "nvml": facts.nvml}
    if not quick:
        from hothouse import measure

        measured = measure.run(facts, verdict, limit, sys.stderr)
        found += measured.rows
        computes = computes and measured.gpu_computes
        more |= {"measured": measured.numbers, "said": measured.said}
    if expect_gpu:
        found = expected(found, verdict.key, computes)
    if as_json:
        print(json.dumps(rows.document(found, **more), indent=1))
    else:
        text = rows.speech(found)
        print(rows.table(found) + (f"\n\n{text}" if text else ""))
    return rows.code(found)


def expected(found: list[Row], key: str, computes: bool) -> list[Row]:
    """Add the row of ``--expect-gpu``; its cause is the verdict's where there is one.

    :param key: the verdict's finding: a warning is a failure now.
    """
    if computes:
        return [*found, Row("GPU expected", OK, "a GPU computes")]
    found = [replace(row, status=FAIL) if key and row.key == key else row for row in found]
    row = findings.row("no-gpu-computes", "none computes")
    if any(other.status == FAIL for other in found):
        row = replace(row, cause="", fix="")
    return [*found, row]
