/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"
#include "server/upload/inside.h"

void upload_problem_of_field(struct upload_problem *problem,
                             const char *field,
                             const char *fmt,
                             ...)
{
    va_list args;

    *problem = (struct upload_problem){ .quota = NULL };
    snprintf(problem->field, sizeof(problem->field), "%s", field);
    va_start(args, fmt);
    vsnprintf(problem->description, sizeof(problem->description), fmt, args);
    va_end(args);
}

const char *upload_field(enum store_object_kind kind, const char *what)
{
    static const struct {
        const char *what, *bulk, *file;
    } fields[] = {
        { "key", "header.upload_id", "header.transfer_id" },
        { "name", "header.name", "header.path" },
        { "type", "header.content_type", "header" },
        { "size", "header.size_bytes", "header.size_bytes" },
        { "sha256", "header.sha256", "end.sha256" },
        { "labels", "header.labels", "header" },
        { "mode", "header", "header.mode" },
        { "modified", "header", "header.modified_time_unix_us" },
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (strcmp(fields[i].what, what) == 0)
            return kind == STORE_FILE ? fields[i].file : fields[i].bulk;
    return "header";
}

static int
bad_length(struct upload_problem *problem, const char *field, size_t len, size_t min, size_t max)
{
    upload_problem_of_field(problem, field, "%zu bytes; %zu to %zu are allowed", len, min, max);
    return UPLOAD_BAD;
}

/* Any text is a name, also one with slashes and dots: it never becomes a path here. What a terminal
 * should not get is for who prints to see to. */
static int check_text(struct upload_problem *problem,
                      const char *field,
                      const char *text,
                      size_t min,
                      size_t max)
{
    const size_t len = strlen(text);

    if (len < min || len > max)
        return bad_length(problem, field, len, min, max);
    if (text_is_utf8(text, len))
        return 0;
    upload_problem_of_field(problem, field, "not UTF-8");
    return UPLOAD_BAD;
}

static int check_labels(const struct upload_header *header, struct upload_problem *problem)
{
    char field[64];

    if (header->n_labels > UPLOAD_LABELS) {
        upload_problem_of_field(problem, "header.labels", "%zu of them; at most %d",
                                header->n_labels, UPLOAD_LABELS);
        return UPLOAD_BAD;
    }
    for (size_t i = 0; i < header->n_labels; i++) {
        int r;

        snprintf(field, sizeof(field), "header.labels[%zu].key", i);
        r = check_text(problem, field, header->labels[i].key, 1, UPLOAD_LABEL_KEY_BYTES);
        if (r)
            return r;
        for (size_t k = 0; k < i; k++) {
            if (strcmp(header->labels[i].key, header->labels[k].key) == 0) {
                upload_problem_of_field(problem, field, "given twice");
                return UPLOAD_BAD;
            }
        }
        snprintf(field, sizeof(field), "header.labels[%zu].value", i);
        r = check_text(problem, field, header->labels[i].value, 0, UPLOAD_LABEL_VALUE_BYTES);
        if (r)
            return r;
    }
    return 0;
}

int upload_check_header(const struct upload_header *header, struct upload_problem *problem)
{
    const enum store_object_kind kind = header->kind;
    int r;

    if (header->key.len != STORE_OBJECT_KEY_BYTES)
        return bad_length(problem, upload_field(kind, "key"), header->key.len,
                          STORE_OBJECT_KEY_BYTES, STORE_OBJECT_KEY_BYTES);
    r = check_text(problem, upload_field(kind, "name"), header->name, 1, UPLOAD_NAME_BYTES);
    if (!r)
        r = check_text(problem, upload_field(kind, "type"), header->type, 0, UPLOAD_TYPE_BYTES);
    if (r)
        return r;
    if (header->sha256.len != 0 && header->sha256.len != STORE_OBJECT_SHA256_BYTES) {
        upload_problem_of_field(problem, upload_field(kind, "sha256"),
                                "%zu bytes; a SHA-256 has 32, and it may be left out",
                                header->sha256.len);
        return UPLOAD_BAD;
    }
    if (header->size > STORE_OBJECT_MAX_BYTES) {
        upload_problem_of_field(problem, upload_field(kind, "size"),
                                "%" PRIu64 "; an upload has at most %" PRIu64 " bytes",
                                header->size, STORE_OBJECT_MAX_BYTES);
        return UPLOAD_BAD;
    }
    if (header->mode > UPLOAD_MODE_MAX) {
        upload_problem_of_field(problem, upload_field(kind, "mode"),
                                "%#o; only permission bits, up to 07777", header->mode);
        return UPLOAD_BAD;
    }
    return check_labels(header, problem);
}

int upload_check_chunk(uint64_t offset,
                       size_t len,
                       uint64_t next,
                       uint64_t size,
                       struct upload_problem *problem)
{
    if (len == 0 || len > UPLOAD_CHUNK_BYTES)
        return bad_length(problem, "chunk.data", len, 1, UPLOAD_CHUNK_BYTES);
    if (offset > next) {
        upload_problem_of_field(problem, "chunk.offset",
                                "%" PRIu64 " leaves a gap; the next byte is %" PRIu64, offset,
                                next);
        return UPLOAD_BAD;
    }
    if (offset + len > (size ? size : STORE_OBJECT_MAX_BYTES)) {
        upload_problem_of_field(problem, "chunk.data", "ends at %" PRIu64 ", behind %s %" PRIu64,
                                offset + len,
                                size ? "header.size_bytes" : "the most that an upload has,",
                                size ? size : STORE_OBJECT_MAX_BYTES);
        return UPLOAD_BAD;
    }
    return 0;
}

int upload_check_end(uint64_t end_size,
                     struct span end_sha256,
                     uint64_t received,
                     uint64_t size,
                     const uint8_t *sha256,
                     struct upload_problem *problem)
{
    if (end_sha256.len != 0 && end_sha256.len != STORE_OBJECT_SHA256_BYTES)
        return bad_length(problem, "end.sha256", end_sha256.len, STORE_OBJECT_SHA256_BYTES,
                          STORE_OBJECT_SHA256_BYTES);
    if (end_sha256.len == 0 && !sha256) {
        upload_problem_of_field(problem, "end.sha256",
                                "missing; the header has none either, and without it nothing is "
                                "finished");
        return UPLOAD_BAD;
    }
    if (end_sha256.len && sha256 &&
        memcmp(end_sha256.data, sha256, STORE_OBJECT_SHA256_BYTES) != 0) {
        upload_problem_of_field(problem, "end.sha256", "not the one of header.sha256");
        return UPLOAD_MISMATCH;
    }
    if (end_size != received || (size && end_size != size)) {
        upload_problem_of_field(problem, "end.size_bytes",
                                "%" PRIu64 ", but %" PRIu64 " bytes came%s; send the rest first",
                                end_size, received,
                                size && size != end_size ? ", and header.size_bytes differs" : "");
        return UPLOAD_MISMATCH;
    }
    return 0;
}
