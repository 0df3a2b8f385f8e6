"""Networks learn what can be learned, the same way twice."""

import keras
import numpy as np
import pytest


def _spirals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arms that no straight line parts."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count)
    turn = random.uniform(0.5, 5, count)
    angle = turn + np.pi * label
    points = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1)
    return (points + random.normal(scale=0.1, size=points.shape)).astype("float32"), label


def _sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(48, "relu"),
            keras.layers.Dense(48, "relu"),
            keras.layers.Dense(2, "softmax"),
        ]
    )


def _functional() -> keras.Model:
    inputs = keras.Input((2,))
    first = keras.layers.Dense(48, "relu")(inputs)
    second = keras.layers.Dense(48, "relu")(first)
    outputs = keras.layers.Dense(2, "softmax")(keras.layers.Add()([first, second]))
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("make", (_sequential, _functional))
def test_a_network_learns_two_spirals(make):
    keras.utils.set_random_seed(1)
    model = make()
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = model.fit(*_spirals(1000, 1), batch_size=50, epochs=30, verbose=0).history
    loss, accuracy = model.evaluate(*_spirals(400, 2), verbose=0)
    assert loss < 0.1 < history["loss"][0]
    assert accuracy >= 0.97


def test_a_recurrent_network_learns_which_sign_came_first():
    keras.utils.set_random_seed(2)
    x = np.random.default_rng(2).choice([-1.0, 1.0], size=(800, 8, 1)).astype("float32")
    y = (x[:, 0, 0] > 0).astype("int32")
    model = keras.Sequential(
        [keras.Input((8, 1)), keras.layers.LSTM(12), keras.layers.Dense(1, "sigmoid")]
    )
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x[:600], y[:600], batch_size=50, epochs=12, verbose=0)
    assert model.evaluate(x[600:], y[600:], verbose=0)[1] >= 0.97


def _losses(seed: int, **options) -> list[float]:
    keras.utils.set_random_seed(seed)
    model = _sequential()
    model.compile("adam", "sparse_categorical_crossentropy", **options)
    return model.fit(*_spirals(300, 1), epochs=3, verbose=0).history["loss"]


def test_the_same_seed_gives_the_same_losses():
    assert _losses(3) == _losses(3)
    assert _losses(3) != _losses(4)


def test_training_with_xla_gives_nearly_the_same_losses():
    np.testing.assert_allclose(
        _losses(3, jit_compile=True), _losses(3, jit_compile=False), rtol=1e-3
    )


@pytest.mark.parametrize("policy", ("mixed_float16", "mixed_bfloat16"))
def test_a_mixed_precision_model_trains(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(1)
        layers = [keras.Input((2,)), keras.layers.Dense(16, "relu")]
        model = keras.Sequential([*layers, keras.layers.Dense(2, "softmax", dtype="float32")])
        assert model.layers[0].compute_dtype == policy.removeprefix("mixed_")
        assert model.layers[0].kernel.dtype == "float32"
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        losses = model.fit(*_spirals(500, 1), epochs=4, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy(before)
    assert losses[-1] < losses[0]


def test_callbacks_stop_and_keep_the_best(tmp_path):
    keras.utils.set_random_seed(1)
    model = _sequential()
    model.compile("adam", "sparse_categorical_crossentropy")
    best = tmp_path / "best.keras"
    history = model.fit(
        *_spirals(200, 1),
        validation_data=_spirals(100, 2),
        epochs=9,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(best, save_best_only=True),
            keras.callbacks.EarlyStopping(patience=2, min_delta=10),
        ],
    ).history
    assert len(history["loss"]) == 3
    found = keras.models.load_model(best).evaluate(*_spirals(100, 2), verbose=0)
    assert found == pytest.approx(min(history["val_loss"]), rel=1e-4)
