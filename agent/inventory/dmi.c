/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory modules out of the firmware's table: SMBIOS 3.7, structure type 17 (section 7.18).
 *
 *   0 +------+--------+--------+
 *     | type | length | handle |   then the fields, `length` bytes in all
 *     +------+--------+--------+
 *     | texts, each with a NUL, and one NUL more; fields name them by number, from 1 |
 *     +-------------------------------------------------------------------------------+
 */

#include <string.h>

#include "agent/inventory/table.h"

#define HEADER_BYTES 4
#define MEMORY_DEVICE 17
#define END_OF_TABLE 127
#define MEMORY_MIN_BYTES 0x15 /* version 2.1 */
#define SIZE_UNKNOWN 0xffffu
#define SIZE_EXTENDED 0x7fffu
#define SIZE_IN_KIB 0x8000u

static unsigned get16(const uint8_t *p)
{
    return (unsigned) p[0] | (unsigned) p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | (uint32_t) get16(p + 2) << 16;
}

/* The number-th text behind a structure; empty when there is none. */
static struct span text_of(struct span texts, unsigned number)
{
    for (unsigned i = 1; number > 0 && texts.len > 0; i++) {
        const uint8_t *end = memchr(texts.data, 0, texts.len);
        size_t len = end ? (size_t) (end - texts.data) : texts.len;

        if (len == 0)
            break;
        if (i == number)
            return span_of(texts.data, len);
        if (!end)
            break;
        texts = span_of(end + 1, texts.len - len - 1);
    }
    return (struct span){ 0 };
}

/* The structure's end behind its texts; 0: it is cut off. */
static size_t whole_length(struct span from, size_t n_formatted)
{
    for (size_t at = n_formatted; at + 1 < from.len; at++)
        if (from.data[at] == 0 && from.data[at + 1] == 0)
            return at + 2;
    return 0;
}

static void fill(struct dmi_memory *ret, const uint8_t *p, size_t len, struct span texts)
{
    const unsigned size = get16(p + 0x0c);

    *ret = (struct dmi_memory){
        .total_width = (uint16_t) get16(p + 0x08),
        .data_width = (uint16_t) get16(p + 0x0a),
        .form_factor = p[0x0e],
        .device_locator = text_of(texts, p[0x10]),
        .bank_locator = text_of(texts, p[0x11]),
        .type = p[0x12],
    };
    if (size == SIZE_EXTENDED && len >= 0x20)
        ret->size_bytes = (uint64_t) (get32(p + 0x1c) & 0x7fffffffu) << 20;
    else if (size != SIZE_UNKNOWN && size != SIZE_EXTENDED)
        ret->size_bytes = (uint64_t) (size & ~SIZE_IN_KIB) << (size & SIZE_IN_KIB ? 10 : 20);
    if (len >= 0x1b) {
        ret->speed_mts = get16(p + 0x15);
        ret->manufacturer = text_of(texts, p[0x17]);
        ret->serial = text_of(texts, p[0x18]);
        ret->asset = text_of(texts, p[0x19]);
        ret->part = text_of(texts, p[0x1a]);
    }
    if (len >= 0x22 && get16(p + 0x20) > 0)
        ret->speed_mts = get16(p + 0x20);
}

bool dmi_next_memory(struct span *from, struct dmi_memory *ret)
{
    while (from->len >= HEADER_BYTES) {
        const uint8_t *p = from->data;
        const size_t n_formatted = p[1];
        size_t len;

        if (p[0] == END_OF_TABLE || n_formatted < HEADER_BYTES || n_formatted > from->len)
            return false;
        len = whole_length(*from, n_formatted);
        if (len == 0)
            return false;
        *from = span_of(p + len, from->len - len);
        if (p[0] != MEMORY_DEVICE || n_formatted < MEMORY_MIN_BYTES)
            continue;
        fill(ret, p, n_formatted, span_of(p + n_formatted, len - n_formatted));
        return true;
    }
    return false;
}

static const char *type_name(uint8_t type)
{
    static const char *const names[] = {
        [0x0f] = "SDRAM", [0x12] = "DDR",    [0x13] = "DDR2",   [0x18] = "DDR3",   [0x1a] = "DDR4",
        [0x1b] = "LPDDR", [0x1c] = "LPDDR2", [0x1d] = "LPDDR3", [0x1e] = "LPDDR4", [0x20] = "HBM",
        [0x21] = "HBM2",  [0x22] = "DDR5",   [0x23] = "LPDDR5", [0x24] = "HBM3",
    };

    return type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "";
}

static const char *form_name(uint8_t form)
{
    static const char *const names[] = {
        [0x03] = "SIMM",  [0x09] = "DIMM",    [0x0c] = "RIMM", [0x0d] = "SODIMM",
        [0x0e] = "SRIMM", [0x0f] = "FB-DIMM", [0x10] = "Die"
    };

    return form < sizeof(names) / sizeof(names[0]) && names[form] ? names[form] : "";
}

static void put(struct table *t, struct span text)
{
    while (text.len > 0 && text.data[text.len - 1] == ' ')
        text.len--;
    table_put_span(t, text);
}

void table_memory_devices(struct table *t)
{
    struct dmi_memory memory;
    struct span rest;

    if (!table_read(t, "sys/firmware/dmi/tables/DMI")) {
        if (!t->is_unreadable)
            table_absent(t);
        return;
    }
    rest = buf_span(&t->text);
    while (dmi_next_memory(&rest, &memory)) {
        put(t, memory.device_locator);
        put(t, memory.bank_locator);
        put(t, memory.manufacturer);
        put(t, memory.serial);
        put(t, memory.part);
        put(t, memory.asset);
        table_put_u64(t, memory.size_bytes >> 20);
        table_put_u64(t, memory.speed_mts);
        table_put(t, form_name(memory.form_factor));
        table_put(t, type_name(memory.type));
        table_put_u64(t, memory.total_width);
        table_put_u64(t, memory.data_width);
        table_end_row(t);
    }
}
