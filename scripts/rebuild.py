"""What `inv verify` has an older revision's own scripts do, in a checkout of that revision.

    python -c "import runpy, sys; runpy.run_path(sys.argv[1])" scripts/rebuild.py COMMAND …

runs there, so that ``from scripts import …`` are that revision's modules, not the ones beside this
file. Prints one JSON object on the last line of stdout.

    labels               what the revision can build: targets, their labels, contexts and tags
    build TARGET PREFIX  build a target without a cache, its tags below PREFIX
"""

import json
import os
import sys


def definitions() -> dict:
    """Return bake's targets as the revision's own variables make them."""
    from scripts import build, locks

    used = [locks.read(path) for path in locks.ALL]
    os.environ.update(build.variables_of(used))
    return build.targets()


def other_tags(targets: dict, prefix: str) -> list[str]:
    """Return bake's options that give each target a tag of its own below ``prefix``."""
    return [word for name in targets for word in ("--set", f"{name}.tags={prefix}/{name}:rebuilt")]


def build_again(target: str, prefix: str) -> dict:
    """Build ``target`` and what it stands on; no tag of the user's is touched."""
    from scripts import build

    build.BAKE = (*build.BAKE, *other_tags(build.targets(), prefix))
    if hasattr(build, "index"):
        build.index.cache_clear()  # it was read with the user's tags
    taken = [tag for each in build.targets().values() for tag in each["tags"]
             if not tag.startswith(f"{prefix}/")]
    if taken:
        sys.exit(f"rebuild: the revision would take the tags {' '.join(taken)}")
    # The revision's own progress is for the user: the last line of stdout is the answer alone.
    answer, sys.stdout = sys.stdout, sys.stderr
    try:
        build.build([target], no_cache=True)
    finally:
        sys.stdout = answer
    return {"image": f"{prefix}/{target}:rebuilt"}


def main() -> None:
    """See the module's text."""
    sys.path.insert(0, os.getcwd())
    from invoke.exceptions import Exit

    command, *arguments = sys.argv[2:]
    try:
        result = definitions() if command == "labels" else build_again(*arguments)
    except Exit as problem:
        sys.exit(problem.message)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # another revision's code, of which nothing is known
        sys.exit(f"{type(error).__name__}: {error}")
    print(json.dumps(result))


main()
