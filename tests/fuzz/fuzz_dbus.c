/* Targets: dbus_decode, dbus_units_next. SPDX-License-Identifier: Apache-2.0 */

/*
 * The bytes are what a bus sends. A message lies within them, and so do the units in it; one that
 * is whole is not whole without its last byte.
 */

#include "agent/collect/dbus.h"
#include "common/base/ensure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_inside(struct span part, struct span whole)
{
    ensure(part.len == 0 ||
           (part.data >= whole.data && part.data + part.len <= whole.data + whole.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct span bytes = span_of(data, len);
    struct dbus_message message, again;
    struct dbus_units units;
    struct dbus_unit unit;
    size_t used, used_again;

    if (dbus_decode(bytes, &message, &used) != DBUS_OK)
        return 0;
    ensure(used >= 16 && used <= len);
    ensure(dbus_decode(span_of(data, used - 1), &again, &used_again) == DBUS_MORE);
    check_inside(message.body, bytes);
    check_inside(message.signature, bytes);
    check_inside(message.error_name, bytes);
    if (dbus_units_begin(&message, &units) != DBUS_OK)
        return 0;
    while (dbus_units_next(&units, &unit)) {
        check_inside(unit.name, message.body);
        check_inside(unit.active_state, message.body);
    }
    ensure(units.is_bad || units.at == units.end);
    return 0;
}
