"""Data comes in: pipelines, images, records."""

import numpy as np
import pytest
import tensorflow as tf

PICTURE = np.stack(
    [*np.meshgrid(np.arange(0, 256, 8), np.arange(0, 256, 8)), np.full((32, 32), 90)], axis=-1
).astype("uint8")


def test_a_pipeline_maps_batches_and_prefetches():
    data = tf.data.Dataset.range(10).map(lambda x: x * x, num_parallel_calls=tf.data.AUTOTUNE)
    batches = [b.numpy().tolist() for b in data.batch(4).prefetch(tf.data.AUTOTUNE)]
    assert batches == [[0, 1, 4, 9], [16, 25, 36, 49], [64, 81]]


def test_a_shuffled_pipeline_holds_the_same_elements():
    shuffled = list(tf.data.Dataset.range(50).shuffle(50, seed=1).cache().as_numpy_iterator())
    assert shuffled != sorted(shuffled)
    assert sorted(shuffled) == list(range(50))


def test_a_generator_feeds_a_pipeline():
    def rows():
        for i in range(3):
            yield np.full(2, i, "float32"), i

    signature = (tf.TensorSpec((2,), tf.float32), tf.TensorSpec((), tf.int32))
    data = tf.data.Dataset.from_generator(rows, output_signature=signature)
    assert [(x.tolist(), int(y)) for x, y in data.as_numpy_iterator()] == [
        ([0, 0], 0),
        ([1, 1], 1),
        ([2, 2], 2),
    ]


def test_an_error_in_a_pipeline_reaches_the_caller():
    data = tf.data.Dataset.range(3).map(lambda x: tf.debugging.check_numerics(1 / (x - 1), "bad"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad"):
        list(data)


def test_png_keeps_every_pixel():
    np.testing.assert_array_equal(tf.io.decode_png(tf.io.encode_png(PICTURE)), PICTURE)


def test_jpeg_keeps_pixels_nearly():
    found = tf.io.decode_jpeg(tf.io.encode_jpeg(PICTURE, quality=95)).numpy()
    assert found.shape == PICTURE.shape
    assert np.abs(found.astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("encode", (tf.io.encode_png, tf.io.encode_jpeg), ids=("png", "jpeg"))
def test_an_image_file_of_any_kind_is_decoded(encode, tmp_path):
    path = tmp_path / "picture"
    tf.io.write_file(str(path), encode(PICTURE))
    picture = tf.io.decode_image(tf.io.read_file(str(path)), expand_animations=False)
    assert picture.shape == PICTURE.shape


def test_records_come_back_in_order(tmp_path):
    path = str(tmp_path / "rows.tfrecord.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for i in range(20):
            value = tf.train.Feature(int64_list=tf.train.Int64List(value=[i]))
            example = tf.train.Example(features=tf.train.Features(feature={"i": value}))
            writer.write(example.SerializeToString())
    layout = {"i": tf.io.FixedLenFeature((), tf.int64)}
    data = tf.data.TFRecordDataset(path, "GZIP").map(
        lambda r: tf.io.parse_single_example(r, layout)
    )
    assert [int(row["i"]) for row in data] == list(range(20))
