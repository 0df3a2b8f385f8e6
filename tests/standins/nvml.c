/* A stand-in for libnvidia-ml.so.1 (NVML, which nvidia-smi uses too). It knows no GPU: it tests
   how the doctor reads a machine and never counts as evidence that a GPU works.

   STANDIN_GPUS    as in cuda.c
   STANDIN_DRIVER  the driver's version, 550.54.15 by default
   STANDIN_NVML    what nvmlInit returns
   STANDIN_MIG     0: MIG is off; 1: on, without a slice; 2: on, with one slice
   CUDA_VISIBLE_DEVICES means nothing to it, as to the real one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct memory { unsigned long long total, unused, used; };
static char gpus[8][128];
static int total;
static char slice;

static const char *text(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

int nvmlInit_v2(void) {
    char copy[1024], *save = NULL;
    snprintf(copy, sizeof copy, "%s", text("STANDIN_GPUS", ""));
    for (char *p = strtok_r(copy, ";", &save); p && total < 8; p = strtok_r(NULL, ";", &save))
        sscanf(p, "%127[^|]", gpus[total++]);
    return atoi(text("STANDIN_NVML", "0"));
}

int nvmlShutdown(void) { return 0; }

const char *nvmlErrorString(int code) {
    return code == 0 ? "Success" : code == 18 ? "Driver/library version mismatch" : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *version, unsigned size) {
    snprintf(version, size, "%s", text("STANDIN_DRIVER", "550.54.15"));
    return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count) { *count = total; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **gpu) { *gpu = gpus[i]; return 0; }

int nvmlDeviceGetName(void *gpu, char *name, unsigned size) {
    snprintf(name, size, "%s", (char *)gpu);
    return 0;
}

int nvmlDeviceGetUUID(void *gpu, char *uuid, unsigned size) {
    snprintf(uuid, size, gpu == &slice ? "MIG-00000000-0000-0000-0000-000000000001"
                                       : "GPU-00000000-0000-0000-0000-000000000000");
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *gpu, struct memory *memory) {
    (void)gpu;
    memory->total = memory->unused = 40ULL << 30;
    memory->used = 0;
    return 0;
}

int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *pending) {
    (void)gpu;
    *now = *pending = atoi(text("STANDIN_MIG", "0")) > 0;
    return 0;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *gpu, unsigned index, void **part) {
    (void)gpu;
    *part = &slice;
    return index == 0 && atoi(text("STANDIN_MIG", "0")) == 2 ? 0 : 6; /* not found */
}
