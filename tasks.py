"""Hothouse's verbs. Each is thin; what it does is in the module of scripts/ that it imports.

The imports are in the tasks: `scripts/inv --list` should not wait for what it does not use.
"""

from invoke import Collection, task


@task(optional=["gpu"], help={"gpu": "the CUDA image, with all GPUs or those named: --gpu=0,1"})
def up(_, gpu=None):
    """Start the local notebook and print its address; makes whatever is missing."""
    from scripts import notebook

    notebook.up(gpu)


@task
def down(_):
    """Stop the local notebook; your files are kept."""
    from scripts import notebook

    notebook.down()


@task(help={"follow": "go on printing until Ctrl-C"})
def logs(_, follow=False):
    """Print the local notebook's log."""
    from scripts import notebook

    notebook.logs(follow)


@task
def url(_):
    """Print the address of the running notebook, with its token."""
    from scripts import notebook

    notebook.url()


@task(optional=["upgrade"], help={
    "upgrade": "move all packages, or the one named",
    "check": "change nothing; check the lock against what Debian signed",
})
def lock(_, upgrade=None, check=False):
    """Resolve the packages again, write the locks and print what changed."""
    from scripts import lock as module

    module.check() if check else module.run(upgrade)


@task(help={"variant": "cpu (the default), cuda or all"})
def fetch(_, variant="cpu"):
    """Download what the locks name; the only step with a network."""
    from scripts import fetch as module

    module.run(module.variants(variant))
    print(f"Next: scripts/inv build {variant}")


@task(help={
    "target": "an image (base, jupyter-cuda, …), or cpu, cuda, all; cpu without it",
    "no-cache": "run every step again",
    "bundle": "a file of `inv bundle`: build from it alone",
})
def build(_, target=None, no_cache=False, bundle=None):
    """Build the images, without a network."""
    if bundle:
        from scripts import unbundle

        unbundle.run(bundle, target, no_cache=no_cache)
        return
    from scripts import build as module

    module.build([target] if target else None, no_cache=no_cache)


@task(help={
    "variant": "cpu, cuda or all",
    "output": "the file; by default below .artifacts",
})
def bundle(_, variant="cpu", output=None):
    """Write everything that a build needs into one file, the same bytes wherever it is made."""
    from scripts import bundle as module

    module.run(variant, output)


@task(help={
    "part": "static, scripts, base, tensorflow, jupyter, notebooks, browser, faults or bits",
})
def test(_, part=None):
    """Run the tests, quick ones first; builds the images that they need."""
    from scripts import suite

    suite.run(part)


@task(help={"variant": "cpu (the default) or cuda, which takes 20 GB of disk for a while"})
def bench(_, variant="cpu"):
    """Print sizes by layer, the time to the first answer and of the first import."""
    from scripts import measure

    measure.run(variant)


@task(help={
    "json": "one JSON document",
    "gpu": "exit with 1 when containers cannot have a GPU",
})
def doctor(_, json=False, gpu=False):
    """Look at this machine: engine, disk, port, GPU; installs and starts nothing."""
    from scripts import doctor as module

    module.run(json, gpu)


@task(help={
    "image": "hothouse/tensorflow:cuda without it",
    "gpu": "all, or indices such as 0,1",
    "driver": "nvidia (the container toolkit) or cdi",
    "pack": "write the image into a folder instead, for a GPU host without an engine",
    "tree": "run on such a folder instead of in a container",
})
def evidence(_, image=None, gpu="all", driver="nvidia", pack=None, tree=None):
    """Run the tests on this host's GPU and write a record into docs/gpu-evidence."""
    from scripts import evidence as module
    from scripts import unpacked

    image = image or module.DEFAULT
    if pack:
        unpacked.pack(image, pack)
    else:
        module.run(image, gpu, driver, tree)


@task(auto_shortflags=False, help={
    "image": "in the engine, an OCI archive or folder, or HOST/NAME:TAG in a registry",
    "other": "a second image: show what changed from the first to it",
    "json": "print it for machines",
    "html": "write a page with a treemap to this file",
})
def report(_, image, other=None, json=False, html=None):
    """Print what is in an image, or what changed between two: packages, licences, sizes."""
    from scripts import report as module

    module.run(image, other, as_json=json, html=html)


@task(auto_shortflags=False, help={
    "image": "as of report; with @DIGEST that very one",
    "quick": "check each file against the locked packages instead of building again",
})
def verify(_, image, quick=False):
    """Build an image again from the source that its labels name, and compare."""
    from scripts import verify as module

    module.run(image, quick=quick)


@task(help={"check": "compare the images with the file instead of writing it"})
def digests(_, check=False):
    """Build all images and write their digests to digests.lock, which the tests compare."""
    from scripts import digests as module

    module.run(check)


namespace = Collection(
    up, down, logs, url, lock, fetch, build, bundle, test, bench, digests, doctor, evidence, report,
    verify,
)
