"""What is timed: python -m hothouse.workloads FD cpu|gpu INDEX

Computes on one device with TensorFlow and writes a line of JSON for each work to the file
descriptor FD. Each work is run once before it is timed, its results are fetched before the clock
is stopped, and compared with NumPy's.
"""

import json
import math
import os
import sys
import time

SIZE = 2048  # of the square matrices: 17 GFLOP for a product
IMAGES, EDGE, CHANNELS = 16, 56, 64  # a layer of a ResNet-50: 3.7 GFLOP
FEATURES, CLASSES, SAMPLES, BATCH = 784, 10, 8192, 256  # as MNIST has them
LEAST = 0.25  # seconds that one measurement should take at least


class Wrong(Exception):
    """A result that is not what NumPy computes."""


def close(got, wanted, what):
    """Compare a result with NumPy's; TF32, which GPUs use, has ten bits.

    :raises Wrong: it differs, or is not finite.
    """
    import numpy as np

    if not np.isfinite(got).all():
        raise Wrong(f"{what} is not finite")
    scale = float(np.abs(wanted).max()) or 1.0
    off = float(np.abs(np.asarray(got, dtype="float64") - wanted).max()) / scale
    if off > 0.01:
        raise Wrong(f"{what} is off by {off:.2g} of its largest value")


def timed(call):
    """Return the seconds of one round of ``call(rounds)``: warm, and the best of three."""
    began = time.perf_counter()
    call(1)
    warm = time.perf_counter() - began
    began = time.perf_counter()
    call(1)
    once = time.perf_counter() - began
    rounds = min(2000, max(1, math.ceil(LEAST / max(once, 1e-6))))
    best = once
    for _ in range(3):
        began = time.perf_counter()
        call(rounds)
        best = min(best, (time.perf_counter() - began) / rounds)
    return {"first": warm, "seconds": best}


def matmul(tf, np, device):
    """Multiply square matrices."""
    small = np.random.default_rng(1).normal(size=(2, 64, 64))
    got = tf.matmul(*tf.constant(small, tf.float32))
    if device not in got.device:
        raise Wrong(f"the result lies on {got.device}")
    close(got.numpy(), small[0] @ small[1], "the product of 64 x 64 matrices")

    @tf.function
    def chain(a, b, rounds):
        for _ in tf.range(rounds):
            a = tf.matmul(a, b)
        return tf.reduce_mean(tf.abs(a))

    a = tf.random.normal((SIZE, SIZE), seed=1)
    b = tf.random.normal((SIZE, SIZE), seed=2) / math.sqrt(SIZE)  # keeps the size of a
    found = timed(lambda rounds: chain(a, b, tf.constant(rounds)).numpy())
    return {**found, "rate": 2 * SIZE**3 / found["seconds"] / 1e9, "unit": "GFLOP/s"}


def convolution(tf, np, device):
    """Convolve images with 3 x 3 filters, which cuDNN does on a GPU."""
    rng = np.random.default_rng(2)
    image, kernel = rng.normal(size=(1, 6, 6, 3)), rng.normal(size=(3, 3, 3, 4))
    got = tf.nn.conv2d(tf.constant(image, tf.float32), tf.constant(kernel, tf.float32), 1, "VALID")
    if device not in got.device:
        raise Wrong(f"the result lies on {got.device}")
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (3, 3), axis=(0, 1))
    close(got.numpy()[0], np.einsum("xycij,ijco->xyo", windows, kernel), "a small convolution")

    @tf.function
    def chain(x, w, rounds):
        for _ in tf.range(rounds):
            x = tf.nn.conv2d(x, w, 1, "SAME")
        return tf.reduce_mean(tf.abs(x))

    x = tf.random.normal((IMAGES, EDGE, EDGE, CHANNELS), seed=3)
    w = tf.random.normal((3, 3, CHANNELS, CHANNELS), seed=4) / math.sqrt(9 * CHANNELS)
    found = timed(lambda rounds: chain(x, w, tf.constant(rounds)).numpy())
    work = 2 * IMAGES * EDGE**2 * 9 * CHANNELS**2
    return {**found, "rate": work / found["seconds"] / 1e9, "unit": "GFLOP/s"}


def xla(tf, np, device):
    """Compile one step of gradient descent with XLA (on a GPU: ptxas and libdevice)."""
    rng = np.random.default_rng(3)
    x, y, w = (rng.normal(size=size) for size in ((2048, 1024), (2048, 512), (1024, 512)))
    w /= 32

    @tf.function(jit_compile=True)
    def step(x, y, w):
        with tf.GradientTape() as tape:
            tape.watch(w)
            loss = tf.reduce_mean((tf.tanh(x @ w) - y) ** 2)
        return w - 10.0 * tape.gradient(loss, w)

    out = np.tanh(x @ w)
    wanted = w - 10 * (x.T @ (2 * (out - y) * (1 - out**2))) / out.size
    x, y, w = (tf.constant(value, tf.float32) for value in (x, y, w))
    began = time.perf_counter()
    got = step(x, y, w)
    values = got.numpy()
    first = time.perf_counter() - began
    if device not in got.device:
        raise Wrong(f"the result lies on {got.device}")
    close(values, wanted, "a compiled step of gradient descent")

    def steps(rounds):
        now = w
        for _ in range(rounds):
            now = step(x, y, now)
        now.numpy()

    found = timed(steps) | {"first": first}  # with the time to compile
    return {**found, "rate": 1 / found["seconds"], "unit": "steps/s"}


def training(tf, np, device):
    """Train a small dense network with Keras on points that a linear rule labels."""
    import keras

    keras.utils.set_random_seed(4)
    points = np.random.default_rng(4).normal(size=(SAMPLES, FEATURES)).astype("float32")
    rule = np.random.default_rng(5).normal(size=(FEATURES, CLASSES))
    labels = (points @ rule).argmax(axis=1)
    layers = [keras.layers.Dense(512, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers, keras.layers.Dense(CLASSES)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = tf.data.Dataset.from_tensor_slices((points, labels)).cache().batch(BATCH).prefetch(2)
    began = time.perf_counter()
    losses = model.fit(data, epochs=1, shuffle=False, verbose=0).history["loss"]
    first = time.perf_counter() - began
    began = time.perf_counter()
    losses += model.fit(data, epochs=2, shuffle=False, verbose=0).history["loss"]
    seconds = (time.perf_counter() - began) / 2
    if not np.isfinite(losses).all() or losses[-1] > 0.8 * losses[0]:
        raise Wrong(f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g}")
    if device not in model.layers[0].kernel.value.device:
        raise Wrong(f"the weights lie on {model.layers[0].kernel.value.device}")
    return {"first": first, "seconds": seconds, "rate": SAMPLES / seconds, "unit": "samples/s",
            "losses": [round(loss, 4) for loss in losses]}


#: The works in their order, by the name in the table.
WORKS = {"matmul": matmul, "convolution": convolution, "XLA step": xla, "training": training}


def main(descriptor, kind, index):
    """Run all works on one device."""
    report = os.fdopen(int(descriptor), "w", buffering=1)

    def say(**fields):
        report.write(json.dumps(fields) + "\n")

    began = time.perf_counter()
    import numpy as np
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    say(work="start", seconds=time.perf_counter() - began, gpus=len(gpus))
    if kind == "gpu":
        if int(index) >= len(gpus):
            return
        tf.config.set_visible_devices(gpus[int(index)], "GPU")
        # The other programs on this GPU keep their memory.
        tf.config.experimental.set_memory_growth(gpus[int(index)], True)
    else:
        tf.config.set_visible_devices([], "GPU")
    device = "GPU:0" if kind == "gpu" else "CPU:0"
    for name, work in WORKS.items():
        try:
            with tf.device(f"/{device}"):
                say(work=name, **work(tf, np, device))
        except Wrong as error:
            say(work=name, wrong=str(error))
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            say(work=name, error=f"{type(error).__name__}: {text}".replace(" [Op:", " [op "))


if __name__ == "__main__":
    main(*sys.argv[1:])
