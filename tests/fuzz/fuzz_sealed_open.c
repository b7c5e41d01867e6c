/* Targets: sealed_open, sealed_key_parse. SPDX-License-Identifier: Apache-2.0 */

/*
 * The bytes are a sealed file, and a key. Whatever opens under the key of zeros is what sealing the
 * same again would close; nothing is written to the answer otherwise.
 */

#include "common/base/ensure.h"
#include "server/pki/sealed/sealed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct sealed_key zeros = { .is_there = true };
    const struct sealed_key none = { .is_there = false };
    CLEANUP(buf_deinit) struct buf secret = { 0 }, again = { 0 }, copy = { 0 };
    struct sealed_key parsed = { .is_there = false };

    int r = sealed_open(&zeros, "agents-ca", span_of(data, len), &secret);
    ensure(r >= 0);
    ensure(r == 0 || secret.len == 0);
    if (r == 0) {
        ensure(sealed_is(span_of(data, len)));
        ensure(sealed_open(&none, "agents-ca", span_of(data, len), &copy) == SEALED_OTHER_KEY);
        ensure(sealed_open(&zeros, "hubs-ca", span_of(data, len), &copy) == SEALED_CHANGED);
        sealed_close(&zeros, "agents-ca", buf_span(&secret), &again);
        ensure(sealed_open(&zeros, "agents-ca", buf_span(&again), &copy) == 0);
        ensure(span_equal(buf_span(&copy), buf_span(&secret)));
    }
    ensure(sealed_key_parse(span_of(data, len), &parsed) >= 0);
    ensure(parsed.is_there || len != SEALED_KEY_BYTES);
    return 0;
}
