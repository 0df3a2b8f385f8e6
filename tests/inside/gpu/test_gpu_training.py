"""Networks train on the GPU as on the CPU: fused, mixed, compiled, on all GPUs, the same twice."""

import gpus
import keras
import numpy as np
import pytest
import tensorflow as tf


def _operations(function, *arguments) -> set[str]:
    """The types of all operations of a traced function and of those that it calls."""
    graph = tf.function(function).get_concrete_function(*arguments).graph.as_graph_def()
    called = [node.op for inner in graph.library.function for node in inner.node_def]
    return {node.op for node in graph.node} | set(called)


def _value_and_gradients(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = layer(x)
        loss = tf.reduce_sum(value * value)
    return [value, *tape.gradient(loss, [x, *(w.value for w in layer.trainable_weights)])]


@pytest.mark.parametrize("kind", ("LSTM", "GRU"))
def test_a_recurrent_layer_uses_cudnns_fused_kernel(kind):
    x = np.random.default_rng(1).normal(size=(4, 12, 6)).astype("float32")
    keras.utils.set_random_seed(1)
    make = getattr(keras.layers, kind)
    fused, plain = make(8, return_sequences=True), make(8, return_sequences=True, use_cudnn=False)
    with tf.device(gpus.DEVICE):
        fused.build(x.shape)
    with tf.device("/CPU:0"):
        plain.build(x.shape)
    plain.set_weights(fused.get_weights())
    with tf.device(gpus.DEVICE):
        assert "CudnnRNNV3" in _operations(fused, tf.constant(x))
    assert "CudnnRNNV3" not in _operations(plain, tf.constant(x))
    found = gpus.on(gpus.DEVICE, lambda x: _value_and_gradients(fused, x), x)
    wanted = gpus.on("/CPU:0", lambda x: _value_and_gradients(plain, x), x)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def on_the_cpu() -> dict:
    """The training that the others are compared with, in a process that sees no GPU."""
    said, _ = gpus.child("train", CUDA_VISIBLE_DEVICES="-1")
    assert said["devices"] == ["CPU:0"]
    assert said["accuracy"] >= 0.97
    return said


def test_training_on_the_gpu_reaches_the_cpus_accuracy(on_the_cpu, record_property):
    said, _ = gpus.child("train")
    assert said["devices"] == ["GPU:0"]
    record_property("accuracy", said["accuracy"])
    record_property("accuracy_on_the_cpu", on_the_cpu["accuracy"])
    assert said["accuracy"] >= on_the_cpu["accuracy"] - 0.02
    assert said["losses"][-1] < said["losses"][0] / 2


@pytest.mark.parametrize("policy", ("mixed_float16", "mixed_bfloat16"))
def test_training_in_mixed_precision_reaches_the_cpus_accuracy(policy, on_the_cpu):
    said, _ = gpus.child("train", "--policy", policy)
    assert said["devices"] == ["GPU:0"]
    assert said["compute_dtype"] == policy.removeprefix("mixed_")
    assert said["variable_dtype"] == "float32"
    assert said["accuracy"] >= on_the_cpu["accuracy"] - 0.03


def test_training_with_xla_reaches_the_cpus_accuracy(on_the_cpu):
    said, _ = gpus.child("train", "--jit")
    assert said["devices"] == ["GPU:0"]
    assert said["accuracy"] >= on_the_cpu["accuracy"] - 0.02


def test_two_runs_with_determinism_on_give_equal_losses():
    first, second = (gpus.child("train", "--deterministic")[0] for _ in range(2))
    assert first["devices"] == ["GPU:0"]
    # As hexadecimal numbers: equal to the last bit.
    assert first["exact"] == second["exact"]
    other, _ = gpus.child("train", "--deterministic", "--seed", "2")
    assert other["exact"] != first["exact"]


def test_nccl_sums_over_all_gpus():
    said, _ = gpus.child("nccl")
    count = len(gpus.visible())
    assert said["devices"] == [f"GPU:{index}" for index in range(count)]
    assert said["sums"] == [count * (count + 1) / 2] * count
    assert said["library_of_the_image"], "libnccl was not loaded from the image"


def test_a_mirrored_strategy_with_nccl_trains_on_all_gpus():
    said, _ = gpus.child("mirrored")
    assert said["replicas"] == len(gpus.visible())
    assert all("GPU" in device for device in said["devices"])
    assert said["losses"][-1] < said["losses"][0]
