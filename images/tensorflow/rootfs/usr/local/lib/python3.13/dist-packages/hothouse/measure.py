"""Times TensorFlow on each device, in processes of their own: a crash or a hang is a row."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

from hothouse import findings, installed, noise, nvidia
from hothouse.gpu import Facts, Verdict, device_problem
from hothouse.probes import signal_name
from hothouse.rows import OK, Row
from hothouse.workloads import WORKS

LIMIT = 300.0  # seconds for one device
LIMIT_PTX = 1800.0  # where the driver compiles TensorFlow's kernels first


@dataclass
class Child:
    """What one process said: its works by name, its own lines, and how it ended."""

    works: dict[str, dict] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    status: int = 0
    slow: bool = False


@dataclass
class Measured:
    """All devices' rows and numbers; ``said`` are TensorFlow's lines that are no noise."""

    rows: list[Row] = field(default_factory=list)
    numbers: dict[str, dict] = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)
    gpu_computes: bool = False


def run(facts: Facts, verdict: Verdict, limit: float, log: TextIO) -> Measured:
    """Measure the CPU, then each GPU that can be used.

    :param limit: seconds for each device; 0 leaves it to LIMIT and LIMIT_PTX.
    :param log: where progress and TensorFlow's own lines go.
    """
    measured = Measured()
    if not facts.variant:
        return measured
    devices = [("CPU", "cpu", 0, limit or LIMIT)]
    if verdict.state == "works" and facts.variant == installed.CUDA:
        problems = [(device_problem(facts, device) or ("",))[0] for device in facts.devices]
        # TensorFlow counts the GPUs that are not older than its build.
        counted = [pair for pair in zip(facts.devices, problems, strict=True)
                   if pair[1] != "capability-old"]
        for number, (device, problem) in enumerate(counted):
            if problem:
                continue
            ptx = nvidia.coverage(tuple(device["capability"]), facts.built) == "ptx"
            span = limit or (LIMIT_PTX if ptx else LIMIT)
            devices.append((f"GPU {device['index']}", "gpu", number, span))
    computing = []
    for label, kind, index, span in devices:
        slow = " (compiles at the first start: minutes)" if span == LIMIT_PTX else ""
        print(f"timing TensorFlow on the {label}: {', '.join(WORKS)}{slow} …", file=log, flush=True)
        child = start(kind, index, span, log)
        rows = judge(label, child, span, measured.numbers.get("CPU", {}))
        measured.rows += rows
        measured.numbers[label], measured.said[label] = child.works, child.said
        computing.append(kind == "gpu" and all(row.status == OK for row in rows))
    measured.gpu_computes = any(computing)
    return measured


def environment(kind: str) -> dict[str, str]:
    """Return the variables of workloads.py.

    :param kind: ``cpu`` or ``gpu``.
    """
    found = {"TF_CPP_MIN_LOG_LEVEL": "1", **os.environ, "KERAS_BACKEND": "tensorflow"}
    # Keras compiles with XLA where it finds a GPU, be it hidden from TensorFlow or not.
    return found | ({"CUDA_VISIBLE_DEVICES": "-1"} if kind == "cpu" else {})


def start(kind: str, index: int, limit: float, log: TextIO) -> Child:
    """Run workloads.py on one device and wait for its end.

    :param limit: seconds.
    """
    child = Child()
    reading, writing = os.pipe()
    process = subprocess.Popen(
        # -P: a tensorflow.py in the current folder is not what is to be measured.
        [sys.executable, "-P", "-m", "hothouse.workloads", str(writing), kind, str(index)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", env=environment(kind), pass_fds=(writing,), start_new_session=True,
    )
    os.close(writing)

    def listen() -> None:
        for line in process.stdout:
            if noise.real(line, kind == "gpu"):
                child.said.append(line.rstrip("\n"))
                print(line, end="", file=log, flush=True)

    def collect() -> None:
        with os.fdopen(reading) as report:
            for line in report:
                try:
                    found = json.loads(line)
                except ValueError:
                    continue  # cut off where the process was ended
                child.works[found.pop("work")] = found

    threads = [threading.Thread(target=target, daemon=True) for target in (listen, collect)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + limit
    try:
        child.status = process.wait(limit)
        for thread in threads:
            thread.join(max(1.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        child.slow = True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return child


def judge(label: str, child: Child, limit: float, cpu: dict[str, dict]) -> list[Row]:
    """Turn what one process said into rows, up to the first work that it did not do.

    :param cpu: the CPU's numbers, for the ratio; empty for the CPU itself.
    """
    rows = []
    begun = child.works.get("start")
    if label != "CPU" and begun and not begun["gpus"]:
        return [findings.row("work-no-gpu", "TensorFlow sees no GPU", work="start")]
    for name in ("start", *WORKS):
        found = child.works.get(name)
        values = {"device": label, "work": name}
        if found is None:
            if child.slow:
                key, more = "work-slow", {"limit": limit, "more": 4 * limit}
            elif child.status < 0:
                key, more = "work-killed", {"signal": signal_name(-child.status)}
            else:
                last = child.said[-1] if child.said else f"it ended with {child.status}"
                key, more = "work-failed", {"message": last}
            return [*rows, findings.row(key, "did not end", **values, **more)]
        if "error" in found:
            rows.append(findings.row("work-failed", "failed", message=found["error"], **values))
        elif "wrong" in found:
            rows.append(findings.row("work-wrong", "wrong", message=found["wrong"], **values))
        elif name == "start":
            said = f"import tensorflow in {found['seconds']:.1f} s"
            rows.append(Row(f"{label} start", OK, said))
        else:
            rows.append(Row(f"{label} {name}", OK, number(found, cpu.get(name, {}))))
    if child.status:
        how = signal_name(-child.status) if child.status < 0 else f"status {child.status}"
        rows.append(findings.row("work-killed", "crashed", device=label, work="end", signal=how))
    return rows


def number(found: dict, cpu: dict) -> str:
    """Write one measurement, with the ratio to the CPU's."""
    said = f"{figures(found['rate'])} {found['unit']}, first in {found['first']:.2f} s"
    if cpu.get("rate"):
        found["ratio"] = found["rate"] / cpu["rate"]
        said += f"; {figures(found['ratio'])} times the CPU"
    return said


def figures(value: float) -> str:
    """Write a number with three figures: 0.123, 12.3, 1230."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"
