"""Without a GPU the CUDA build warns once and trains on the CPU."""

import os
import re

import fresh

CODE = """
import keras, numpy as np, tensorflow as tf
keras.utils.set_random_seed(1)
x = np.random.default_rng(1).normal(size=(256, 4)).astype("float32")
y = (x.sum(axis=1) > 0).astype("int32")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "relu"),
                          keras.layers.Dense(2, "softmax")])
model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=8, verbose=0)
print(model.evaluate(x, y, verbose=0)[1] > 0.9, model.weights[0].value.device)
"""


def test_it_warns_once_and_trains_on_the_cpu():
    # Hidden on a machine with a GPU, so that this holds there too.
    done = fresh.python(CODE, CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL=(
        os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1")))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "True"
    assert "CPU:0" in done.stdout
    # TensorFlow's two forms: "E0000 00:00:…" and "2026-11-21 09:00:00.1: E external/…".
    lines = [re.sub(r"^\d{4}-\d\d-\d\d [\d:.]+: ", "", line) for line in done.stderr.splitlines()]
    complaints = [line for line in lines
                  if line.startswith(("E", "W", "F")) and not line.startswith("WARNING: All log")]
    assert len(complaints) <= 1, done.stderr
    assert "Traceback" not in done.stderr
