/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/nvme_log.h"

#include <stdint.h>

enum {
    WARNINGS = 0,
    TEMPERATURE = 1,
    SPARE = 3,
    SPARE_THRESHOLD = 4,
    USED = 5,
    UNITS_READ = 32,
    UNITS_WRITTEN = 48,
    POWER_CYCLES = 112,
    POWER_ON_HOURS = 128,
    UNSAFE_SHUTDOWNS = 144,
    MEDIA_ERRORS = 160,
};

#define WIDE_BYTES 16
#define UNIT_BYTES (1000.0 * 512)
#define ZERO_CELSIUS 273 /* K, as drives and tools have it: whole degrees */

const char *const nvme_warning_names[NVME_N_WARNINGS] = {
    "spare", "temperature", "reliability", "read_only", "volatile_backup", "persistent_memory",
};

static double wide(struct span page, size_t at)
{
    double value = 0;

    for (size_t i = WIDE_BYTES; i-- > 0;)
        value = value * 256 + page.data[at + i];
    return value;
}

static bool is_zero(struct span page)
{
    for (size_t i = 0; i < page.len; i++)
        if (page.data[i])
            return false;
    return true;
}

bool nvme_health_decode(struct span page, struct nvme_health *ret)
{
    unsigned kelvin;

    if (page.len != NVME_LOG_BYTES || is_zero(page))
        return false;
    kelvin = page.data[TEMPERATURE] | (unsigned) page.data[TEMPERATURE + 1] << 8;
    *ret = (struct nvme_health){
        .temperature_celsius = (double) kelvin - ZERO_CELSIUS,
        .has_temperature = kelvin != 0,
        .spare = page.data[SPARE] / 100.0,
        .spare_threshold = page.data[SPARE_THRESHOLD] / 100.0,
        .used = page.data[USED] / 100.0,
        .read_bytes = wide(page, UNITS_READ) * UNIT_BYTES,
        .written_bytes = wide(page, UNITS_WRITTEN) * UNIT_BYTES,
        .power_cycles = wide(page, POWER_CYCLES),
        .power_on_s = wide(page, POWER_ON_HOURS) * 3600,
        .unsafe_shutdowns = wide(page, UNSAFE_SHUTDOWNS),
        .media_errors = wide(page, MEDIA_ERRORS),
    };
    for (size_t i = 0; i < NVME_N_WARNINGS; i++)
        ret->warnings[i] = page.data[WARNINGS] >> i & 1;
    return true;
}
