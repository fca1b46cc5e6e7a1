/* Stands in for libnvidia-ml.so.1: a card whose readings are in the file that NVML_STUB names.

   Each line is a name and a number; a name that is not there is a sensor that the card has not.
   `init` is what nvmlInit returns. Of `count` cards all read the same, but for their UUIDs, and
   the memory of those behind the first where `other_memory_used` is there; the one at the index `lost`
   has fallen off the bus. Structures and numbers are those of NVIDIA's nvml.h. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *Device;
enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPU_IS_LOST = 15 };

static int reading(const char *name, double *value) {
    char line[200], known[100];
    FILE *file = fopen(getenv("NVML_STUB"), "r");
    int found = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%99s %lf", known, value) == 2 && !strcmp(known, name)) { found = 1; break; }
    if (file) fclose(file);
    return found;
}

static int number(const char *name, unsigned int *out) {
    double value;
    if (!reading(name, &value)) return NOT_SUPPORTED;
    *out = (unsigned int)value;
    return SUCCESS;
}

static int text(char *out, const char *value) { strcpy(out, value); return SUCCESS; }

int nvmlInitWithFlags(unsigned int flags) { unsigned int code = 0; number("init", &code); return (int)code; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == NOT_FOUND ? "Not Found" : "an error"; }
int nvmlSystemGetDriverVersion(char *out, unsigned int size) {
    unsigned int branch = 580;
    number("driver", &branch);
    snprintf(out, size, "%u.159.04", branch);
    return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return number("cuda", (unsigned int *)version); }
int nvmlDeviceGetCount_v2(unsigned int *count) {
    unsigned int uncounted;
    if (!number("uncounted", &uncounted)) return (int)uncounted;
    if (number("count", count)) *count = 1;
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device *device) {
    unsigned int lost;
    *device = (Device)(size_t)(index + 1);
    return !number("lost", &lost) && lost == index ? GPU_IS_LOST : SUCCESS;
}
int nvmlDeviceGetUUID(Device device, char *out, unsigned int size) {
    snprintf(out, size, "GPU-00000000-0000-0000-0000-%012zu", (size_t)device);
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *asked, Device *device) {
    unsigned int gone = 0, count;
    char uuid[80];
    number("gone", &gone);
    nvmlDeviceGetCount_v2(&count);
    for (unsigned int index = 0; !gone && index < count; index++) {
        int code = nvmlDeviceGetHandleByIndex_v2(index, device);
        nvmlDeviceGetUUID(*device, uuid, sizeof uuid);
        if (!strcmp(asked, uuid)) return code;
    }
    return NOT_FOUND;
}
int nvmlDeviceGetIndex(Device device, unsigned int *index) { *index = (unsigned int)(size_t)device - 1; return SUCCESS; }
int nvmlDeviceGetName(Device device, char *out, unsigned int size) { return text(out, "NVIDIA A10"); }
int nvmlDeviceGetMemoryInfo(Device device, unsigned long long *total_free_used) {
    double used;
    int others = device != (Device)1 && reading("other_memory_used", &used);
    if (!others && !reading("memory_used", &used)) return NOT_SUPPORTED;
    total_free_used[0] = 24000000000ULL;
    total_free_used[2] = (unsigned long long)used;
    total_free_used[1] = total_free_used[0] - total_free_used[2];
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(Device device, unsigned int *mw) { return number("milliwatts", mw); }
int nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned int *mw) { return number("limit_milliwatts", mw); }
int nvmlDeviceGetUtilizationRates(Device device, unsigned int *gpu_memory) {
    gpu_memory[1] = 0;
    return number("utilization", gpu_memory);
}
int nvmlDeviceGetClockInfo(Device device, int kind, unsigned int *mhz) { return number("mhz", mhz); }
int nvmlDeviceGetMaxClockInfo(Device device, int kind, unsigned int *mhz) { return number("most_mhz", mhz); }
int nvmlDeviceGetTemperature(Device device, int kind, unsigned int *celsius) { return number("celsius", celsius); }
int nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long *reasons) {
    unsigned int bits;
    int code = number("reasons", &bits);
    *reasons = bits;
    return code;
}

typedef struct { unsigned int pid; unsigned long long memory; unsigned int instance, compute; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned int *count, Process *processes) {
    unsigned int pid;
    if (number("pid", &pid)) { *count = 0; return SUCCESS; }
    if (*count < 1) { *count = 1; return 7; } /* too small */
    *count = 1;
    processes[0] = (Process){pid, 1000000000ULL, ~0u, ~0u};
    return SUCCESS;
}
