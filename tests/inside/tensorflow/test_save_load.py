"""A model that was saved predicts the same when it is loaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

X = np.random.default_rng(3).normal(size=(8, 6, 3)).astype("float32")


def _model() -> keras.Model:
    keras.utils.set_random_seed(5)
    inputs = keras.Input((6, 3))
    lstm = keras.layers.LSTM(4)(inputs)
    mean = keras.layers.GlobalAveragePooling1D()(inputs)
    joined = keras.layers.Concatenate()([lstm, mean])
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.BatchNormalization()(joined))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, np.arange(8) % 2, epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    return _model()


def test_a_keras_file_predicts_the_same(trained, tmp_path):
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), trained.predict(X, verbose=0))


def test_a_loaded_model_trains_on_as_the_saved_one_does(tmp_path):
    model = _model()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    losses = [
        m.fit(X, np.arange(8) % 2, epochs=2, verbose=0, shuffle=False).history["loss"]
        for m in (model, loaded)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_hdf5_weights_predict_the_same(trained, tmp_path):
    trained.save_weights(tmp_path / "model.weights.h5")
    fresh = keras.models.clone_model(trained)
    assert not np.allclose(fresh.predict(X, verbose=0), trained.predict(X, verbose=0))
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh.predict(X, verbose=0), trained.predict(X, verbose=0))


def test_a_whole_hdf5_model_predicts_the_same(trained, tmp_path):
    trained.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), trained.predict(X, verbose=0))


def test_an_exported_savedmodel_predicts_the_same(trained, tmp_path):
    trained.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(
        served.serve(tf.constant(X)), trained.predict(X, verbose=0), rtol=1e-6
    )


def test_an_exported_savedmodel_is_a_layer_again(trained, tmp_path):
    trained.export(tmp_path / "served", verbose=False)
    layer = keras.layers.TFSMLayer(str(tmp_path / "served"))
    np.testing.assert_allclose(layer(X), trained.predict(X, verbose=0), rtol=1e-6)


def test_a_checkpoint_restores_a_variable(tmp_path):
    step = tf.Variable(41)
    path = tf.train.Checkpoint(step=step).save(str(tmp_path / "ckpt"))
    step.assign(0)
    tf.train.Checkpoint(step=step).restore(path).assert_consumed()
    assert int(step) == 41


def test_a_lite_model_predicts_the_same(tmp_path):
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)]
    )
    model.export(tmp_path / "served", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "served"))
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    row = X[:1, :, 0]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, model.predict(row, verbose=0), rtol=1e-5, atol=1e-6)
