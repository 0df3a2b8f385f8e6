"""Is there a GPU that works, and if not, why: without TensorFlow, in a fraction of a second."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from hothouse import findings, installed, nvidia, probes
from hothouse.machine import NODES, Machine

#: Values of NVIDIA_VISIBLE_DEVICES that give no GPU. CDI sets `void` although it gives one.
NONE_GIVEN = ("", "none", "void")
#: Seconds. A driver may take two for each of eight GPUs; the notebook ends its wait after 60.
QUICK_LIMIT = 45.0
MISSING = "cannot open shared object file: No such file"


@dataclass
class Facts:
    """What was read of the machine. ``cuda`` and ``nvml`` are probe.py's answers."""

    machine: Machine
    variant: str
    cuda_major: int
    built: list[str]
    cuda: dict
    nvml: dict
    nodes: list[str] = field(default_factory=list)
    denied: dict[str, OSError] = field(default_factory=dict)
    unhidden: int = 0  # GPUs that CUDA sees without CUDA_VISIBLE_DEVICES
    built_cuda: int = 0  # the CUDA of TensorFlow's build, as cuDriverGetVersion counts

    @property
    def driver(self) -> str:
        """The driver's version, "" where it is not known."""
        kernel = nvidia.driver_of_kernel(self.machine.read("/proc/driver/nvidia/version"))
        return self.nvml.get("driver") or kernel

    @property
    def devices(self) -> list[dict]:
        """The GPUs that CUDA sees."""
        return self.cuda.get("devices", [])

    @property
    def floor(self) -> str:
        """The oldest driver for this image's CUDA."""
        floors = nvidia.DRIVER_FLOORS
        return nvidia.show(floors.get(self.cuda_major) or floors[max(floors)])


@dataclass(frozen=True)
class Verdict:
    """Whether a GPU can be used; ``key`` and ``values`` are a finding where not.

    ``state`` is ``works``, ``none`` (nothing is wrong: there is none, or the CPU image),
    ``hidden`` (on purpose) or ``broken``.
    """

    state: str
    key: str = ""
    values: dict = field(default_factory=dict)


def look(machine: Machine, context: bool = False, limit: float = probes.LIMIT) -> Facts:
    """Read the machine and ask the driver, both parts of it at once.

    :param context: also start a CUDA context on each GPU, which takes some 0.3 s for each.
    :param limit: seconds that the driver may take in all.
    """
    environ = machine.environ
    cuda = probes.Probe("cuda", *(["context"] if context else []), environ=environ)
    nvml = probes.Probe("nvml", environ=environ)
    facts = Facts(
        machine, installed.variant(), installed.cuda_major(), installed.capabilities(), {}, {},
        built_cuda=installed.built_cuda(),
    )
    facts.nodes = machine.gpu_nodes()
    for node in facts.nodes + [f"/dev/{name}" for name in NODES]:
        if machine.has(node) and (error := machine.open_error(node)):
            facts.denied[node] = error
    facts.cuda, facts.nvml = cuda.answer(limit), nvml.answer(limit)
    if facts.cuda.get("loads") and not facts.devices and environ.get("CUDA_VISIBLE_DEVICES"):
        without = {k: v for k, v in environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        again, rest = probes.Probe("cuda", environ=without), limit - cuda.age()
        facts.unhidden = len(again.answer(max(5.0, rest)).get("devices", []))
    return facts


def asked(facts: Facts) -> str:
    """Return the sign that somebody wanted a GPU in this container, "" where there is none."""
    given = facts.machine.environ.get("NVIDIA_VISIBLE_DEVICES", "")
    if facts.nodes:
        return f"{facts.nodes[0]} is here"
    if given not in NONE_GIVEN and facts.variant == installed.CPU:
        return f"NVIDIA_VISIBLE_DEVICES={given}"
    if facts.cuda.get("loads") or facts.nvml.get("loads"):
        return "the driver's libraries are here"
    return ""


def broken(key: str, **values: object) -> Verdict:
    """Make the verdict of a finding."""
    return Verdict("broken", key, values)


def judge(facts: Facts, expected: bool = False) -> Verdict:
    """Find the one cause that keeps a GPU from being used, the deepest first.

    :param expected: somebody said that a GPU must be there.
    """
    if not facts.variant:
        return broken("no-tensorflow")
    if facts.variant == installed.CPU:
        sign = asked(facts) or ("--expect-gpu" if expected else "")
        return broken("cpu-image", sign=sign) if sign else Verdict("none")
    if facts.nvml.get("code") == nvidia.NVML_MISMATCH or facts.cuda.get("code") == 803:
        return broken("driver-mismatch")
    if facts.driver and nvidia.below_floor(facts.driver, facts.cuda_major):
        return broken("driver-old", driver=facts.driver, cuda=facts.cuda_major, floor=facts.floor)
    if facts.cuda.get("wrong"):
        return broken("libcuda-hangs", message=facts.cuda["wrong"])
    if not facts.cuda.get("loads"):
        return without_libcuda(facts)
    if facts.cuda.get("code") or not facts.devices:
        return without_devices(facts)
    usable = [device for device in facts.devices if not device_problem(facts, device)]
    if usable:
        return Verdict("works")
    key, values = device_problem(facts, facts.devices[0])
    return broken(key, **values)


def hidden_by_toolkit(facts: Facts) -> Verdict | None:
    """Whether NVIDIA_VISIBLE_DEVICES says that no GPU is wanted, and none is here."""
    value = facts.machine.environ.get("NVIDIA_VISIBLE_DEVICES")
    if value in NONE_GIVEN and not facts.nodes:
        return Verdict("hidden", "hidden", {"variable": "NVIDIA_VISIBLE_DEVICES", "value": value})
    return None


def without_libcuda(facts: Facts) -> Verdict:
    """Say why libcuda.so.1 does not load."""
    message = facts.cuda.get("error", "no answer")
    if MISSING not in message or not message.startswith("libcuda.so.1"):
        return broken("libcuda-broken", message=message)
    if facts.nvml.get("loads"):
        wanted = facts.machine.environ.get("NVIDIA_DRIVER_CAPABILITIES", "")
        words = {word.strip() for word in wanted.split(",")}
        return broken("libcuda-missing" if words & {"compute", "all"} else "no-compute")
    if facts.nodes or facts.machine.has("/dev/dxg"):
        return broken("toolkit-missing")
    if facts.driver:
        return hidden_by_toolkit(facts) or broken("not-given", driver=facts.driver)
    return Verdict("none", "no-gpu", {"floor": facts.floor})


def without_devices(facts: Facts) -> Verdict:
    """Say why libcuda loads and gives no GPU."""
    code = facts.cuda.get("code", 0)
    if verdict := visibility(facts) or nodes(facts) or mig(facts):
        return verdict
    key = nvidia.CU_FINDINGS.get(code or 100, "cuda-other")
    if key == "device-busy":
        return broken(key, index=0, name="0", code=nvidia.cu_name(code))
    return broken(key, code=nvidia.cu_name(code or 100))


def visibility(facts: Facts) -> Verdict | None:
    """Judge CUDA_VISIBLE_DEVICES where CUDA sees no GPU."""
    value = facts.machine.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    if not value.strip() or value.strip() == "NoDevFiles":
        return Verdict("hidden", "hidden", {"variable": "CUDA_VISIBLE_DEVICES", "value": value})
    words = nvidia.visible_words(value)
    word, kind = words[0]
    if kind == "hide":
        return Verdict("hidden", "hidden", {"variable": "CUDA_VISIBLE_DEVICES", "value": value})
    if kind == "nonsense":
        return broken("visible-nonsense", value=value, word=word)
    count = facts.unhidden
    if not count:
        return None  # the variable is not to blame
    names = [name for name, _ in words]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice and (kind != "index" or int(word) < count):
        return broken("visible-twice", value=value, word=twice)
    return broken("visible-absent", **absent(value, word, count))


def absent(value: str, word: str, count: int) -> dict:
    """Return the values of the finding that a GPU is named and not there."""
    indexes = ", ".join(str(number) for number in range(count))
    return {"value": value, "word": word, "count": count, "choice": indexes}


def nodes(facts: Facts) -> Verdict | None:
    """Judge the device nodes where CUDA sees no GPU."""
    machine = facts.machine
    for node, error in facts.denied.items():
        info = os.stat(machine.path(node))
        if error.errno == errno.EPERM:
            return broken("node-cgroup", node=node)
        if error.errno == errno.EACCES:
            return broken("node-mode", node=node, uid=os.getuid(), gid=info.st_gid,
                          mode=f"{stat.S_IMODE(info.st_mode):04o}",
                          owner=f"{info.st_uid}:{info.st_gid}")
        return broken("node-other", node=node, message=error.strerror)
    if machine.has("/dev/dxg"):
        return None  # WSL2 has this one node for all
    if not facts.nodes:
        return broken("node-missing", node="/dev/nvidia0")
    missing = [f"/dev/{name}" for name in NODES if not machine.has(f"/dev/{name}")]
    return broken("node-missing", node=missing[0]) if missing else None


def mig(facts: Facts) -> Verdict | None:
    """Whether a GPU is cut into slices and none of them was given."""
    sliced = [device for device in facts.nvml.get("devices", []) if device.get("mig")]
    if sliced and not any(device.get("slices") for device in sliced):
        return broken("mig-no-slice")
    return None


def device_problem(facts: Facts, device: dict) -> tuple[str, dict] | None:
    """Return the finding that keeps one GPU from being used, or None."""
    code = device.get("code", 0)
    name = device.get("name") or device["index"]
    if code:
        key = {2: "device-memory", 46: "device-busy"}.get(code, "device-context")
        return key, {"index": device["index"], "name": name, "code": nvidia.cu_name(code)}
    capability = tuple(device["capability"])
    values = {"index": device["index"], "name": name, "capability": "{}.{}".format(*capability)}
    covered = nvidia.coverage(capability, facts.built)
    if covered == "old":
        first = facts.built[0].partition("_")[2]
        return "capability-old", {**values, "first": f"{first[:-1]}.{first[-1]}"}
    newest = facts.cuda.get("cuda", 0)
    if covered in ("mixed", "ptx") and 0 < newest < facts.built_cuda:
        floor = nvidia.PTX_FLOORS.get(facts.built_cuda)
        built = nvidia.show_cuda(facts.built_cuda)
        return "driver-ptx", {
            **values, "driver": facts.driver or "on the host", "cuda": nvidia.show_cuda(newest),
            "built": built, "floor": nvidia.show(floor) if floor else f"the one of CUDA {built}",
        }
    return None


def line(facts: Facts, verdict: Verdict) -> dict:
    """Return the answer in one line, for a start's log and the Lab.

    :returns: ``ok``, ``line``, ``cause``, ``fix`` and ``key``; the last three are "" where all is
        well. ``ok`` is also true in the CPU image of which nobody asked a GPU.
    """
    if verdict.state == "works":
        device = next(d for d in facts.devices if not device_problem(facts, d))
        more = f" and {len(facts.devices) - 1} more" if len(facts.devices) > 1 else ""
        said = (f"GPU: {device['name']}{more}, driver {facts.driver or 'not known'}, "
                "compute capability {}.{}".format(*device["capability"]))
        return {"ok": True, "line": said, "cause": "", "fix": "", "key": ""}
    if not verdict.key:
        said = "no GPU is used: this is the CPU image"
        return {"ok": True, "line": said, "cause": "", "fix": "", "key": ""}
    row = findings.row(verdict.key, "", **verdict.values)
    return {"ok": False, "line": f"no GPU: {row.cause}. Fix: {row.fix}", "cause": row.cause,
            "fix": row.fix, "key": verdict.key}


def quick(limit: float = QUICK_LIMIT) -> dict:
    """Look at this machine and return :func:`line`.

    :param limit: seconds that the driver may take.
    """
    facts = look(Machine(), limit=limit)
    return line(facts, judge(facts))
