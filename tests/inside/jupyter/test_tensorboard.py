"""TensorBoard understands what a training wrote."""

import keras
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_tensorboard_reads_what_the_callback_wrote(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 2), "float32")
    model.fit(x, x[:, :1], epochs=3, verbose=0, callbacks=[keras.callbacks.TensorBoard(tmp_path)])
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0}).Reload()
    assert len(events.Tensors("epoch_loss")) == 3
