"""An update moves the layer of what was updated, and no other one."""

import json
import subprocess

import bumps
import layers
import pytest
import trees

from scripts import digests, locks

DEBS, TENSORFLOW, JUPYTER = locks.ALL
#: The library that is updated, and stages that must not move with it.
LIBRARY, NEIGHBOURS = "cusolver", ("runtime", "keras")
OF_LIBRARY = "nvidia-cusolver-cu12"


def sizes(image: str, layer: str | None = None) -> int:
    """Compressed bytes of an image, or of one of its layers, as digests.lock has them."""
    return sum(each["size"] for each in digests.load()["images"][image]["layers"]
               if layer in (None, each["name"]))


def digests_of(tag: str, target: str) -> dict[str, tuple[str, int]]:
    """The compressed digest and size of each layer, by its name."""
    image = layers.small(tag)
    names = digests.layer_names(target)
    return {name: (each.digest, each.size)
            for name, each in zip(names, image.layers, strict=True)}


def moved(before: dict[str, tuple[str, int]], after: dict[str, tuple[str, int]]) -> dict[str, int]:
    """The layers that a user who has the one image pulls for the other, with their sizes."""
    assert list(before) == list(after)
    have = {digest for digest, _ in before.values()}
    return {name: size for name, (digest, size) in after.items() if digest not in have}


@pytest.fixture(scope="module")
def present(tags, locked_bytes) -> dict[str, tuple[str, int]]:
    """The layers of this checkout's hothouse/jupyter:cpu."""
    return digests_of(tags["jupyter-cpu"], "jupyter-cpu")


def test_a_new_jupyterlab_moves_its_layer_and_rebuilds_no_other(tree, present, costs):
    inputs = tree.root / "images/jupyter/requirements.in"
    with bumps.bumped(tree, JUPYTER, "jupyterlab"), trees.edited(inputs, lambda t: t + "# new\n"):
        said = tree.works("build", "jupyter-cpu", limit=600)
    after = digests_of(f"{tree.tag}/jupyter:cpu", "jupyter-cpu")
    pulled = moved(present, after)
    assert list(pulled) == ["jupyter/lab"]
    # Neither made again nor compressed again: what is exported are the blobs that are there.
    assert layers.made(said, "jupyter-cpu") == ["jupyter/lab"]
    whole = sum(size for _, size in after.values())
    costs("a new JupyterLab", pulled, whole, "jupyter:cpu", 0.15)


def test_a_new_keras_moves_its_layer(tree, present, costs):
    with bumps.bumped(tree, TENSORFLOW, "keras"):
        tree.works("build", "jupyter-cpu", limit=600)
    after = digests_of(f"{tree.tag}/jupyter:cpu", "jupyter-cpu")
    pulled = moved(present, after)
    assert list(pulled) == ["tensorflow/keras"]
    costs("a new Keras", pulled, sum(size for _, size in after.values()), "jupyter:cpu", 0.10)


def test_a_new_debian_package_moves_the_base(tree, present, costs):
    # One that Python loads: the builder, in which all layers are made, has it too.
    with bumps.bumped(tree, DEBS, "libexpat1"):
        tree.works("build", "base", limit=600)
        lay_out(tree, "cpu")
        again = bake_stages(tree, "tensorflow-cpu", ("keras",))
    after = digests_of(f"{tree.tag}/base:latest", "base")
    before = {name: present[name] for name in after}
    pulled = moved(before, after)
    assert list(pulled) == ["base/bootstrapped"]
    # Made anew in the other builder, and still the same bytes.
    assert again == {"keras": present["tensorflow/keras"]}
    costs("a new Debian package", pulled, sizes("jupyter-cuda"), "jupyter:cuda", 0.05)


def test_a_new_cuda_library_moves_its_layer(tree, costs, locked_bytes):
    stages = (LIBRARY, *NEIGHBOURS)
    tree.works("build", "base", limit=400)
    folders_before = lay_out(tree, "cuda")
    before = bake_stages(tree, "tensorflow-cuda", stages)
    with bumps.bumped(tree, TENSORFLOW, OF_LIBRARY):
        folders_after = lay_out(tree, "cuda")
        after = bake_stages(tree, "tensorflow-cuda", stages)
    # A stage is made from its folder of wheels: no other stage can have changed.
    assert [name for name in folders_before if folders_before[name] != folders_after[name]] == [
        LIBRARY]
    pulled = moved(before, after)
    assert list(pulled) == [LIBRARY]
    recorded = {each["name"]: each["digest"]
                for each in digests.load()["images"]["jupyter-cuda"]["layers"]}
    if digests.load()["engine"] == digests.engine_version():
        assert before[LIBRARY][0] == recorded[f"tensorflow/{LIBRARY}"]
    whole = sizes("jupyter-cuda")
    costs("a new cuSOLVER", pulled, whole, "jupyter:cuda",
          1.01 * sizes("jupyter-cuda", f"tensorflow/{LIBRARY}") / whole)


def lay_out(tree: trees.Tree, variant: str) -> dict[str, list[tuple[str, int]]]:
    """Lay out the wheels of the copy's lock; return each folder's files with their inodes.

    Not `inv build`: that would want all of a variant's images.
    """
    code = (
        "from scripts import context, locks; "
        f"context.lay_out_wheels('tensorflow', '{variant}', "
        f"locks.read(locks.WHEELS[0]).select('linux/amd64', '{variant}'))"
    )
    tree.inv("--list")
    done = subprocess.run([".venv/bin/python", "-c", code], cwd=tree.root, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    top = tree.root / ".artifacts/context" / f"tensorflow-{variant}"
    return {
        folder.name: sorted((each.name, each.stat().st_ino) for each in folder.iterdir())
        for folder in sorted(top.iterdir())
    }


def bake_stages(
    tree: trees.Tree, target: str, stages: tuple[str, ...]
) -> dict[str, tuple[str, int]]:
    """Build some stages of a target alone, laid over nothing as the image lays them in.

    :returns: each one's layer: compressed digest and size.
    """
    tag = f"{tree.tag}/stages:{target}"
    lines = ["FROM scratch", *(f"COPY --link --from={stage} /out /" for stage in stages)]
    extra = {
        "target": {
            **{f"stage-{stage}": {"inherits": [target], "target": stage, "tags": [],
                                  "output": ["type=cacheonly"]} for stage in stages},
            "stages": {
                "inherits": ["_image"], "context": "tests/bits", "tags": [tag],
                "contexts": {stage: f"target:stage-{stage}" for stage in stages},
                # Not inline: buildx would leave it behind in the folder for temporary files.
                "dockerfile": "../../.artifacts/stages.Dockerfile",
            },
        },
    }
    path = tree.root / ".artifacts" / "stages.json"
    path.write_text(json.dumps(extra))
    path.with_suffix(".Dockerfile").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["docker", "buildx", "bake", "--file", "docker-bake.hcl", "--file", str(path),
         "--progress", "plain", "_builder", *(f"stage-{stage}" for stage in stages), "stages"],
        cwd=tree.root, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    image = layers.small(tag)
    return {stage: (each.digest, each.size)
            for stage, each in zip(stages, image.layers, strict=True)}
