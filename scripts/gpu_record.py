"""What a record of a run on a GPU has to say; the judge of docs/gpu-evidence.

`inv evidence` asks it before it writes a record, tests/static of each record that is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

SCHEMA = 1
#: Tests that every record must hold: together, what the CUDA images promise.
REQUIRED = (
    "tensorflow_sees_as_many_gpus_as_were_asked_for",
    "each_gpu_holds_tensors_and_computes",
    "each_cuda_library_in_use_comes_from_the_image",
    "memory_grows_with_what_is_asked_for",
    "a_batched_matmul_by_cublas",
    "a_convolution_by_cudnn_and_its_gradients",
    "fourier_transforms_by_cufft",
    "a_cholesky_factor_by_cusolver",
    "a_sparse_product_by_cusparse",
    "a_recurrent_layer_uses_cudnns_fused_kernel",
    "nccl_sums_over_all_gpus",
    "xla_compiles_for_the_gpu_with_ptxas_and_libdevice",
    "training_on_the_gpu_reaches_the_cpus_accuracy",
    "training_in_mixed_precision_reaches_the_cpus_accuracy",
    "two_runs_with_determinism_on_give_equal_losses",
    "the_profiler_sees_kernels_on_the_gpu",
    "the_ratio_of_the_cpus_time_to_the_gpus_is_measured",
)
DIGEST = r"sha256:[0-9a-f]{64}"
#: Texts that a record must hold, by their path in it, and what they look like.
TEXTS = {
    "date": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "how": r"engine|tree",
    "image.name": r".+",
    "image.kind": r"tensorflow|jupyter",
    "image.manifest": DIGEST,
    "image.config": DIGEST,
    "image.revision": r"[0-9a-f]{40}",
    "image.lock": DIGEST,
    "suite": r"[0-9a-f]{40}",
    "driver.version": r"\d+\.\d+(\.\d+)?",
    "driver.cuda": r"\d+\.\d+",
    "libraries.tensorflow": r"\d+\.\d+.*",
    "libraries.keras": r"\d+\.\d+.*",
    "libraries.nvidia-cudnn-cu12": r"\d+\.\d+.*",
    "libraries.nvidia-cublas-cu12": r"\d+\.\d+.*",
    "build.cuda_version": r"\d+\.\d+.*",
}


def at(record: Any, path: str) -> Any:
    """Return what a record holds at a path such as ``image.name``, or None."""
    for part in path.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return record


def counts(tests: list[dict]) -> dict[str, int]:
    """Count the tests by their outcome, and those of the folder gpu."""
    found = {"all": len(tests), "gpu": sum(t["name"].startswith("gpu/") for t in tests)}
    for test in tests:
        found[test["outcome"]] = found.get(test["outcome"], 0) + 1
    return found


def ratios(tests: list[dict]) -> dict[str, float]:
    """Return how many times as long the CPU took as the GPU, by the kind of work."""
    found = {}
    for test in tests:
        ratio = (test.get("measured") or {}).get("ratio_cpu_to_gpu")
        if ratio is not None:
            found[re.sub(r".*\[(.*)\]", r"\1", test["name"])] = ratio
    return found


def complaints(record: Any) -> list[str]:
    """Return why a record is none: one line for each fault, none where it is good."""
    if not isinstance(record, dict):
        return ["it is no JSON object"]
    if record.get("schema") != SCHEMA:
        return [f"its schema is {record.get('schema')!r}, not {SCHEMA}"]
    return [*_texts(record), *_gpus(record), *_tests(record), *_doctor(record)]


def _texts(record: dict) -> Iterator[str]:
    for path, pattern in TEXTS.items():
        value = at(record, path)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            yield f"{path} is {value!r}"
    if record.get("expected_gpu") is not True:
        yield "it was no run with a GPU expected"
    if record.get("status") != 0:
        yield f"pytest ended with {record.get('status')!r}"
    if at(record, "image.drifted") is not False:
        yield "the image does not hold the locked packages"


def _gpus(record: dict) -> Iterator[str]:
    found = record.get("gpus")
    if not isinstance(found, list) or not found:
        yield "it names no GPU"
        return
    for gpu in found:
        name, capability = at(gpu, "name"), at(gpu, "compute_capability")
        if not isinstance(name, str) or not name.strip():
            yield f"a GPU has the name {name!r}"
        if not isinstance(capability, str) or not re.fullmatch(r"\d+\.\d+", capability):
            yield f"a GPU has the compute capability {capability!r}"
    if record.get("asked") != len(found):
        yield f"{record.get('asked')!r} GPUs were asked for and {len(found)} were there"


def _tests(record: dict) -> Iterator[str]:
    tests = record.get("tests")
    if not isinstance(tests, list) or not all(
        isinstance(at(t, "name"), str) and isinstance(at(t, "outcome"), str) for t in tests
    ):
        yield "it has no list of tests with names and outcomes"
        return
    for test in tests:
        if test["outcome"] != "passed":
            yield f"{test['name']}: {test['outcome']}"
        if not isinstance(test.get("seconds"), (int, float)):
            yield f"{test['name']}: no duration"
    names = [test["name"] for test in tests]
    if len(set(names)) != len(names):
        yield "a test is named twice"
    for needed in REQUIRED:
        if not any(re.fullmatch(rf"gpu/\w+\.py::test_{needed}(\[.*\])?", name) for name in names):
            yield f"no test {needed}"
    folders = {"tensorflow", *({"base"} if record.get("how") == "engine" else ())}
    for folder in sorted(folders - {name.split("/")[0] for name in names}):
        yield f"no test of the folder {folder}"
    if record.get("counts") != counts(tests):
        yield f"its counts are {record.get('counts')!r}, not {counts(tests)}"
    found = record.get("ratios")
    if found != ratios(tests) or not found or not all(
        isinstance(ratio, (int, float)) and ratio > 0 for ratio in found.values()
    ):
        yield f"its ratios are {found!r}, not {ratios(tests)}"


def _doctor(record: dict) -> Iterator[str]:
    if "doctor" not in record:
        yield "the doctor's report is missing (null where the image has no doctor)"
    elif record["doctor"] is None:
        return
    elif at(record, "doctor.status") != 0 or not isinstance(at(record, "doctor.report"), dict):
        yield f"hothouse doctor --expect-gpu ended with {at(record, 'doctor.status')!r}"
