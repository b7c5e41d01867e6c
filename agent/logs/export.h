#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entries of the journal in systemd's Journal Export Format, and records of the kernel's log. Pure.
 * Private to agent/logs.
 *
 *   FIELD=text\n        or, where the text has newlines or other bytes:
 *   FIELD\n
 *   length (u64, little-endian), bytes, \n
 *   \n                  the entry is over
 *
 * (https://systemd.io/JOURNAL_EXPORT_FORMATS/)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/span.h"

#define EXPORT_MAX_FIELDS 128
#define EXPORT_MAX_BYTES ((size_t) 4 << 20) /* of an entry */

struct export_field {
    struct span name, value;
};
struct export_entry {
    struct export_field fields[EXPORT_MAX_FIELDS]; /* those behind are passed over */
    size_t n_fields;
    size_t n_consumed;
};
/* The rest of an entry that is passed over: what it says is of whoever wrote the message. */
struct export_skip {
    uint64_t bytes; /* of a value, first */
    bool is_in_line;
    bool is_active;
};
enum export_result {
    EXPORT_ENTRY,
    EXPORT_MORE, /* not whole yet */
    EXPORT_BAD,  /* not of this form, or over EXPORT_MAX_BYTES: n_consumed bytes may be passed over,
                    then what export_pass() says with ret_skip */
};
enum export_result
export_next(struct span bytes, struct export_entry *ret, struct export_skip *ret_skip);
/* Returns how much of the bytes is still of that entry; !is_active: it is over, and the next one
 * begins there. Its last bytes may wait for more. */
size_t export_pass(struct span bytes, struct export_skip *skip);
/* Empty when there is none. */
struct span export_field(const struct export_entry *entry, const char *name);

/* ---- /dev/kmsg: Documentation/ABI/testing/dev-kmsg ---- */

struct kmsg_record {
    unsigned priority; /* facility * 8 + severity */
    uint64_t sequence;
    int64_t boot_us;
    struct span message; /* its escapes (\x0a) are undone in place */
    bool is_continued;
};
/* One record as read(2) gives it; may be written to. false: not of this form. */
bool kmsg_parse(char *text, size_t len, struct kmsg_record *ret);
