"""Each CUDA library computes on the GPU what the CPU computes."""

import gpus
import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.usefixtures("strict")
#: Largest error allowed, as a part of the result's largest number: a few roundings of the type.
TOLERANCE = {"float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2, "tf32": 4e-3}


def _numbers(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _error(found, wanted) -> float:
    """The largest difference, as a part of the largest number."""
    found, wanted = np.asarray(found, "float64"), np.asarray(wanted, "float64")
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def _products(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A batch of products on the GPU, and the same numbers multiplied in float64 by NumPy."""
    dtype = tf.float32 if kind == "tf32" else tf.as_dtype(kind)
    x, y = (tf.cast(_numbers(4, 256, 256, seed=s), dtype).numpy() for s in (1, 2))
    wanted = x.astype("float64") @ y.astype("float64")
    tf.config.experimental.enable_tensor_float_32_execution(kind == "tf32")
    try:
        (found,) = gpus.on(gpus.DEVICE, tf.linalg.matmul, x, y)
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(False)
    return found.astype("float64"), wanted


@pytest.mark.parametrize("kind", TOLERANCE)
def test_a_batched_matmul_by_cublas(kind, record_property):
    error = _error(*_products(kind))
    record_property("error", error)
    assert error < TOLERANCE[kind]


def test_tf32_is_used_where_the_gpu_has_it():
    if gpus.capability() >= (8, 0):
        assert _error(*_products("tf32")) > 10 * _error(*_products("float32"))
    else:
        assert _error(*_products("tf32")) < TOLERANCE["float32"]


def _convolution(image, kernel):
    with tf.GradientTape() as tape:
        tape.watch((image, kernel))
        value = tf.nn.conv2d(image, kernel, strides=1, padding="SAME")
        loss = tf.reduce_sum(value * value)
    return [value, *tape.gradient(loss, (image, kernel))]


@pytest.mark.parametrize("shape", ((3, 3, 8, 16), (5, 5, 3, 4)))
def test_a_convolution_by_cudnn_and_its_gradients(shape):
    arrays = _numbers(4, 20, 20, shape[2]), _numbers(*shape, seed=2)
    found = gpus.on(gpus.DEVICE, _convolution, *arrays)
    for one, other in zip(found, gpus.on("/CPU:0", _convolution, *arrays), strict=True):
        assert _error(one, other) < 5e-5  # Winograd's transforms round more often
    # cuDNN's front library is loaded with TensorFlow; these only when it has something to do.
    assert gpus.mapped(r"libcudnn_(engines|cnn|ops|graph)")


def test_a_half_precision_convolution_by_cudnn():
    image, kernel = _numbers(2, 16, 16, 8), _numbers(3, 3, 8, 8, seed=2)
    halves = image.astype("float16"), kernel.astype("float16")
    (found,) = gpus.on(gpus.DEVICE, lambda i, k: tf.nn.conv2d(i, k, 1, "VALID"), *halves)
    wanted = gpus.on("/CPU:0", lambda i, k: tf.nn.conv2d(i, k, 1, "VALID"),
                     *(half.astype("float32") for half in halves))[0]
    assert _error(found, wanted) < TOLERANCE["float16"]


@pytest.mark.parametrize("length", (1024, 1009, 360))
def test_fourier_transforms_by_cufft(length):
    signal = _numbers(3, length) + 1j * _numbers(3, length, seed=2)
    (found,) = gpus.on(gpus.DEVICE, tf.signal.fft, signal.astype("complex64"))
    wanted = np.fft.fft(signal)
    assert np.abs(found - wanted).max() / np.abs(wanted).max() < 1e-5


def test_a_real_transform_in_two_dimensions_comes_back():
    image = _numbers(2, 48, 30)
    (there,) = gpus.on(gpus.DEVICE, tf.signal.rfft2d, image)
    wanted = np.fft.rfft2(image)
    assert np.abs(there - wanted).max() / np.abs(wanted).max() < 1e-5
    (back,) = gpus.on(gpus.DEVICE, lambda x: tf.signal.irfft2d(tf.signal.rfft2d(x)), image)
    assert _error(back, image) < 1e-5


def _positive(count: int, size: int) -> np.ndarray:
    x = _numbers(count, size, size)
    return x @ x.transpose(0, 2, 1) + size * np.eye(size, dtype="float32")


# A batch of small matrices and one large one take different routines.
@pytest.mark.parametrize(("count", "size"), ((8, 16), (1, 200)))
def test_a_cholesky_factor_by_cusolver(count, size):
    matrix = _positive(count, size)
    (factor,) = gpus.on(gpus.DEVICE, tf.linalg.cholesky, matrix)
    assert np.abs(np.triu(factor, 1)).max() == 0
    assert _error(factor @ factor.transpose(0, 2, 1), matrix) < 1e-5


@pytest.mark.parametrize("shape", ((4, 24, 12), (1, 90, 100)))
def test_a_singular_value_decomposition_by_cusolver(shape):
    matrix = _numbers(*shape)
    values, left, right = gpus.on(gpus.DEVICE, tf.linalg.svd, matrix)
    assert _error(values, np.linalg.svd(matrix, compute_uv=False)) < 1e-5
    assert _error((left * values[:, None, :]) @ right.transpose(0, 2, 1), matrix) < 1e-5


def test_a_system_of_equations_by_cusolver():
    matrix, right = _positive(3, 40), _numbers(3, 40, 2, seed=2)
    (found,) = gpus.on(gpus.DEVICE, tf.linalg.solve, matrix, right)
    assert _error(matrix @ found, right) < 1e-5


def test_a_sparse_product_by_cusparse():
    sparse = np.where(_numbers(60, 40) > 1, _numbers(60, 40, seed=3), 0).astype("float32")
    dense = _numbers(40, 7, seed=2)
    indices = np.argwhere(sparse)

    def product(values, other):
        csr = tf.raw_ops.SparseTensorToCSRSparseMatrix(
            indices=tf.constant(indices, tf.int64), values=values,
            dense_shape=tf.constant(sparse.shape, tf.int64))
        return tf.raw_ops.SparseMatrixMatMul(a=csr, b=other)

    (found,) = gpus.on(gpus.DEVICE, product, sparse[tuple(indices.T)], dense)
    assert _error(found, sparse @ dense) < 1e-5


def test_a_tridiagonal_system_by_cusparse():
    size = 50
    diagonals = np.stack([_numbers(size), 8 + _numbers(size, seed=2), _numbers(size, seed=3)])
    # cuSPARSE's gtsv2 wants the two corners that lie outside the matrix to be zero.
    diagonals[0, -1] = diagonals[2, 0] = 0
    right = _numbers(size, 3, seed=4)
    matrix = (np.diag(diagonals[1]) + np.diag(diagonals[0, :-1], 1)
              + np.diag(diagonals[2, 1:], -1))
    (found,) = gpus.on(gpus.DEVICE, tf.linalg.tridiagonal_solve, diagonals, right)
    assert _error(matrix @ found, right) < 1e-5


def test_random_numbers_are_those_of_the_cpu():
    def draw(seed):
        return tf.random.stateless_uniform((1000,), tf.cast(seed, tf.int32), alg="philox")

    seed = np.array([3, 4], "float32")
    (found,) = gpus.on(gpus.DEVICE, draw, seed)
    np.testing.assert_allclose(found, gpus.on("/CPU:0", draw, seed)[0], rtol=1e-6)
    assert 0.4 < found.mean() < 0.6
