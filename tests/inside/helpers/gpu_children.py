"""What a GPU test does in a Python of its own, since TensorFlow takes such settings only once.

``python gpu_children.py VERB …`` prints one line of JSON.
"""

import argparse
import json
from pathlib import Path

import gpus
import keras
import numpy as np
import tensorflow as tf

MIB = 1 << 20


def short(name: str) -> str:
    """Return "GPU:0" of a device's full name."""
    return name.rsplit("device:", 1)[-1]


def growth(_) -> dict:
    """Allocate 64 MiB with memory growth on; memory before and after, in bytes."""
    free, _ = gpus.free_memory()
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    with tf.device(gpus.DEVICE):
        kept = tf.zeros((64 * MIB // 4,), tf.float32)
    info = tf.config.experimental.get_memory_info("GPU:0")
    after, _ = gpus.free_memory()
    assert kept.shape[0]
    return {**info, "free_before": free, "free_after": after}


def limit(_) -> dict:
    """Allocate less and more than a limit of 512 MiB."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("GPU")[0],
        [tf.config.LogicalDeviceConfiguration(memory_limit=512)],
    )
    said = {}
    for name, size in (("small", 64), ("large", 1024)):
        try:
            with tf.device(gpus.DEVICE):
                tf.zeros((size * MIB // 4,), tf.float32).numpy()
            said[name] = "fits"
        except tf.errors.OpError as error:
            said[name] = type(error).__name__
    return said


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures of a bar, lying, standing, falling or rising, and which it is."""
    random = np.random.default_rng(seed)
    shape = np.stack([np.eye(12), np.fliplr(np.eye(12)), np.zeros((12, 12)), np.zeros((12, 12))])
    shape[2, 6, :] = 1
    shape[3, :, 6] = 1
    label = random.integers(0, 4, count)
    moves = random.integers(-2, 3, (count, 2))
    images = np.stack([np.roll(shape[kind], move, (0, 1))
                       for kind, move in zip(label, moves, strict=True)])
    images += random.normal(scale=0.3, size=images.shape)
    return images[..., None].astype("float32"), label.astype("int32")


def network() -> keras.Model:
    """Return a small network for the pictures; the last layer computes in float32."""
    layers = keras.layers
    return keras.Sequential([
        keras.Input((12, 12, 1)),
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dropout(0.1),
        layers.Dense(4, activation="softmax", dtype="float32"),
    ])


def train(options) -> dict:
    """Train the network; losses, accuracy on other pictures, and where it was done."""
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    if options.policy:
        keras.config.set_dtype_policy(options.policy)
    keras.utils.set_random_seed(options.seed)
    model = network()
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy",
                  metrics=["accuracy"], jit_compile=options.jit)
    losses = model.fit(*pictures(2000, 1), batch_size=64, epochs=4, verbose=0).history["loss"]
    test = pictures(600, 2)
    placed = {short(weight.value.device) for weight in model.trainable_weights}
    placed.add(short(model(test[0][:2]).backing_device))
    return {
        "losses": losses,
        "exact": [float(loss).hex() for loss in losses],
        "accuracy": model.evaluate(*test, verbose=0)[1],
        "devices": sorted(placed),
        "compute_dtype": model.layers[0].compute_dtype,
        "variable_dtype": model.layers[0].variable_dtype,
    }


def nccl(_) -> dict:
    """Sum 1, 2, … over the GPUs with NCCL: GPU 0 gives 1, GPU 1 gives 2."""
    count = len(gpus.visible())

    @tf.function
    def total():
        results = []
        for index in range(count):
            with tf.device(f"/GPU:{index}"):
                mine = tf.fill((1024,), float(index + 1))
                results.append(tf.raw_ops.NcclAllReduce(
                    input=mine, reduction="sum", num_devices=count, shared_name="total"))
        return results

    results = total()
    for result in results:
        assert len(set(result.numpy())) == 1
    libraries = gpus.mapped("libnccl")
    return {
        "devices": [short(result.backing_device) for result in results],
        "sums": [float(result[0]) for result in results],
        "library_of_the_image": bool(libraries) and all(map(gpus.in_the_image, libraries)),
    }


def mirrored(_) -> dict:
    """Take some steps of training on all GPUs, gradients summed by NCCL."""
    strategy = tf.distribute.MirroredStrategy(
        [f"/GPU:{index}" for index in range(len(gpus.visible()))],
        cross_device_ops=tf.distribute.NcclAllReduce(),
    )
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network()
        model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    losses = model.fit(*pictures(1024, 1), batch_size=128, epochs=3, verbose=0).history["loss"]
    copies = strategy.experimental_local_results(model.trainable_weights[0].value)
    return {"replicas": strategy.num_replicas_in_sync, "losses": losses,
            "devices": [copy.device for copy in copies]}


def xla(_) -> dict:
    """Compile functions that no GPU has an instruction for, and call them."""

    def some(x):
        y = tf.tanh(x) + tf.math.erf(x) + tf.math.atan2(x, x + 2) + tf.pow(tf.abs(x), 1.7)
        return y + tf.cast(tf.sin(tf.cast(x, tf.float64) * 40), tf.float32)

    with tf.device(gpus.DEVICE):
        x = tf.constant(np.linspace(-1.5, 1.5, 256), tf.float32)
        compiled = tf.function(some, jit_compile=True)(x)
    with tf.device("/CPU:0"):
        plain = some(tf.identity(x))
    return {"device": compiled.backing_device, "compiled": compiled.numpy().tolist(),
            "plain": plain.numpy().tolist()}


def profile(options) -> dict:
    """Trace some products; how many events of which name each device's timeline has."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tf.device(gpus.DEVICE):
        x = tf.random.normal((512, 512))
        (x @ x).numpy()
        tf.profiler.experimental.start(options.argument)
        for _ in range(5):
            (x @ x).numpy()
        tf.profiler.experimental.stop()
    events = []
    for path in Path(options.argument).rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
        for plane in space.planes:
            for line in plane.lines:
                names = [plane.event_metadata[event.metadata_id].name for event in line.events]
                events += [[plane.name, name, names.count(name)] for name in sorted(set(names))]
    return {"events": [event for event in events if event[0].startswith("/device:")],
            "planes": sorted({event[0] for event in events})}


VERBS = {f.__name__: f for f in (growth, limit, train, nccl, mirrored, xla, profile)}


def main() -> None:
    """Run a verb and print its answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("argument", nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy")
    parser.add_argument("--jit", action="store_true")
    parser.add_argument("--deterministic", action="store_true")
    options = parser.parse_args()
    print(json.dumps(VERBS[options.verb](options)))


if __name__ == "__main__":
    main()
