"""Every public Keras layer computes, and gradients reach each of its weights."""

import importlib.util
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from recipes import EXCEPTIONS, RECIPES


def _public() -> dict[type, str]:
    """Public layer classes and one public name of each: AvgPool1D is AveragePooling1D."""
    return {
        thing: thing.__name__ if hasattr(keras.layers, thing.__name__) else name
        for name, thing in inspect.getmembers(keras.layers, inspect.isclass)
        if issubclass(thing, keras.layers.Layer)
    }


def test_every_public_layer_has_a_recipe_or_a_reason():
    names = set(_public().values())
    assert len(names) > 100
    assert names - set(RECIPES) - set(EXCEPTIONS) == set(), "write a recipe in helpers/recipes.py"


def test_every_recipe_and_exception_is_of_a_public_layer():
    assert (set(RECIPES) | set(EXCEPTIONS)) - set(_public().values()) == set()
    assert set(RECIPES) & set(EXCEPTIONS) == set()


def _tensors(inputs):
    return tf.nest.map_structure(tf.convert_to_tensor, inputs)


def _finite(structure) -> bool:
    numbers = [t for t in tf.nest.flatten(structure) if t.dtype.is_floating]
    return all(np.isfinite(t.numpy()).all() for t in numbers)


def _call(layer, inputs):
    """Recurrent cells take their states, attention its pair, in different places."""
    if isinstance(layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
        return layer(*inputs, training=True)
    if hasattr(layer, "state_size") and not isinstance(layer, keras.layers.RNN):
        return layer(*inputs, training=True)
    if "training" in inspect.signature(layer.call).parameters:
        return layer(inputs, training=True)
    return layer(inputs)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_layer_computes_and_its_weights_get_gradients(name):
    keras.utils.set_random_seed(7)
    recipe = RECIPES[name]
    if importlib.util.find_spec(recipe.needs) is None:
        # Not in this image, which is no reason to skip: Keras has to say what it misses.
        with pytest.raises(ImportError, match=recipe.needs):
            _call(recipe.make(), _tensors(recipe.inputs()))
        return
    layer, inputs = recipe.make(), _tensors(recipe.inputs())
    watched = [t for t in tf.nest.flatten(inputs) if t.dtype.is_floating]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(watched)
        outputs = _call(layer, inputs)
        numbers = [t for t in tf.nest.flatten(outputs) if t.dtype.is_floating]
        # Random weights: the plain sum of a softmax or a normalised row is constant.
        loss = sum(
            tf.reduce_sum(tf.cast(t, tf.float32) * tf.random.normal(t.shape)) for t in numbers
        )
    assert _finite(outputs)
    assert all(t.shape[0] == 2 for t in tf.nest.flatten(outputs)), "the batch was lost"

    weights = [w.value for w in layer.trainable_weights]
    gradients = tape.gradient(loss, weights) if weights else []
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None, f"no gradient reaches {weight.path}"
        dense = tf.convert_to_tensor(gradient)
        assert dense.shape == weight.shape
        assert np.isfinite(dense.numpy()).all(), f"the gradient of {weight.path} is not finite"
    if weights:
        assert any(np.any(tf.convert_to_tensor(g).numpy()) for g in gradients)
    if recipe.differentiable:
        back = tape.gradient(loss, watched)
        assert all(g is not None and np.isfinite(g.numpy()).all() for g in back)
        assert any(np.any(g.numpy()) for g in back)
