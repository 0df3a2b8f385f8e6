"""TensorFlow's harmless lines. Each pattern has its reason; what matches none is shown as it is."""

from __future__ import annotations

import re

#: Said by every start, whatever the machine: (pattern, why it says nothing to a user).
ALWAYS = (
    (r"All log messages before absl::InitializeLog\(\) is called", "how it logs"),
    (r"oneDNN custom operations are on", "which CPU kernels it takes"),
    (r"This TensorFlow binary is optimized to use available CPU instructions", "the same"),
    (r"^To enable the following instructions: .* rebuild TensorFlow", "the line before, continued"),
    (r"Unable to register \w+ factory: Attempting to register factory", "a library linked twice"),
    (r"computation placer already registered", "the same"),
    (r"TF-TRT Warning: Could not find TensorRT", "TensorRT is no part of TensorFlow's wheels"),
    (r"successful NUMA node read from SysFS had negative value", "the kernel tells no NUMA node"),
    (r"could not open file to read NUMA node", "the same"),
    (r"^Your kernel may have been built without NUMA support", "the line before, continued"),
    (r"Delay kernel timed out", "XLA measures a GPU that it shares less exactly"),
    (r"XLA service 0x\w+ (initialized|executing)", "that XLA has started"),
    (r"StreamExecutor \[\d+\]:", "the same"),
    (r"Compiled cluster using XLA!", "that XLA has compiled"),
    (r"Loaded (cuDNN|runtime CuDNN) (version|library)", "which cuDNN it loaded; a row says that"),
    (r"Created device /(job:|device:)", "which GPU it uses; a row says that"),
    (r"disabling MLIR crash reproducer", "a debugging aid is off"),
    (r"MLIR V1 optimization pass is not enabled", "how it compiles"),
    (r"Allocation of \d+ exceeds 10% of free system memory", "it takes the page cache for full"),
    (r"^I\d{4} ", "an informational line by its own letter"),
    (r"^\d{4}-\d\d-\d\d [\d:.]+: I ", "the same"),
    (r"^\s*$", "an empty line"),
)
#: Translated: a row of the doctor says the same with its cause and fix, or that all is well.
WITHOUT_GPU = (
    (r"failed call to cuInit", "the row libcuda says why"),
    (r"Could not find cuda drivers on your machine", "the row driver says so"),
    (r"cuda_diagnostics\.cc", "details of the two lines above"),
    (r"Skipping registering GPU devices", "the rows of the GPUs say why"),
)
PTX = ((r"TensorFlow was not built with CUDA kernel binaries compatible", "the row GPU says so"),
       (r"will be jit-compiled from PTX", "the same"))


def real(line: str, gpu: bool) -> bool:
    """Whether a line of TensorFlow's standard error is to be shown.

    :param gpu: the process was to use a GPU. Then a failed start of CUDA is no noise.
    """
    patterns = ALWAYS + (PTX if gpu else WITHOUT_GPU)
    return not any(re.search(pattern, line) for pattern, _ in patterns)
