#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The SMART / Health Information log page of an NVMe drive (NVM Express Base Specification 1.4,
 * 5.14.1.2, log page 02h). Private to agent/collect.
 *
 *     at byte   bits   what
 *           0      8   critical warning, a bit each
 *           1     16   composite temperature, K
 *           3      8   available spare, %
 *           4      8   its threshold, %
 *           5      8   percentage used; may be over 100
 *          32    128   data units read, of 1000 x 512 bytes
 *          48    128   data units written, of 1000 x 512 bytes
 *         112    128   power cycles
 *         128    128   power on hours
 *         144    128   unsafe shutdowns
 *         160    128   media and data integrity errors
 *
 * All numbers begin with their lowest byte.
 */

#include <stdbool.h>

#include "common/base/span.h"

#define NVME_LOG_BYTES 512
#define NVME_N_WARNINGS 6

struct nvme_health {
    bool warnings[NVME_N_WARNINGS]; /* in the order of nvme_warning_names */
    double temperature_celsius;
    bool has_temperature;                /* 0 K is none */
    double spare, spare_threshold, used; /* of 1 */
    double read_bytes, written_bytes;
    double power_cycles, power_on_s;
    double unsafe_shutdowns, media_errors;
};
extern const char *const nvme_warning_names[NVME_N_WARNINGS];

/* False: it has not the length of a page, or is all zeros, which no drive is. Pure. */
bool nvme_health_decode(struct span page, struct nvme_health *ret);
