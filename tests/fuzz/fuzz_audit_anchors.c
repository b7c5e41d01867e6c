/* Targets: ops_anchors_read.
 * SPDX-License-Identifier: Apache-2.0 */

#include <stdlib.h>

#include "common/base/ensure.h"
#include "server/ops/audit_anchors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct ops_anchors anchors;
    struct ops_anchors_why why;
    uint8_t *copy = malloc(len + 1);

    ensure(copy);
    memcpy(copy, data, len);
    if (ops_anchors_read(span_of(copy, len), &anchors, &why) == 0) {
        for (size_t i = 0; i < anchors.n; i++)
            ensure(anchors.anchors[i].entry > 0 &&
                   anchors.anchors[i].n_signature <= AUDIT_SIGNATURE_BYTES);
        ops_anchors_deinit(&anchors);
    } else {
        ensure(why.text[0] != 0);
    }
    free(copy);
    return 0;
}
