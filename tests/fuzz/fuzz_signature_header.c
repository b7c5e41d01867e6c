/* Targets: identity_signature_parse.
 * SPDX-License-Identifier: Apache-2.0 */

/* What is taken lies in the text, and has one form: its seconds print as they were. */

#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/identity/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t mac[32];
    struct span nonce;
    int64_t seconds;
    char head[32];

    if (!identity_signature_parse(span_of(data, len), &seconds, &nonce, mac))
        return 0;
    snprintf(head, sizeof(head), "v1.%lld.", (long long) seconds);
    ensure(len > strlen(head) && memcmp(data, head, strlen(head)) == 0);
    ensure(nonce.data == data + strlen(head) && nonce.len >= 8 && nonce.len <= 64);
    ensure(strlen(head) + nonce.len + 1 + 44 == len);
    return 0;
}
