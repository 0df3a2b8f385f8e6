"""TensorFlow and Keras start quietly and find each other."""

import os
import re

import fresh
import tensorflow as tf

# What TensorFlow's C++ side always says once, before its log is set up. Nothing is wrong then.
NOTICES = (
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
    r"[IW]0000 00:00:\S+ +\d+ port\.cc:\d+\] oneDNN custom operations are on\. .*",
    r"I0000 00:00:\S+ +\d+ cpu_feature_guard\.cc:\d+\] This TensorFlow binary is optimized .*",
    r"To enable the following instructions: .*, in other operations, rebuild TensorFlow .*",
)
# The CUDA build on a machine without a GPU: the driver's library is not there. It goes on.
NO_GPU = (
    r"[EWI]0000 00:00:\S+ +\d+ cuda_\w+\.cc:\d+\] failed call to cuInit: .*UNKNOWN ERROR \(303\)",
    r".*Cannot dlopen some GPU libraries\. .*",
    r".*Could not find cuda drivers on your machine, GPU will not be used\.",
)
# The CUDA build at the first use of a GPU: it names the device, and says whether the kernel tells
# the GPU's NUMA node. Neither is a complaint.
ON_A_GPU = (
    r"I0000 00:00:\S+ +\d+ gpu_device\.cc:\d+\] Created device .*",
    r".*successful NUMA node read .*",
    r".*could not open file to read NUMA node.*",
    r"Your kernel may have been built without NUMA support\.",
)


def _unexpected(text: str) -> list[str]:
    known = NOTICES + ON_A_GPU + (NO_GPU if os.environ.get("HOTHOUSE_VARIANT") == "cuda" else ())
    lines = [re.sub(r"^\d{4}-\d\d-\d\d [\d:.]+: ", "", line) for line in text.splitlines()]
    return [line for line in lines if line and not any(re.fullmatch(k, line) for k in known)]


def test_a_first_computation_says_nothing_unexpected():
    done = fresh.python(
        "import tensorflow as tf, keras; print(float(tf.reduce_sum(tf.eye(3) @ tf.eye(3))))",
        HOME=os.environ["HOME"],
    )
    assert done.stdout == "3.0\n", done.stderr
    assert _unexpected(done.stderr) == []


def test_keras_alone_starts_on_tensorflow_without_being_told():
    done = fresh.python(
        "import keras; print(keras.backend.backend(), keras.__version__[:2])",
        HOME=os.environ["HOME"],
    )
    assert done.stdout == "tensorflow 3.\n", done.stderr
    assert _unexpected(done.stderr) == []


def test_the_keras_of_tensorflow_is_keras_3():
    assert tf.keras.__version__.startswith("3.")


def test_importing_works_without_a_home_folder():
    done = fresh.python("import tensorflow", HOME="/nonexistent")
    assert done.returncode == 0, done.stderr


def test_the_cpu_is_a_device():
    assert [d.name for d in tf.config.list_physical_devices("CPU")] == ["/physical_device:CPU:0"]
