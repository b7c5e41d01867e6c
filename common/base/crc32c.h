#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * CRC32C (Castagnoli, RFC 3720 appendix B.4): reflected polynomial 0x82f63b78, initial value and
 * final xor all ones. crc32c("123456789") is 0xe3069283. Uses SSE4.2 or ARMv8 CRC where the machine
 * has them; the portable twin is crc32c_portable(), and a test holds one against the other.
 */

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc`, the result of an earlier call; 0 to begin. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);
