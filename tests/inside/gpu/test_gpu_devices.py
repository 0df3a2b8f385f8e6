"""The GPUs that were asked for are there, hold tensors, and use the image's libraries."""

import json
import os

import gpus
import numpy as np
import pytest
import tensorflow as tf

MIB = 1 << 20


def test_tensorflow_sees_as_many_gpus_as_the_driver_shows():
    assert len(gpus.visible()) == gpus.driver_device_count() > 0


def test_tensorflow_sees_as_many_gpus_as_were_asked_for():
    asked = os.environ.get("HOTHOUSE_GPU_COUNT", "")
    assert asked.isdecimal(), "set HOTHOUSE_GPU_COUNT to how many GPUs this container was given"
    assert len(gpus.visible()) == int(asked)


def test_each_gpu_has_a_name_and_a_compute_capability(record_property):
    found = gpus.details()
    record_property("gpus", json.dumps(found))
    assert len(found) == len(gpus.visible())
    assert all(gpu["name"] and gpu["compute_capability"] for gpu in found), found


def test_the_driver_tells_its_version(record_property):
    record_property("driver", gpus.driver_version())
    record_property("driver_cuda", gpus.driver_cuda_version())
    assert gpus.driver_version()
    assert gpus.driver_cuda_version()


@pytest.mark.usefixtures("strict")
def test_each_gpu_holds_tensors_and_computes():
    for index in range(len(gpus.visible())):
        name = f"GPU:{index}"
        with tf.device(f"/{name}"):
            x = tf.reshape(tf.range(6.0), (2, 3))
            y = tf.linalg.matmul(x, x, transpose_b=True)
        for tensor in (x, y):
            assert tensor.device.endswith(name)
            assert tensor.backing_device.endswith(name)
        np.testing.assert_array_equal(y, [[5, 14], [14, 50]])


def test_what_is_placed_nowhere_goes_to_the_gpu():
    x = tf.random.normal((64, 64))
    assert (x @ x).backing_device.endswith("GPU:0")
    variable = tf.Variable(x)
    variable.assign_add(x)
    assert variable.device.endswith("GPU:0")


def test_a_tensor_takes_the_gpus_memory_and_gives_it_back():
    def used() -> int:
        return tf.config.experimental.get_memory_info("GPU:0")["current"]

    before = used()
    with tf.device(gpus.DEVICE):
        x = tf.zeros((64 * MIB // 4,), tf.float32)
    assert x.backing_device.endswith("GPU:0")
    assert used() - before >= 64 * MIB
    del x
    assert used() - before < 64 * MIB


def test_memory_grows_with_what_is_asked_for():
    said, _ = gpus.child("growth", TF_FORCE_GPU_ALLOW_GROWTH="")
    assert said["current"] >= 64 * MIB
    assert said["peak"] >= said["current"]
    # Without growth TensorFlow takes nearly all memory that is free.
    assert said["free_before"] - said["free_after"] < said["free_before"] / 2, said


def test_a_memory_limit_holds():
    said, _ = gpus.child("limit", TF_FORCE_GPU_ALLOW_GROWTH="")
    assert said == {"small": "fits", "large": "ResourceExhaustedError"}


def test_each_cuda_library_in_use_comes_from_the_image():
    with tf.device(gpus.DEVICE):
        image = tf.random.normal((2, 8, 8, 4))
        tf.nn.conv2d(image, tf.random.normal((3, 3, 4, 4)), 1, "SAME")
        tf.signal.fft(tf.complex(image, image))
        tf.linalg.svd(tf.random.normal((16, 16)))
    # The driver's own libraries (libcuda, libnvidia-*) are the host's.
    used = {path for path in gpus.mapped() if not path.name.startswith(("libcuda.so", "libnvidia"))}
    names = {path.name.split(".so")[0] for path in used}
    wanted = {"libcudart", "libcublas", "libcublasLt", "libcudnn", "libcufft", "libcusolver",
              "libcusparse"}
    assert wanted - names == set()
    assert [str(path) for path in sorted(used) if not gpus.in_the_image(path)] == []
    # Two files of one name: a second copy in the process.
    assert len({path.name for path in used}) == len({path.resolve() for path in used})
