/* Targets: identity_enrolment_parse.
 * SPDX-License-Identifier: Apache-2.0 */

/* What is taken prints as it was, without the space around it; what is refused says why. */

#include <string.h>

#include "common/base/ensure.h"
#include "common/identity/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct identity_enrolment enrolment;
    struct identity_why why = { "" };
    struct buf printed = { 0 };

    if (identity_enrolment_parse(span_of(data, len), &enrolment, &why) != 0) {
        ensure(why.text[0] && strnlen(why.text, sizeof(why.text)) < sizeof(why.text));
        return 0;
    }
    ensure(identity_hub_is_good(enrolment.hub));
    identity_enrolment_print(&enrolment, &printed);
    ensure(memmem(data, len, printed.data, printed.len));
    buf_deinit(&printed);
    return 0;
}
