"""How to build each public Keras layer small: a constructor and an input, by class name.

An input is a shape (random floats), a list of shapes (a layer of several inputs), or a function
that makes the input. ``IMAGE`` holds values of 0 to 255.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as L

RANDOM = np.random.default_rng(7)


def floats(*shape: int) -> np.ndarray:
    """Random normal numbers of a shape."""
    return RANDOM.normal(size=shape).astype("float32")


def image() -> np.ndarray:
    """Two colour images of 16 by 16 pixels."""
    return RANDOM.uniform(0, 255, size=(2, 16, 16, 3)).astype("float32")


def labelled() -> dict[str, np.ndarray]:
    """Images with one-hot labels."""
    return {"images": image(), "labels": np.eye(2, dtype="float32")}


def boxed() -> dict[str, Any]:
    """Images with three bounding boxes each."""
    boxes = np.array([[[1, 1, 5, 5], [2, 2, 9, 9], [0, 0, 4, 4]]] * 2, dtype="float32")
    labels = np.array([[0, 1, 1]] * 2, dtype="float32")
    return {"images": image(), "bounding_boxes": {"boxes": boxes, "labels": labels}}


@dataclass(frozen=True)
class Recipe:
    """A layer's maker, its input, whether a gradient flows back to that input, and the optional
    module of Keras that it needs (the tensorflow image does not hold all of them)."""

    make: Callable[[], keras.layers.Layer]
    given: Any
    differentiable: bool = True
    needs: str = "keras"

    def inputs(self) -> Any:
        """A fresh input: an array, or a structure of arrays."""
        if callable(self.given):
            return self.given()
        return _filled(self.given)


def _filled(shape: Any) -> Any:
    """Random floats of a shape, or of each shape of a (nested) list."""
    return [_filled(part) for part in shape] if isinstance(shape, list) else floats(*shape)


def _line(make: Callable, *shape: int) -> Recipe:
    return Recipe(make, shape)


def _data(make: Callable, given: Any) -> Recipe:
    return Recipe(make, given, differentiable=False)


VECTOR, LINE, PLANE, SPACE = (2, 6), (2, 8, 3), (2, 8, 8, 3), (2, 6, 6, 6, 2)
SIZES = {1: LINE, 2: PLANE, 3: SPACE}
RECIPES: dict[str, Recipe] = {}

for n, shape in SIZES.items():
    RECIPES |= {
        f"AdaptiveAveragePooling{n}D": _line(
            lambda n=n: getattr(L, f"AdaptiveAveragePooling{n}D")(2), *shape
        ),
        f"AdaptiveMaxPooling{n}D": _line(
            lambda n=n: getattr(L, f"AdaptiveMaxPooling{n}D")(2), *shape
        ),
        f"AveragePooling{n}D": _line(lambda n=n: getattr(L, f"AveragePooling{n}D")(2), *shape),
        f"Conv{n}D": _line(lambda n=n: getattr(L, f"Conv{n}D")(4, 3), *shape),
        f"Conv{n}DTranspose": _line(lambda n=n: getattr(L, f"Conv{n}DTranspose")(4, 3), *shape),
        f"SpatialDropout{n}D": _line(lambda n=n: getattr(L, f"SpatialDropout{n}D")(0.2), *shape),
        f"ConvLSTM{n}D": _line(
            lambda n=n: getattr(L, f"ConvLSTM{n}D")(2, 2), shape[0], 2, *shape[1:]
        ),
    } | {
        f"{name}{n}D": _line(getattr(L, f"{name}{n}D"), *shape)
        for name in [
            "Cropping",
            "GlobalAveragePooling",
            "GlobalMaxPooling",
            "MaxPooling",
            "UpSampling",
            "ZeroPadding",
        ]
    }
RECIPES["Cropping3D"] = _line(lambda: L.Cropping3D(1), *SPACE)

for n in (1, 2):
    RECIPES |= {
        f"DepthwiseConv{n}D": _line(lambda n=n: getattr(L, f"DepthwiseConv{n}D")(3), *SIZES[n]),
        f"SeparableConv{n}D": _line(lambda n=n: getattr(L, f"SeparableConv{n}D")(4, 3), *SIZES[n]),
    }

# Merging
RECIPES |= {
    name: Recipe(getattr(L, name), [VECTOR, VECTOR])
    for name in ["Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"]
}
RECIPES["Dot"] = Recipe(lambda: L.Dot(axes=1), [VECTOR, VECTOR])

# Core, activations, normalisation, regularisation
RECIPES |= {
    name: _line(getattr(L, name), *VECTOR)
    for name in [
        "ActivityRegularization",
        "BatchNormalization",
        "ELU",
        "Identity",
        "LayerNormalization",
        "LeakyReLU",
        "PReLU",
        "RMSNormalization",
        "ReLU",
        "Softmax",
        "UnitNormalization",
    ]
} | {
    "Activation": _line(lambda: L.Activation("gelu"), *VECTOR),
    "AlphaDropout": _line(lambda: L.AlphaDropout(0.2), *VECTOR),
    "Dense": _line(lambda: L.Dense(4), *VECTOR),
    "Dropout": _line(lambda: L.Dropout(0.2), *VECTOR),
    "EinsumDense": _line(lambda: L.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d"), *LINE),
    "Embedding": _data(lambda: L.Embedding(5, 3), lambda: RANDOM.integers(0, 5, (2, 4))),
    "Flatten": _line(L.Flatten, *PLANE),
    "GaussianDropout": _line(lambda: L.GaussianDropout(0.2), *VECTOR),
    "GaussianNoise": _line(lambda: L.GaussianNoise(0.2), *VECTOR),
    "GroupNormalization": _line(lambda: L.GroupNormalization(3), *VECTOR),
    "Lambda": _line(lambda: L.Lambda(lambda x: x * 2), *VECTOR),
    "Masking": _line(L.Masking, *LINE),
    "Permute": _line(lambda: L.Permute((2, 1)), *LINE),
    "RepeatVector": _line(lambda: L.RepeatVector(3), *VECTOR),
    "Reshape": _line(lambda: L.Reshape((3, 2)), *VECTOR),
    "ReversibleEmbedding": _data(
        lambda: L.ReversibleEmbedding(5, 3), lambda: RANDOM.integers(0, 5, (2, 4))
    ),
    "SpectralNormalization": _line(lambda: L.SpectralNormalization(L.Dense(4)), *VECTOR),
}

# Attention and recurrence
RECIPES |= {
    "AdditiveAttention": Recipe(L.AdditiveAttention, [LINE, LINE]),
    "Attention": Recipe(lambda: L.Attention(use_scale=True), [LINE, LINE]),
    "Bidirectional": _line(lambda: L.Bidirectional(L.LSTM(3)), *LINE),
    "GRU": _line(lambda: L.GRU(3), *LINE),
    "GRUCell": Recipe(lambda: L.GRUCell(3), [VECTOR, (2, 3)]),
    "GroupQueryAttention": Recipe(lambda: L.GroupQueryAttention(4, 4, 2), [LINE, LINE]),
    "LSTM": _line(lambda: L.LSTM(3), *LINE),
    "LSTMCell": Recipe(lambda: L.LSTMCell(3), [VECTOR, [(2, 3), (2, 3)]]),
    "MultiHeadAttention": Recipe(lambda: L.MultiHeadAttention(2, 4), [LINE, LINE]),
    "RNN": _line(lambda: L.RNN(L.GRUCell(3)), *LINE),
    "SimpleRNN": _line(lambda: L.SimpleRNN(3), *LINE),
    "SimpleRNNCell": Recipe(lambda: L.SimpleRNNCell(3), [VECTOR, (2, 3)]),
    "StackedRNNCells": Recipe(
        lambda: L.StackedRNNCells([L.SimpleRNNCell(3), L.SimpleRNNCell(3)]),
        [VECTOR, [(2, 3), (2, 3)]],
    ),
    "TimeDistributed": _line(lambda: L.TimeDistributed(L.Dense(4)), *LINE),
}

# Preparing images: what they do to pixels, no weights to train
RECIPES |= (
    {
        name: _data(getattr(L, name), image)
        for name in [
            "AugMix",
            "AutoContrast",
            "ContrastLimitedAdaptiveHistogramEqualization",
            "Equalization",
            "RandAugment",
            "RandomElasticTransform",
            "RandomErasing",
            "RandomFlip",
            "RandomPerspective",
            "Solarization",
        ]
    }
    | {
        name: _data(lambda name=name: getattr(L, name)(0.2), image)
        for name in [
            "RandomBrightness",
            "RandomColorDegeneration",
            "RandomContrast",
            "RandomGrayscale",
            "RandomInvert",
            "RandomRotation",
            "RandomSaturation",
            "RandomSharpness",
            "RandomZoom",
        ]
    }
    | {
        "CenterCrop": _data(lambda: L.CenterCrop(4, 4), image),
        "CutMix": _data(L.CutMix, labelled),
        "MaxNumBoundingBoxes": _data(
            lambda: L.MaxNumBoundingBoxes(2, bounding_box_format="xyxy"), boxed
        ),
        "MixUp": _data(L.MixUp, labelled),
        "Pipeline": _data(lambda: L.Pipeline([L.RandomFlip(), L.Rescaling(1 / 255)]), image),
        "RandomColorJitter": _data(
            lambda: L.RandomColorJitter((0, 255), 0.1, 0.1, 0.1, 0.1), image
        ),
        "RandomCrop": _data(lambda: L.RandomCrop(4, 4), image),
        "RandomGaussianBlur": _data(lambda: L.RandomGaussianBlur(value_range=(0, 255)), image),
        "RandomHue": _data(lambda: L.RandomHue(0.2, (0, 255)), image),
        "RandomPosterization": _data(lambda: L.RandomPosterization(4), image),
        "RandomShear": _data(lambda: L.RandomShear(0.2, 0.2), image),
        "RandomTranslation": _data(lambda: L.RandomTranslation(0.1, 0.1), image),
        "Rescaling": _line(lambda: L.Rescaling(1 / 255), *PLANE),
        "Resizing": _line(lambda: L.Resizing(5, 5), *PLANE),
    }
)

# Preparing tables, text and sound
RECIPES |= {
    "CategoryEncoding": _data(lambda: L.CategoryEncoding(4), lambda: np.array([[0, 1], [2, 3]])),
    "Discretization": _data(lambda: L.Discretization([-1.0, 0.0, 1.0]), lambda: floats(2, 4)),
    "HashedCrossing": _data(
        lambda: L.HashedCrossing(5), lambda: [np.array(["a", "b"]), np.array([1, 2])]
    ),
    "Hashing": _data(lambda: L.Hashing(5), lambda: np.array([["a"], ["b"]])),
    "IntegerLookup": _data(
        lambda: L.IntegerLookup(vocabulary=[3, 5]), lambda: np.array([[3], [7]])
    ),
    "MelSpectrogram": _data(
        lambda: L.MelSpectrogram(fft_length=64, sequence_stride=32, num_mel_bins=8),
        lambda: floats(2, 256),
    ),
    "Normalization": _line(lambda: L.Normalization(mean=0.5, variance=2.0), *VECTOR),
    "STFTSpectrogram": Recipe(
        lambda: L.STFTSpectrogram(frame_length=16), (2, 64, 1), needs="scipy"
    ),
    "StringLookup": _data(
        lambda: L.StringLookup(vocabulary=["a", "b"]), lambda: np.array([["a"], ["z"]])
    ),
    "TextVectorization": _data(
        lambda: L.TextVectorization(vocabulary=["a", "b"]), lambda: np.array(["a b", "b z"])
    ),
}

# Public classes that are not tried by a recipe, each with its reason.
EXCEPTIONS = {
    "FlaxLayer": "wraps Flax, which is not in the image",
    "InputLayer": "is never called; every functional model of test_training holds one",
    "JaxLayer": "wraps JAX, which is not in the image",
    "Layer": "abstract",
    "TFSMLayer": "needs a SavedModel; test_save_load reloads one through it",
    "TorchModuleWrapper": "wraps PyTorch, which is not in the image",
    "Wrapper": "abstract: a subclass says what to call",
}
