"""Hothouse's verbs. Each is thin; what it does is in the module of scripts/ that it imports.

The imports are in the tasks: `scripts/inv --list` should not wait for what it does not use.
"""

from invoke import Collection, task


@task
def up(_):
    """Start the local notebook and print its address; makes whatever is missing."""
    from scripts import notebook

    notebook.up()


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


@task(optional=["upgrade"], help={"upgrade": "move all packages, or the one named"})
def lock(_, upgrade=None):
    """Resolve the packages again, write the locks and print what changed."""
    from scripts import lock as module

    module.run(upgrade)


@task
def fetch(_):
    """Download what the locks name; the only step with a network."""
    from scripts import fetch as module

    module.run()
    print("Next: scripts/inv build")


@task(help={
    "target": "base, tensorflow-cpu or jupyter-cpu; all without it",
    "no-cache": "run every step again",
})
def build(_, target=None, no_cache=False):
    """Build the images, without a network."""
    from scripts import build as module

    module.build([target] if target else None, no_cache=no_cache)


@task(help={
    "part": "static, scripts, base, tensorflow, jupyter, notebooks, browser or faults",
})
def test(_, part=None):
    """Run the tests, quick ones first; builds the images that they need."""
    from scripts import suite

    suite.run(part)


@task
def bench(_):
    """Print sizes by layer, the time to the first answer and of the first import."""
    from scripts import measure

    measure.run()


namespace = Collection(up, down, logs, url, lock, fetch, build, test, bench)
