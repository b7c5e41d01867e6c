/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/identity/inside.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"

#define GENERATION_NAME "generation"
#define HUB_NAME "hub"
#define ANCHORS_NAME "anchors"
#define MAX_ANCHORS 100
#define HASH_BYTES 32
#define SIGNATURE_BYTES 80 /* ECDSA P-256 as DER has at most 72 */
#define LINE_BYTES 512
#define PATH_BYTES 4096

static int path_of(char to[static PATH_BYTES], const char *directory, const char *name)
{
    return snprintf(to, PATH_BYTES, "%s/%s", directory, name) < PATH_BYTES
               ? 0
               : fault(-ENAMETOOLONG, "the identity's path is too long");
}

static int replace(const char *path, struct span content)
{
    int r = file_replace(path, content, 0600);

    return r > 0 ? fault(-EACCES, "%s cannot be written", path) : pass(r);
}

uint64_t notes_read_generation(const char *directory)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char path[PATH_BYTES];
    uint64_t generation = 0;

    if (path_of(path, directory, GENERATION_NAME) || file_read(path, 64, &text))
        return 0;
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.len--;
    return text_to_u64(buf_text(&text), &generation) == 0 ? generation : 0;
}

int notes_write_generation(const char *directory, uint64_t generation)
{
    char path[PATH_BYTES], text[32];
    int r = path_of(path, directory, GENERATION_NAME);

    snprintf(text, sizeof(text), "%" PRIu64 "\n", generation);
    return r ? pass(r) : pass(replace(path, span_of_text(text)));
}

int notes_write_hub(const char *directory, const char *hub)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char path[PATH_BYTES];
    int r = path_of(path, directory, HUB_NAME);

    buf_printf(&text, "%s\n", hub);
    return r ? pass(r) : pass(replace(path, buf_span(&text)));
}

void identity_read_hub(const char *directory, struct buf *to)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char path[PATH_BYTES];

    if (path_of(path, directory, HUB_NAME) || file_read(path, IDENTITY_HUB_BYTES, &text))
        return;
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.len--;
    if (identity_hub_is_good(buf_text(&text)))
        buf_append_span(to, buf_span(&text));
}

/* ---- anchors ---- */

static size_t n_lines(struct span text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++)
        n += text.data[i] == '\n';
    return n;
}

static struct span after_line(struct span text)
{
    const uint8_t *end = text.len ? memchr(text.data, '\n', text.len) : NULL;
    size_t len = end ? (size_t) (end - text.data) + 1 : text.len;

    return span_of(text.data + len, text.len - len);
}

static bool ends_with(struct span text, struct span line)
{
    return text.len >= line.len &&
           span_equal(span_of(text.data + text.len - line.len, line.len), line);
}

int notes_add_anchor(const char *directory, const struct keeper_welcome *welcome)
{
    CLEANUP(buf_deinit) struct buf had = { 0 }, text = { 0 };
    char path[PATH_BYTES], line[LINE_BYTES];
    char hash[2 * HASH_BYTES + 1], signature[2 * SIGNATURE_BYTES + 1];
    struct span rest;
    int r = path_of(path, directory, ANCHORS_NAME);

    if (r)
        return pass(r);
    if (welcome->anchor.sha256.len != HASH_BYTES || welcome->anchor.signature.len == 0 ||
        welcome->anchor.signature.len > SIGNATURE_BYTES)
        return 0; /* of a later form */
    r = file_read(path, (size_t) 2 * MAX_ANCHORS * LINE_BYTES, &had);
    if (r < 0)
        return pass(r);
    snprintf(line, sizeof(line),
             "{\"time_us\":%" PRId64 ",\"entry\":%" PRIu64
             ",\"sha256\":\"%s\",\"signature\":\"%s\"}\n",
             welcome->anchor.time_us, welcome->anchor.entry,
             text_of_hex(welcome->anchor.sha256.data, HASH_BYTES, hash),
             text_of_hex(welcome->anchor.signature.data, welcome->anchor.signature.len, signature));
    rest = buf_span(&had);
    if (ends_with(rest, span_of_text(line)))
        return 0;
    while (n_lines(rest) >= MAX_ANCHORS)
        rest = after_line(rest);
    buf_append_span(&text, rest);
    buf_append_text(&text, line);
    if (buf_failed(&text))
        return fault(-ENOMEM, "no memory for anchors");
    return pass(replace(path, buf_span(&text)));
}
