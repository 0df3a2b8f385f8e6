"""The tests of `inv evidence` with an image's unpacked tree, on a GPU host without an engine.

`inv evidence --pack FOLDER` writes the tree and the image's manifest and configuration, where there
is an engine; `inv evidence --tree FOLDER` runs them on the GPU host. Nothing is mounted and root is
not needed: the tree's own dynamic linker starts the tree's Python with the tree's libraries
(ld.so(8): --library-path, --argv0); the driver's libraries are the host's. What only a container
shows (the base image's tests) is not run; the record says ``how: tree``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from scripts import evidence, locks, oci, suite
from scripts.paths import TESTS
from scripts.problem import Problem

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LINKER = f"{LIBRARIES}/ld-linux-x86-64.so.2"
PYTHON = "usr/bin/python3"
SITE = "usr/local/lib/python3.13/dist-packages"
#: Tests that a tree can't run: they call the image's commands by their paths in a container.
LEFT_OUT = ("tensorflow/test_doctor.py",)
#: What NVIDIA's driver brings (its README, "Installed Components"), as far as CUDA loads it.
DRIVER = re.compile(r"lib(cuda|nvidia-(ml|ptxjitcompiler|nvvm\w*|gpucomp|cfg|allocator))\.so[.\d]*")
#: Where the driver's libraries lie when the linker's cache does not know them.
PLACES = ("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/x86_64-linux-gnu",
          "/usr/lib64", "/usr/lib/wsl/lib")


def place(folder: str) -> Path:
    """Return a folder that a user named, seen from where they are."""
    return (Path(os.environ.get("HOTHOUSE_CWD", ".")) / folder).resolve()


def pack(image: str, folder: str) -> None:
    """Write an image's tree, manifest and configuration into a new folder.

    :raises Problem: no such image, no room, or a folder that is not empty.
    """
    target, whole = place(folder), False
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Problem(f"{target} is no empty folder", "name a new folder")
    print(f"reading the digests of {image} …", file=sys.stderr, flush=True)
    try:
        with oci.open_image(image) as it:
            (target / "tree").mkdir(parents=True)
            for name, key in (("manifest.json", it.digest), ("config.json", it.config_digest)):
                (target / name).write_bytes(oci.whole(it.place, key))
        unpack(image, target / "tree")
        whole = True
    except OSError as error:
        raise Problem(f"{target} can't be written: {error.strerror}",
                      "name a folder on a disk with room") from None
    finally:
        if not whole:  # what is left would keep the same command from working
            shutil.rmtree(target, ignore_errors=True)
    print(f"Next: copy {target} and this checkout to the GPU host; there: "
          f"scripts/inv evidence --tree {target}")


def unpack(image: str, tree: Path) -> None:
    """Write the file tree of an image, without its devices, owners and special bits.

    :raises Problem: the engine does not give it.
    """
    made = subprocess.run(["docker", "create", image], capture_output=True, text=True, check=False)
    if made.returncode:
        raise Problem(f"the engine has no image {image}", evidence.NO_IMAGE)
    name, count = made.stdout.strip(), 0
    try:
        with subprocess.Popen(["docker", "export", name], stdout=subprocess.PIPE) as process, \
                tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.name.split("/")[0] in ("dev", "proc", "sys"):
                    continue
                archive.extract(member, tree, filter="tar", set_attrs=not member.isdir())
                count += 1
                if count % 5000 == 0:
                    print(f"unpacking … {count} files", file=sys.stderr, flush=True)
    except (tarfile.ReadError, tarfile.FilterError) as error:
        raise Problem(f"the tree of {image} can't be unpacked: {error}", "run it again") from None
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def driver_libraries() -> list[Path]:
    """Return the driver's libraries of this host; all from the folder that has libcuda.so.1.

    :raises Problem: there is none.
    """
    known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False)
    named = re.findall(r"libcuda\.so\.1 .*x86-64.* => (\S+)", known.stdout)
    paths = [*os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep), *PLACES]
    folders = [*(Path(name).parent for name in named), *(Path(path) for path in paths if path)]
    for folder in folders:
        if (folder / "libcuda.so.1").exists():
            return sorted(p for p in folder.iterdir() if DRIVER.fullmatch(p.name))
    raise Problem("this host has no driver library libcuda.so.1",
                  "install NVIDIA's driver, or run this on a host with a GPU")


def check(folder: Path, image: str) -> dict:
    """See that a folder is what :func:`pack` writes.

    :returns: what a record says of the image.
    :raises Problem: it is not, or is not whole.
    """
    for needed in ("manifest.json", "config.json", f"tree/{LINKER}", f"tree/{PYTHON}",
                   f"tree/{SITE}/tensorflow"):
        if not (folder / needed).exists():
            raise Problem(f"{folder} holds no unpacked image: {needed} is missing",
                          "make it where there is an engine: scripts/inv evidence --pack FOLDER")
    manifest, config = ((folder / f"{name}.json").read_bytes() for name in ("manifest", "config"))
    digests = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (manifest, config)]
    labels: dict[str, str] = {}
    try:
        belongs = json.loads(manifest)["config"]["digest"] == digests[1]
        labels = json.loads(config)["config"]["Labels"]
    except (ValueError, KeyError, TypeError):
        belongs = False
    if not belongs:
        raise Problem(f"{folder}/config.json is not the configuration that manifest.json names",
                      "make the folder anew: scripts/inv evidence --pack FOLDER")
    return {"name": image, "manifest": digests[0], "config": digests[1],
            **evidence.source(labels, image)}


def write_python(tree: Path, folder: Path, drivers: list[Path]) -> Path:
    """Write a program that is the tree's Python on this host; its path.

    :param folder: where it goes, beside links to the driver's libraries.
    """
    links = folder / "driver"
    links.mkdir()
    for library in drivers:
        (links / library.name).symlink_to(library)
    # The tree's own first; prune.toml links the CUDA libraries into usr/lib.
    paths = f"{tree / LIBRARIES}:{tree / 'usr/lib'}:{links}"
    program = folder / "python"
    # Started by its own path, so that Python starts its children by it, too.
    program.write_text("\n".join([
        "#!/bin/sh",
        f"PYTHONHOME={shlex.quote(str(tree / 'usr'))} exec {shlex.quote(str(tree / LINKER))} \\",
        f"    --argv0 {shlex.quote(str(program))} \\",
        f"    --library-path {shlex.quote(paths)} \\",
        f"    {shlex.quote(str((tree / PYTHON).resolve()))} \"$@\"",
        "",
    ]))
    program.chmod(0o755)
    return program


def count_gpus(python: Path) -> int:
    """Return how many GPUs the driver shows.

    :raises Problem: none.
    """
    code = "import gpus; print(gpus.driver()[1], gpus.driver_device_count())"
    path = str(TESTS / "inside" / "helpers")
    done = subprocess.run([str(python), "-B", "-c", code], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": path})
    words = done.stdout.split()
    if done.returncode or len(words) != 2:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise Problem(f"the tree's Python does not start here: {last}",
                      "unpack the image anew, on a file system without noexec")
    if words[1] == "0":
        raise Problem(f"the driver shows no GPU (cuInit answers {words[0]})",
                      "see nvidia-smi, and unset CUDA_VISIBLE_DEVICES")
    return int(words[1])


def run(folder: str, image: str, gpu: str) -> dict:
    """Run the tests; what a record says of them.

    :param folder: see :func:`pack`.
    :param gpu: ``all``, or indices with commas between them.
    :raises Problem: no GPU, no tree, or no record.
    """
    known = check(place(folder), image)
    tree, kind = place(folder) / "tree", known["kind"]
    drivers, revision = driver_libraries(), evidence.checkout()
    suite.make_environment()
    with tempfile.TemporaryDirectory(prefix="hothouse-evidence-") as name:
        work = Path(name)
        python = write_python(tree, work, drivers)
        if gpu != "all":
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        count = count_gpus(python)
        if gpu != "all" and count != len(gpu.split(",")):
            raise Problem(f"the driver shows {count} of the GPUs {gpu}",
                          "nvidia-smi -L lists the GPUs; name those with --gpu")
        (work / "locks").mkdir()
        for part, path in zip(suite.CHAIN, locks.ALL, strict=True):
            shutil.copy(path, work / "locks" / f"{part}.lock")
        parts = suite.CHAIN[1: suite.CHAIN.index(kind) + 1]
        command = [str(python), "-B", "-m", "pytest", f"--record={evidence.LAST}",
                   *(f"--ignore={name}" for name in LEFT_OUT), *parts, "gpu"]
        variables = {**evidence.environment(kind, count, str(work / "locks")),
                     "PYTHONPATH": str(suite.INSIDE), "PYTHONNOUSERSITE": "1"}
        evidence.LAST.unlink(missing_ok=True)
        print(f"\n+ {' '.join(command)}", file=sys.stderr, flush=True)
        subprocess.run(command, cwd=TESTS / "inside", env={**os.environ, **variables}, check=False)
        program = str(tree / "usr/local/bin" / evidence.DOCTOR[0])
        doctor = evidence.ask_doctor([str(python), "-B", program, *evidence.DOCTOR[1:]])
        seen = evidence.recorded()
    return {"how": "tree", "suite": revision, "image": known, "asked": count, **seen,
            "doctor": doctor}
