"""TensorFlow starts as many threads as the quota allows."""

import json

import fresh
from cgroups import expected_threads

# TensorFlow names the threads that run operations; those inside one operation keep Python's name.
COUNT = """
import collections, json, os
def threads():
    names = collections.Counter()
    for task in os.listdir("/proc/self/task"):
        names[open(f"/proc/self/task/{task}/comm").read().strip()] += 1
    return names
import tensorflow as tf
before = threads()
x = tf.random.normal((256, 256))
tf.function(lambda x: tf.reduce_sum(x @ x))(x)
after = threads()
names = set(after) - {"tf_Compute", "tf_graph_runner"}
print(json.dumps({
    "inter": after["tf_Compute"],
    "intra": sum(after[n] - before[n] for n in names),
    "asked": [tf.config.threading.get_inter_op_parallelism_threads(),
              tf.config.threading.get_intra_op_parallelism_threads()],
}))
"""


def _seen(**environment: str) -> dict:
    # On a GPU the driver starts threads of its own, which would be counted with the CPU's.
    done = fresh.python(COUNT, CUDA_VISIBLE_DEVICES="-1", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tensorflows_pools_are_as_large_as_the_quota():
    wanted = expected_threads()
    seen = _seen()
    assert (seen["inter"], seen["intra"]) == (wanted, wanted)
    # 0: TensorFlow was left to its default, which it takes from the environment.
    assert all(asked in (0, wanted) for asked in seen["asked"])


def test_tensorflows_pools_are_as_large_as_the_user_says():
    seen = _seen(TF_NUM_INTEROP_THREADS="4", TF_NUM_INTRAOP_THREADS="3")
    assert (seen["inter"], seen["intra"]) == (4, 3)
