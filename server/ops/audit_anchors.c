/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ops/audit_anchors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/json/json.h"

/* An anchor's parts as text; NULL: not there. */
struct parts {
    const char *entry, *time_us, *sha256, *signature;
};

void ops_anchors_deinit(struct ops_anchors *anchors)
{
    free(anchors->anchors);
    *anchors = (struct ops_anchors){ .n = 0 };
}

static int bad(struct ops_anchors_why *why, size_t line, const char *what)
{
    snprintf(why->text, sizeof(why->text), "line %zu: %s", line, what);
    return OPS_ANCHORS_BAD;
}

static bool to_anchor(const struct parts *parts, struct audit_anchor *ret)
{
    struct audit_anchor anchor = { .n_signature = 0 };
    const char *signature = parts->signature ? parts->signature : "";
    size_t len = strlen(signature);
    uint64_t time_us = 0;

    if (!parts->entry || text_to_u64(parts->entry, &anchor.entry) != 0 || anchor.entry == 0 ||
        !parts->sha256 || text_to_hex(parts->sha256, anchor.sha256, sizeof(anchor.sha256)) != 0 ||
        (parts->time_us && text_to_u64(parts->time_us, &time_us) != 0) || time_us > INT64_MAX ||
        len % 2 != 0 || len / 2 > sizeof(anchor.signature) ||
        text_to_hex(signature, anchor.signature, len / 2) != 0)
        return false;
    anchor.time.us = (int64_t) time_us;
    anchor.n_signature = (uint32_t) (len / 2);
    *ret = anchor;
    return true;
}

static int
add(struct ops_anchors *to, const struct parts *parts, size_t line, struct ops_anchors_why *why)
{
    size_t n = to->n;

    if (n >= OPS_MAX_ANCHORS)
        return bad(why, line, "there are more than 100,000 anchors");
    if ((n & (n - 1)) == 0) {
        struct audit_anchor *more = realloc(to->anchors, (n ? 2 * n : 1) * sizeof(*more));

        if (!more)
            return fault(-ENOMEM, "no memory for anchors");
        to->anchors = more;
    }
    if (!to_anchor(parts, &to->anchors[n]))
        return bad(why, line,
                   "an anchor has entry (a number), sha256 (64 hex digits), time_us and "
                   "signature (hex)");
    to->n++;
    return 0;
}

/* ---- JSON ---- */

static int add_object(struct ops_anchors *to,
                      const struct json *object,
                      size_t line,
                      struct ops_anchors_why *why)
{
    char entry[24], time_us[24];
    const struct parts parts = { entry, time_us, json_get_text(json_member(object, "sha256"), NULL),
                                 json_get_text(json_member(object, "signature"), NULL) };

    snprintf(entry, sizeof(entry), "%lld",
             (long long) json_get_i64(json_member(object, "entry"), 0));
    snprintf(time_us, sizeof(time_us), "%lld",
             (long long) json_get_i64(json_member(object, "time_us"), 0));
    return pass(add(to, &parts, line, why));
}

/* An anchor, an array of them, or an object with the array `anchors`; a log's line that is of
 * something else has none. */
static int add_document(struct ops_anchors *to,
                        const struct json *document,
                        size_t line,
                        struct ops_anchors_why *why)
{
    const struct json *list = json_member(document, "anchors");
    int r = 0;

    if (json_member(document, "sha256") && json_member(document, "entry"))
        return pass(add_object(to, document, line, why));
    if (!list && json_item(document, 0))
        list = document;
    for (size_t i = 0; list && i < json_count(list) && r == 0; i++)
        r = add_object(to, json_item(list, i), line, why);
    return pass(r);
}

static int
add_json(struct ops_anchors *to, struct span text, size_t line, struct ops_anchors_why *why)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct json_error error;
    int r = json_parse(&document, text, &error);

    if (r > 0)
        return bad(why, line, error.text);
    return r < 0 ? pass(r) : pass(add_document(to, document, line, why));
}

/* ---- logfmt ---- */

/* The value behind " key=", up to the next blank; it is cut out of the line. */
static const char *value_of(char *line, const char *key)
{
    size_t len = strlen(key);

    for (char *at = line; (at = strstr(at, key)); at += len) {
        if (at > line && at[-1] == ' ' && at[len] == '=')
            return at + len + 1;
    }
    return NULL;
}

static void end_values(char *line)
{
    for (; *line; line++)
        if (*line == ' ' || *line == '\r')
            *line = 0;
}

static int
add_log(struct ops_anchors *to, struct span text, size_t line, struct ops_anchors_why *why)
{
    char copy[4097]; /* a line of the log has so many bytes at most */

    if (text.len >= sizeof(copy))
        return 0;
    memcpy(copy, text.data, text.len);
    copy[text.len] = 0;
    if (!strstr(copy, "event=audit_anchor "))
        return 0;
    const struct parts parts = { value_of(copy, "entry"), value_of(copy, "time_us"),
                                 value_of(copy, "sha256"), value_of(copy, "signature") };
    end_values(copy);
    return pass(add(to, &parts, line, why));
}

/* ---- the whole ---- */

static int add_line(struct ops_anchors *to, struct span text, size_t n, struct ops_anchors_why *why)
{
    if (text.len > 0 && text.data[0] == '{')
        return pass(add_json(to, text, n, why));
    return pass(add_log(to, text, n, why));
}

/* A document over several lines: the first has only a bracket of it. */
static bool is_one_document(struct span text)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct json_error error;

    return text.len > 0 && (text.data[0] == '{' || text.data[0] == '[') &&
           json_parse(&document, text, &error) == 0;
}

int ops_anchors_read(struct span text, struct ops_anchors *ret, struct ops_anchors_why *ret_why)
{
    struct ops_anchors anchors = { .n = 0 };
    int r = 0;

    if (is_one_document(text)) {
        r = add_json(&anchors, text, 1, ret_why);
        text.len = 0;
    }
    for (size_t n = 1; text.len > 0 && r == 0; n++) {
        const uint8_t *end = memchr(text.data, '\n', text.len);
        size_t len = end ? (size_t) (end - text.data) : text.len;

        r = add_line(&anchors, span_of(text.data, len), n, ret_why);
        len += end != NULL;
        text = span_of(text.data + len, text.len - len);
    }
    if (r != 0) {
        ops_anchors_deinit(&anchors);
        return pass(r);
    }
    *ret = anchors;
    return 0;
}
