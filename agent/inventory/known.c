/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The file of what the hub has: a line "name sha256 rows" for each table, and last "crc32c" and the
 * checksum of all before it. A cut or changed file is none: then the hub is told all again.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/inventory/inventory.h"
#include "common/base/crc32c.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"

#define HEX_BYTES (2 * (size_t) INVENTORY_HASH_BYTES)
#define MAX_FILE_BYTES ((size_t) INVENTORY_MAX_TABLES * 192)
#define SUM "crc32c "
#define SUM_BYTES (sizeof(SUM) - 1 + 8 + 1) /* 8 digits and the line's end */

/* The lines before the sum's, as a text; NULL: they are not what was written. */
static char *checked(struct buf *file)
{
    char sum[SUM_BYTES + 1];
    size_t len;

    if (file->len < SUM_BYTES || memchr(file->data, 0, file->len))
        return NULL;
    len = file->len - SUM_BYTES;
    (void) snprintf(sum, sizeof(sum), SUM "%08" PRIx32 "\n", crc32c(0, file->data, len));
    if (memcmp(file->data + len, sum, SUM_BYTES) != 0)
        return NULL;
    file->len = len;
    return (char *) (uintptr_t) buf_text(file);
}

static bool parse(char *line, struct inventory_known *ret)
{
    char *rest = NULL;
    const char *name = strtok_r(line, " ", &rest);
    const char *hash = strtok_r(NULL, " ", &rest);
    const char *rows = strtok_r(NULL, " ", &rest);

    if (!name || strlen(name) >= sizeof(ret->name) || !hash || strlen(hash) != HEX_BYTES || !rows)
        return false;
    (void) snprintf(ret->name, sizeof(ret->name), "%s", name);
    return text_to_hex(hash, ret->sha256, sizeof(ret->sha256)) == 0 &&
           text_to_u64(rows, &ret->n_rows) == 0;
}

size_t inventory_known_load(const char *path, struct inventory_known ret[INVENTORY_MAX_TABLES])
{
    CLEANUP(buf_deinit) struct buf file = { 0 };
    char *text = NULL, *rest = NULL;
    size_t n = 0;

    if (file_read(path, MAX_FILE_BYTES, &file) == 0)
        text = checked(&file);
    if (!text)
        return 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        struct inventory_known known = { 0 };

        if (n == INVENTORY_MAX_TABLES || !parse(line, &known))
            return 0;
        ret[n++] = known;
    }
    return n;
}

int inventory_known_save(const char *path, const struct inventory_known *known, size_t n_known)
{
    CLEANUP(buf_deinit) struct buf file = { 0 };
    char hex[HEX_BYTES + 1];
    int r;

    for (size_t i = 0; i < n_known; i++)
        buf_printf(&file, "%s %s %" PRIu64 "\n", known[i].name,
                   text_of_hex(known[i].sha256, sizeof(known[i].sha256), hex), known[i].n_rows);
    if (!buf_failed(&file))
        buf_printf(&file, SUM "%08" PRIx32 "\n", crc32c(0, file.data, file.len));
    if (buf_failed(&file))
        return fault(-ENOMEM, "no memory for what the hub has of the inventory");
    r = file_replace(path, buf_span(&file), 0600);
    return r > 0 ? fault(-EACCES, "%s cannot be written", path) : pass(r);
}
