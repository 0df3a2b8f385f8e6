"""Which GPUs `inv up --gpu` accepts, and how it says what it refuses."""

import pytest

from scripts import gpus
from scripts.problem import Problem

TWO = ["NVIDIA A100", "NVIDIA H100"]
UUID = "5a1b2c3d-0000-1111-2222-333344445555"


@pytest.mark.parametrize("wanted", ["all", "0", "1", "0,1", f"GPU-{UUID}", f"MIG-{UUID}"])
def test_gpus_that_can_exist_are_accepted(wanted):
    gpus.check_names(wanted, TWO)


@pytest.mark.parametrize(("wanted", "cause"), [
    ("2", "there is no GPU 2"),
    ("0,7", "there is no GPU 7"),
    ("first", '"first" names no GPU'),
    ("-1", '"-1" names no GPU'),
    ("0,", '"" names no GPU'),
    ("", '"" names no GPU'),
])
def test_gpus_that_do_not_exist_are_named_with_those_that_do(wanted, cause):
    with pytest.raises(Problem) as caught:
        gpus.check_names(wanted, TWO)
    assert caught.value.cause == cause
    assert "0 (NVIDIA A100), 1 (NVIDIA H100)" in caught.value.fix


def test_where_nothing_tells_the_gpus_only_nonsense_is_refused():
    gpus.check_names("7", [])
    with pytest.raises(Problem, match='"first" names no GPU. Fix: choose from all, or a UUID'):
        gpus.check_names("first", [])


def test_another_error_of_compose_is_no_matter_of_gpus():
    assert gpus.complaint("Error response from daemon: No such image: x") is None
