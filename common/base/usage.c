/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/usage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/file.h"

uint64_t usage_resident_bytes(void)
{
    CLEANUP(buf_deinit) struct buf statm = { 0 };
    const char *second; /* the first is the address space */
    uint64_t resident = 0;

    if (file_read("/proc/self/statm", 4096, &statm) == FILE_OK) {
        second = strchr(buf_text(&statm), ' ');
        resident = second ? strtoull(second, NULL, 10) : 0;
    }
    return resident * (uint64_t) sysconf(_SC_PAGESIZE);
}

int64_t usage_cpu_us(void)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (int64_t) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}
