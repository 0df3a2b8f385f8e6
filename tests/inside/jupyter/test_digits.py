"""The digits of scikit-learn: 1,797 small images, a real data set without a network."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


@pytest.fixture(scope="module")
def digits() -> list[np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    assert images.shape == (1797, 64)
    x = (images / 16).astype("float32")
    return train_test_split(x, labels, test_size=360, random_state=0, stratify=labels)


def _sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, "softmax"),
        ]
    )


def _functional() -> keras.Model:
    inputs = keras.Input((64,))
    x = keras.layers.Reshape((8, 8, 1))(inputs)
    x = keras.layers.Conv2D(16, 3, activation="relu")(x)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D()(x))
    joined = keras.layers.Concatenate()([x, inputs])
    return keras.Model(inputs, keras.layers.Dense(10, "softmax")(joined))


@pytest.mark.parametrize("make", (_sequential, _functional))
def test_a_network_reads_digits_it_has_not_seen(make, digits):
    x_train, x_test, y_train, y_test = digits
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(
        keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x_train, y_train, epochs=20, verbose=0)
    assert model.evaluate(x_test, y_test, verbose=0)[1] >= 0.95
