/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bench.h"
#include "common/base/file.h"

#define MAX_BYTES (UINT64_C(1) << 30)

int data_load(struct data *data, const char *path)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    const char *why = "";

    *data = (struct data){ 0 };
    if (!path)
        return BENCH_OK;
    if (file_read(path, MAX_BYTES, &bytes))
        return bench_say(BENCH_FAILED, "--data: %s cannot be read", path);
    if (replay_decode(buf_span(&bytes), &data->replay, &why))
        return bench_say(BENCH_FAILED, "--data: %s: %s", path, why);
    return tracks_init(&data->tracks, &data->replay) < 0 ? BENCH_FAILED : BENCH_OK;
}

void data_deinit(struct data *data)
{
    tracks_deinit(&data->tracks);
    replay_deinit(&data->replay);
}
