#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What this process takes of the machine, as the kernel counts it. Thread: any. */

#include <stdint.h>

/* 0 where the kernel does not say. */
uint64_t usage_resident_bytes(void);
/* In user and system mode, all threads. */
int64_t usage_cpu_us(void);
