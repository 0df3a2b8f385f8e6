/* A stand-in for the driver's libcuda.so.1. It computes nothing: it tests how the doctor reads a
   machine and never counts as evidence that a GPU works.

   STANDIN_GPUS    "NAME|MAJOR.MINOR;NAME|MAJOR.MINOR", none by default
   STANDIN_CUINIT  what cuInit returns, or "crash" or "hang"
   STANDIN_CONTEXT what starting a context returns
   STANDIN_CUDA    what cuDriverGetVersion says, 12040 (CUDA 12.4) by default
   CUDA_VISIBLE_DEVICES is followed as the real one does, for indexes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 8
static char names[MOST][128];
static int majors[MOST], minors[MOST], seen[MOST], count, total;

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

static void read_gpus(void) {
    char text[1024], *save = NULL;
    snprintf(text, sizeof text, "%s", getenv("STANDIN_GPUS") ? getenv("STANDIN_GPUS") : "");
    for (char *p = strtok_r(text, ";", &save); p && total < MOST; p = strtok_r(NULL, ";", &save))
        if (sscanf(p, "%127[^|]|%d.%d", names[total], &majors[total], &minors[total]) == 3)
            total++;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!visible) {
        for (; count < total; count++)
            seen[count] = count;
        return;
    }
    snprintf(text, sizeof text, "%s", visible);
    for (char *p = strtok_r(text, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        char *end;
        long index = strtol(p, &end, 10);
        if (end == p || *end || index < 0 || index >= total)
            return; /* the rest is not seen */
        for (int i = 0; i < count; i++)
            if (seen[i] == index) {
                count = 0;
                return;
            }
        seen[count++] = index;
    }
}

int cuInit(unsigned flags) {
    const char *text = getenv("STANDIN_CUINIT");
    (void)flags;
    if (text && !strcmp(text, "crash"))
        abort();
    if (text && !strcmp(text, "hang"))
        for (;;)
            pause();
    read_gpus();
    int code = number("STANDIN_CUINIT", 0);
    return code ? code : count ? 0 : 100;
}

int cuDriverGetVersion(int *version) { *version = number("STANDIN_CUDA", 12040); return 0; }
int cuDeviceGetCount(int *n) { *n = count; return 0; }
int cuDeviceGet(int *device, int index) { *device = seen[index]; return 0; }

int cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, size, "%s", names[device]);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? majors[device] : minors[device];
    return 0;
}

int cuDeviceTotalMem_v2(size_t *size, int device) {
    (void)device;
    *size = (size_t)40 << 30;
    return 0;
}

int cuDeviceGetUuid(unsigned char *uuid, int device) {
    memset(uuid, device, 16);
    return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = &names[device];
    return number("STANDIN_CONTEXT", 0);
}

int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return 0; }
int cuCtxPushCurrent_v2(void *context) { (void)context; return 0; }

int cuMemGetInfo_v2(size_t *unused, size_t *size) {
    *unused = *size = (size_t)40 << 30;
    return 0;
}
