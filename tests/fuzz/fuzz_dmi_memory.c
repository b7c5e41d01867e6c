/* Targets: dmi_next_memory.
 * SPDX-License-Identifier: Apache-2.0 */

/* Whatever the firmware says: texts lie within it, and the walk ends. */

#include "agent/inventory/table.h"
#include "common/base/ensure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(struct span text, const uint8_t *data, size_t len)
{
    ensure(text.len == 0 || (text.data >= data && text.data + text.len <= data + len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct span rest = span_of(data, len);
    struct dmi_memory memory;

    for (size_t before = rest.len; dmi_next_memory(&rest, &memory); before = rest.len) {
        ensure(rest.len < before);
        check(memory.device_locator, data, len);
        check(memory.bank_locator, data, len);
        check(memory.manufacturer, data, len);
        check(memory.serial, data, len);
        check(memory.part, data, len);
        check(memory.asset, data, len);
    }
    return 0;
}
