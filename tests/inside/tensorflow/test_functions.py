"""tf.function and XLA compute what eager TensorFlow computes."""

import numpy as np
import pytest
import tensorflow as tf

KINDS = {
    "graph": {"jit_compile": False},
    "xla": {"jit_compile": True},
}


def _net(x, w):
    return tf.reduce_sum(tf.nn.softmax(tf.nn.gelu(x @ w)) ** 2)


def _value_and_gradient(x, w):
    with tf.GradientTape() as tape:
        tape.watch(w)
        value = _net(x, w)
    return value, tape.gradient(value, w)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_function_equals_the_eager_one(kind):
    x = tf.random.stateless_normal((16, 8), (1, 2))
    w = tf.random.stateless_normal((8, 4), (3, 4))
    eager = _value_and_gradient(x, w)
    compiled = tf.function(_value_and_gradient, **KINDS[kind])(x, w)
    for one, other in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.any(eager[1].numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_becomes_part_of_the_function(kind):
    @tf.function(**KINDS[kind])
    def total(n):
        result = tf.constant(0)
        for i in tf.range(n):
            if i % 2 == 0:
                result += i
        return result

    assert int(total(tf.constant(10))) == 20


def test_xla_made_one_program_of_the_function():
    @tf.function(jit_compile=True)
    def multiply(x):
        return tf.reduce_sum(x @ x) * 2.0

    text = multiply.experimental_get_compiler_ir(tf.ones((4, 4)))(stage="optimized_hlo")
    assert "HloModule" in text and "ENTRY" in text


def test_turning_python_into_a_graph_says_nothing(capfd):
    @tf.function
    def sign(x):
        if x > 0:
            return 1
        return -1

    assert (int(sign(tf.constant(3.0))), int(sign(tf.constant(-3.0)))) == (1, -1)
    assert "AutoGraph" not in capfd.readouterr().err


@pytest.mark.parametrize("shape", ((2, 3), (3, 4)))
def test_a_convolution_by_onednn_equals_numpy(shape):
    image = np.random.default_rng(1).normal(size=(1, *shape, 1)).astype("float32")
    kernel = np.random.default_rng(2).normal(size=(2, 2, 1, 1)).astype("float32")
    rows, columns = shape[0] - 1, shape[1] - 1
    wanted = [
        [(image[0, r : r + 2, c : c + 2, 0] * kernel[..., 0, 0]).sum() for c in range(columns)]
        for r in range(rows)
    ]
    found = tf.nn.conv2d(image, kernel, strides=1, padding="VALID")[0, ..., 0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
