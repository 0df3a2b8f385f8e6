"""The linear algebra below NumPy, SciPy and scikit-learn keeps to the quota too."""

import json

import fresh
from cgroups import expected_threads

POOLS = """
import json
import numpy, scipy.linalg, sklearn.cluster
from threadpoolctl import threadpool_info
print(json.dumps([[p["filepath"].rsplit("/", 1)[-1], p["num_threads"]] for p in threadpool_info()]))
"""


def test_every_pool_is_as_large_as_the_quota():
    done = fresh.python(POOLS)
    pools = json.loads(done.stdout)
    assert len(pools) >= 3, done.stderr
    assert {count for _, count in pools} == {expected_threads()}, pools
