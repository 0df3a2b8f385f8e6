"""XLA compiles for the GPU, the profiler sees it, and how much quicker than the CPU it is."""

import re
import statistics
import time

import gpus
import numpy as np
import pytest
import tensorflow as tf

#: XLA's complaints when a tool that it wants is missing; it then goes on without, or slower.
MISSING = re.compile(
    r"(ptxas|nvlink|libdevice|cuda_sdk).*(not found|can.?t|could ?n.t|could not|failed|falling)|"
    r"(not found|can.?t|could ?n.t|could not|failed|falling).*(ptxas|nvlink|libdevice|cuda_sdk)",
    re.IGNORECASE,
)


def test_xla_compiles_for_the_gpu_with_ptxas_and_libdevice(tmp_path):
    said, stderr = gpus.child(
        "xla", XLA_FLAGS=f"--xla_dump_to={tmp_path}", TF_CPP_MIN_LOG_LEVEL="0")
    assert said["device"].endswith("GPU:0")
    np.testing.assert_allclose(said["compiled"], said["plain"], rtol=1e-5, atol=1e-6)
    assert [line for line in stderr.splitlines() if MISSING.search(line)] == []

    # What XLA left behind: PTX for this GPU is nothing that its compiler for the CPU writes.
    ptx = "".join(path.read_text() for path in tmp_path.glob("*.ptx"))
    assert re.search(r"^\.target sm_\d+", ptx, re.MULTILINE), sorted(tmp_path.iterdir())
    # libdevice's functions, before they are compiled in.
    llvm = "".join(path.read_text() for path in tmp_path.glob("*.ll"))
    assert re.search(r"@__nv_\w+", llvm)


def test_xla_jit_in_the_same_process_runs_on_the_gpu():
    @tf.function(jit_compile=True)
    def step(x):
        return tf.reduce_sum(tf.tanh(x @ x) + tf.math.erf(x), axis=1)

    x = np.random.default_rng(1).normal(size=(64, 64)).astype("float32") / 8
    (found,) = gpus.on(gpus.DEVICE, step, x)
    (wanted,) = gpus.on("/CPU:0", step.python_function, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_profiler_sees_kernels_on_the_gpu(tmp_path):
    said, _ = gpus.child("profile", str(tmp_path))
    kernels = {name: count for plane, name, count in said["events"] if "/device:GPU" in plane}
    assert sum(kernels.values()) > 0, said


def _seconds(device: str, function, *arrays: np.ndarray) -> float:
    """The median time of one call, when its inputs are there and its result is back."""
    with tf.device(device):
        inputs = [tf.constant(array) for array in arrays]
        traced = tf.function(lambda *x: tf.reduce_sum(function(*x)))
        traced(*inputs).numpy()
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            traced(*inputs).numpy()
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


WORK = {
    "matmul": (tf.linalg.matmul, (2048, 2048), (2048, 2048)),
    "convolution": (lambda i, k: tf.nn.conv2d(i, k, 1, "SAME"), (16, 64, 64, 32), (3, 3, 32, 64)),
}


@pytest.mark.parametrize("name", WORK)
def test_the_ratio_of_the_cpus_time_to_the_gpus_is_measured(name, record_property):
    function, *shapes = WORK[name]
    arrays = [np.random.default_rng(1).normal(size=shape).astype("float32") for shape in shapes]
    gpu, cpu = _seconds(gpus.DEVICE, function, *arrays), _seconds("/CPU:0", function, *arrays)
    # Recorded, not judged: the machine may be busy with something else.
    record_property("gpu_ms", round(gpu * 1e3, 3))
    record_property("cpu_ms", round(cpu * 1e3, 3))
    record_property("ratio_cpu_to_gpu", round(cpu / gpu, 2))
    assert gpu > 0 and cpu > 0
