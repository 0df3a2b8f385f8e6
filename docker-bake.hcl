# The index of what can be built. `scripts/inv build` sets the variables, checks and lays out the
# packages (.artifacts/context) and then calls `docker buildx bake` with this file.

variable "SOURCE_DATE_EPOCH" { default = "0" }
variable "REVISION" { default = "unknown" }
variable "DRIFTED" { default = "false" }
variable "BUILDER" { default = "unknown" }
variable "LOCK_BASE" { default = "unknown" }
variable "LOCK_TENSORFLOW" { default = "unknown" }
variable "LOCK_JUPYTER" { default = "unknown" }

group "default" { targets = ["cpu"] }
group "all" { targets = ["cpu", "cuda"] }
group "cpu" { targets = ["base", "tensorflow-cpu", "jupyter-cpu"] }
group "cuda" { targets = ["base", "tensorflow-cuda", "jupyter-cuda"] }

target "_image" {
  args   = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  attest = ["type=provenance,disabled=true", "type=sbom,disabled=true"]
  # Level 7 gives 222 MB of TensorFlow in 13 s, level 9 gives 207 MB in 55 s, level 3 gives
  # 237 MB in 9 s (two cores, BuildKit 0.13). More in docs/architecture.md.
  output = ["type=image,oci-mediatypes=true,compression=zstd,compression-level=7,force-compression=true"]
  # With these an image can be rebuilt from itself alone.
  labels = {
    "org.opencontainers.image.revision" = REVISION
    "org.opencontainers.image.vendor"   = "Hothouse"
    "io.hothouse.builder"               = BUILDER
    "io.hothouse.drifted"               = DRIFTED
    "io.hothouse.epoch"                 = SOURCE_DATE_EPOCH
  }
}

# Where layers are made. Not an image of ours, only a stage that the others share.
target "_builder" {
  # ADD unpacks a tar from the main context alone, so that is the packages' folder.
  context    = ".artifacts/context/base"
  contexts   = { scripts = "images/builder" }
  dockerfile = "../../../images/builder/Dockerfile"
  output     = ["type=cacheonly"]
}

target "base" {
  inherits = ["_image"]
  context  = "images/base"
  labels = {
    "org.opencontainers.image.title" = "hothouse/base"
    "io.hothouse.lock"               = LOCK_BASE
  }
  contexts = { builder = "target:_builder", packages = ".artifacts/context/base" }
  tags     = ["hothouse/base:latest"]
}

target "_tensorflow" {
  inherits = ["_image"]
  context  = "images/tensorflow"
  labels = {
    "org.opencontainers.image.title" = "hothouse/tensorflow"
    "io.hothouse.lock"               = LOCK_TENSORFLOW
  }
  contexts = {
    base    = "target:base"
    builder = "target:_builder"
    pip     = ".artifacts/context/pip"
  }
}

target "tensorflow-cpu" {
  inherits = ["_tensorflow"]
  args     = { ACCELERATOR = "cpu" }
  contexts = { wheels = ".artifacts/context/tensorflow-cpu" }
  tags     = ["hothouse/tensorflow:cpu"]
}

target "tensorflow-cuda" {
  inherits = ["_tensorflow"]
  args     = { ACCELERATOR = "cuda" }
  contexts = { wheels = ".artifacts/context/tensorflow-cuda" }
  tags     = ["hothouse/tensorflow:cuda"]
}

target "_jupyter" {
  inherits = ["_image"]
  context  = "images/jupyter"
  labels = {
    "org.opencontainers.image.title" = "hothouse/jupyter"
    "io.hothouse.lock"               = LOCK_JUPYTER
  }
  contexts = { builder = "target:_builder", pip = ".artifacts/context/pip" }
}

target "jupyter-cpu" {
  inherits = ["_jupyter"]
  contexts = {
    tensorflow = "target:tensorflow-cpu"
    wheels     = ".artifacts/context/jupyter-cpu"
  }
  tags = ["hothouse/jupyter:cpu"]
}

target "jupyter-cuda" {
  inherits = ["_jupyter"]
  contexts = {
    tensorflow = "target:tensorflow-cuda"
    wheels     = ".artifacts/context/jupyter-cuda"
  }
  tags = ["hothouse/jupyter:cuda"]
}
