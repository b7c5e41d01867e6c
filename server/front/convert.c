/* SPDX-License-Identifier: Apache-2.0 */
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#include "common/base/ensure.h"
#include "server/front/inside.h"

#define SECOND_US INT64_C(1000000)
#define MAX_TIME_S INT64_C(253402300799) /* 9999-12-31T23:59:59Z, as timestamp.proto has it */
#define MIN_TIME_S INT64_C(-62135596800)
#define MAX_DURATION_S INT64_C(315576000000)

void *unary_alloc(struct unary *unary, size_t n_items, size_t item_bytes)
{
    void *p = arena_alloc_array(&unary->arena, n_items, item_bytes);

    if (!p)
        unary->is_short = true;
    return p;
}

void front_set_time(Google__Protobuf__Timestamp *to, int64_t us)
{
    int64_t rest = us % SECOND_US;

    google__protobuf__timestamp__init(to);
    to->seconds = us / SECOND_US;
    if (rest < 0) { /* nanos count forward, also before 1970 */
        to->seconds--;
        rest += SECOND_US;
    }
    to->nanos = (int32_t) (rest * 1000);
}

Google__Protobuf__Timestamp *unary_time(struct unary *unary, wall_us time)
{
    Google__Protobuf__Timestamp *to;

    if (time.us == 0)
        return NULL;
    to = unary_alloc(unary, 1, sizeof(*to));
    if (to)
        front_set_time(to, time.us);
    return to;
}

Google__Protobuf__Duration *unary_duration(struct unary *unary, int64_t us)
{
    Google__Protobuf__Duration *to = unary_alloc(unary, 1, sizeof(*to));

    if (!to)
        return NULL;
    google__protobuf__duration__init(to);
    to->seconds = us / SECOND_US; /* both parts have the same sign */
    to->nanos = (int32_t) (us % SECOND_US * 1000);
    return to;
}

/* What protobuf-c makes of an entry of any map<string, string>. */
struct entry {
    ProtobufCMessage base;
    char *key;
    char *value;
};

char *front_borrow(const char *text)
{
    return (char *) (uintptr_t) (text ? text : "");
}

void *unary_entries(struct unary *unary,
                    const ProtobufCMessageDescriptor *type,
                    const struct store_attribute *rows,
                    size_t n_rows)
{
    struct entry **pointers, *entries;

    ensure(type->sizeof_message == sizeof(struct entry));
    if (n_rows == 0)
        return NULL;
    pointers = unary_alloc(unary, n_rows, sizeof(struct entry *));
    entries = unary_alloc(unary, n_rows, sizeof(*entries));
    if (!pointers || !entries)
        return NULL;
    for (size_t i = 0; i < n_rows; i++) {
        protobuf_c_message_init(type, &entries[i].base);
        entries[i].key = front_borrow(rows[i].key);
        entries[i].value = front_borrow(rows[i].value);
        pointers[i] = &entries[i];
    }
    return pointers;
}

struct store_attribute *unary_attributes(struct unary *unary, const void *entries, size_t n_entries)
{
    struct entry *const *from = entries;
    struct store_attribute *to;

    if (n_entries == 0)
        return NULL;
    to = unary_alloc(unary, n_entries, sizeof(*to));
    for (size_t i = 0; to && i < n_entries; i++)
        to[i] = (struct store_attribute){ .key = from[i]->key, .value = from[i]->value };
    return to;
}

bool front_time_of(const Google__Protobuf__Timestamp *from, int64_t *ret_us)
{
    if (from->seconds < MIN_TIME_S || from->seconds > MAX_TIME_S || from->nanos < 0 ||
        from->nanos > 999999999)
        return false;
    *ret_us = from->seconds * SECOND_US + from->nanos / 1000;
    return true;
}

bool front_duration_of(const Google__Protobuf__Duration *from, int64_t *ret_us)
{
    if (from->seconds < -MAX_DURATION_S || from->seconds > MAX_DURATION_S ||
        from->nanos < -999999999 || from->nanos > 999999999)
        return false;
    *ret_us = from->seconds * SECOND_US + from->nanos / 1000;
    return true;
}

enum front_failure unary_finish(struct unary *unary, const ProtobufCMessage *answer)
{
    if (unary->is_short || !answer) {
        front_describe(&unary->detail, NULL,
                       "the answer takes more than %u MiB; ask for smaller pages or narrow it",
                       FRONT_ANSWER_BYTES >> 20);
        unary->detail.quota = "answer_bytes";
        return FAIL_TOO_MUCH;
    }
    unary->answer = answer;
    return FAIL_NOT;
}
