/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/crc32c.h"

#include <endian.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define POLYNOMIAL 0x82f63b78u

/* table[k][b]: the state after byte b and k zero bytes, from state 0. */
static uint32_t table[8][256];

static uint32_t (*implementation)(uint32_t crc, const uint8_t *p, size_t len);

static uint32_t byte_step(uint32_t state, uint8_t byte)
{
    return table[0][(state ^ byte) & 0xff] ^ (state >> 8);
}

static uint32_t slicing_by_8(uint32_t state, const uint8_t *p, size_t len)
{
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;

        memcpy(&word, p, 8);
        word = le64toh(word) ^ state;
        state = table[7][word & 0xff] ^ table[6][(word >> 8) & 0xff] ^
                table[5][(word >> 16) & 0xff] ^ table[4][(word >> 24) & 0xff] ^
                table[3][(word >> 32) & 0xff] ^ table[2][(word >> 40) & 0xff] ^
                table[1][(word >> 48) & 0xff] ^ table[0][word >> 56];
    }
    for (; len > 0; p++, len--)
        state = byte_step(state, *p);
    return state;
}

#if defined(__x86_64__)

/*
 * The crc32 instruction takes three cycles but one can start in each: three neighbouring blocks are
 * summed at once. A sum is moved past the following block by what that many zero bytes would do to
 * it, which is linear in its bits and so is four table rows.
 */
#define LONG_BYTES_LOG2 13
#define SHORT_BYTES_LOG2 8

static uint32_t skip_long[4][256];
static uint32_t skip_short[4][256];

static uint32_t matrix_times(const uint32_t matrix[static 32], uint32_t vector)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < 32; i++)
        sum ^= matrix[i] & (0 - ((vector >> i) & 1));
    return sum;
}

static void make_skip_table(uint32_t skip[static 4][256], unsigned n_bytes_log2)
{
    uint32_t matrix[32];
    uint32_t square[32];

    for (size_t i = 0; i < 32; i++)
        matrix[i] = byte_step((uint32_t) 1 << i, 0);
    for (unsigned k = 0; k < n_bytes_log2; k++) {
        for (size_t i = 0; i < 32; i++)
            square[i] = matrix_times(matrix, matrix[i]);
        memcpy(matrix, square, sizeof(matrix));
    }
    for (size_t k = 0; k < 4; k++) {
        for (uint32_t b = 0; b < 256; b++)
            skip[k][b] = matrix_times(matrix, b << (8 * k));
    }
}

static inline uint32_t skip_block(uint32_t skip[static 4][256], uint32_t state)
{
    return skip[0][state & 0xff] ^ skip[1][(state >> 8) & 0xff] ^ skip[2][(state >> 16) & 0xff] ^
           skip[3][state >> 24];
}

static inline uint64_t load(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, 8);
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t
sse42(uint32_t state, const uint8_t *p, size_t len)
{
    for (; len > 0 && ((uintptr_t) p & 7) != 0; p++, len--)
        state = _mm_crc32_u8(state, *p);

    uint64_t a = state;

    for (unsigned log2 = LONG_BYTES_LOG2; log2 >= SHORT_BYTES_LOG2;
         log2 -= LONG_BYTES_LOG2 - SHORT_BYTES_LOG2) {
        size_t block = (size_t) 1 << log2;
        uint32_t(*skip)[256] = log2 == LONG_BYTES_LOG2 ? skip_long : skip_short;

        for (; len >= 3 * block; p += 3 * block, len -= 3 * block) {
            uint64_t b = 0;
            uint64_t c = 0;

            for (size_t i = 0; i < block; i += 8) {
                a = _mm_crc32_u64(a, load(p + i));
                b = _mm_crc32_u64(b, load(p + block + i));
                c = _mm_crc32_u64(c, load(p + 2 * block + i));
            }
            a = skip_block(skip, (uint32_t) a) ^ b;
            a = skip_block(skip, (uint32_t) a) ^ c;
        }
    }

    for (; len >= 8; p += 8, len -= 8)
        a = _mm_crc32_u64(a, load(p));
    state = (uint32_t) a;
    for (; len > 0; p++, len--)
        state = _mm_crc32_u8(state, *p);
    return state;
}

#elif defined(__aarch64__) && defined(__linux__)

/* In assembler, because gcc and clang want different headers for it when the whole file is built
 * for plain ARMv8.0. */
static uint32_t armv8(uint32_t state, const uint8_t *p, size_t len)
{
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;

        memcpy(&word, p, 8);
        word = le64toh(word);
        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(state) : "r"(word));
    }
    for (; len > 0; p++, len--)
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(state) : "r"((uint32_t) *p));
    return state;
}

#endif

/* Before main(), so that no call has to ask whether the tables are there. */
__attribute__((constructor)) static void prepare(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t state = b;

        for (int i = 0; i < 8; i++)
            state = (state >> 1) ^ (POLYNOMIAL & (0 - (state & 1)));
        table[0][b] = state;
    }
    for (size_t k = 1; k < 8; k++) {
        for (size_t b = 0; b < 256; b++)
            table[k][b] = byte_step(table[k - 1][b], 0);
    }

    implementation = slicing_by_8;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2")) {
        make_skip_table(skip_long, LONG_BYTES_LOG2);
        make_skip_table(skip_short, SHORT_BYTES_LOG2);
        implementation = sse42;
    }
#elif defined(__aarch64__) && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_CRC32)
        implementation = armv8;
#endif
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return ~implementation(~crc, data, len);
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    return ~slicing_by_8(~crc, data, len);
}
