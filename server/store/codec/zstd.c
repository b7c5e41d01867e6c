/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <zstd.h>

#include "server/store/codec/form.h"

#define LEVEL 9

bool zstd_encode(struct codec_work *work,
                 const double *values,
                 size_t n,
                 size_t limit,
                 struct buf *out)
{
    size_t start = out->len, len;
    uint8_t *planes, *to;

    if (!work->zstd)
        work->zstd = ZSTD_createCCtx();
    buf_clear(&work->other);
    planes = buf_extend(&work->other, n * sizeof(double));
    to = buf_extend(out, limit);
    if (!work->zstd || !planes || !to)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;

        memcpy(&bits, &values[i], sizeof(bits));
        for (size_t plane = 0; plane < sizeof(bits); plane++)
            planes[plane * n + i] = (uint8_t) (bits >> 8 * plane);
    }
    len = ZSTD_compressCCtx(work->zstd, to, limit, planes, n * sizeof(double), LEVEL);
    out->len = ZSTD_isError(len) ? start : start + len;
    return !ZSTD_isError(len);
}

bool zstd_decode(struct span bytes, size_t n, double *ret)
{
    size_t len = n * sizeof(double);
    uint8_t *planes = malloc(len);
    bool is_good = planes && ZSTD_decompress(planes, len, bytes.data, bytes.len) == len;

    for (size_t i = 0; is_good && i < n; i++) {
        uint64_t bits = 0;

        for (size_t plane = 0; plane < sizeof(bits); plane++)
            bits |= (uint64_t) planes[plane * n + i] << 8 * plane;
        memcpy(&ret[i], &bits, sizeof(bits));
    }
    free(planes);
    return is_good;
}
