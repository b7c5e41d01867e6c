/* Targets: pki_check_row. SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte picks the table, the second is the length of the key; key and value follow. What a
 * row is said to be does not depend on where its bytes lie, and nothing behind them is read: each
 * is given in memory of exactly its size.
 */

#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "server/pki/pki.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint8_t *copy(const uint8_t *data, size_t len)
{
    uint8_t *to = malloc(len ? len : 1);

    ensure(to);
    if (len)
        memcpy(to, data, len);
    return to;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    const enum store_table table = (enum store_table)(1 + data[0] % (STORE_N_TABLES - 1));
    const size_t key_len = data[1] < len - 2 ? data[1] : len - 2;
    uint8_t *key = copy(data + 2, key_len);
    uint8_t *value = copy(data + 2 + key_len, len - 2 - key_len);

    const char *first =
        pki_check_row(NULL, table, span_of(key, key_len), span_of(value, len - 2 - key_len));
    const char *again = pki_check_row(NULL, table, span_of(data + 2, key_len),
                                      span_of(data + 2 + key_len, len - 2 - key_len));
    ensure(first == again || (first && again && strcmp(first, again) == 0));
    free(key);
    free(value);
    return 0;
}
