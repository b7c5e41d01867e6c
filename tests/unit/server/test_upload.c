/* SPDX-License-Identifier: Apache-2.0 */

/* Uploads from header to digest: rules, flow, ends. */

#include "server/upload/upload.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/list.h"
#include "common/crypto/crypto.h"
#include "suite.h"

static char path[256];
static struct store *store;
static struct uploads *uploads;
static uint32_t agent;
static const uint8_t key[16] = "0123456789abcdef";

static void open_it(void)
{
    const struct store_options options = {
        .directory = path,
        .segment_bytes = 64u << 20,
        .queue_bytes = 64u << 20,
        .full_percent = 100,
        .allow_any_filesystem = true,
    };
    struct store_why why;

    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    ck_assert_int_eq(store_agent_intern(store, "web-1", &agent), 0);
    ck_assert_int_eq(uploads_new(&uploads, store, &(struct uploads_limits){ 2, 2 }), 0);
}

static void set_up(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(path, sizeof(path), "%s/upload-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(path));
    ck_assert_int_eq(store_create(path), 0);
    open_it();
}

static void tear_down(void)
{
    if (store)
        store_stop(store);
    uploads = uploads_free(uploads);
    store = store_close(store);
    ck_assert_int_eq(file_remove_tree(path), 0);
}

/* ---- a stream and what it says ---- */

struct stream {
    struct upload *upload;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_woken;
};

static void wake(void *ctx)
{
    struct stream *stream = ctx;

    pthread_mutex_lock(&stream->lock);
    stream->is_woken = true;
    pthread_cond_signal(&stream->cond);
    pthread_mutex_unlock(&stream->lock);
}

static struct upload_header header_of(const char *name)
{
    return (struct upload_header){ .kind = STORE_BULK,
                                   .agent = agent,
                                   .key = span_of(key, sizeof(key)),
                                   .name = name,
                                   .type = "" };
}

static int open_stream(struct stream *stream, const struct upload_header *header)
{
    struct upload_problem problem;

    *stream =
        (struct stream){ .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    return upload_open(&stream->upload, uploads, header, wake, stream, &problem);
}

/* The next event; waits for one. */
static struct upload_event next(struct stream *stream)
{
    struct upload_event event;

    for (;;) {
        upload_next(stream->upload, &event);
        if (event.type != UPLOAD_NOTHING)
            return event;
        pthread_mutex_lock(&stream->lock);
        while (!stream->is_woken)
            pthread_cond_wait(&stream->cond, &stream->lock);
        stream->is_woken = false;
        pthread_mutex_unlock(&stream->lock);
    }
}

/* Passes acks over. */
static struct upload_event last(struct stream *stream, uint64_t *ret_acked)
{
    struct upload_event event = next(stream);

    while (event.type == UPLOAD_ACK) {
        *ret_acked = event.offset;
        event = next(stream);
    }
    return event;
}

static uint64_t resume(struct stream *stream)
{
    const struct upload_event event = next(stream);

    ck_assert_int_eq(event.type, UPLOAD_RESUME);
    return event.offset;
}

static int chunk(struct stream *stream, uint64_t offset, const char *text)
{
    struct upload_problem problem;

    return upload_chunk(stream->upload, offset, span_of_text(text), &problem);
}

static int finish(struct stream *stream, const char *whole)
{
    struct upload_problem problem;
    uint8_t digest[32];

    crypto_sha256(span_of_text(whole), digest);
    return upload_finish(stream->upload, strlen(whole), span_of(digest, sizeof(digest)), &problem);
}

/* ---- rules ---- */

static void check_refused(const struct upload_header *header, const char *field)
{
    struct upload *upload;
    struct upload_problem problem;

    ck_assert_int_eq(upload_open(&upload, uploads, header, wake, NULL, &problem), UPLOAD_BAD);
    ck_assert_str_eq(problem.field, field);
    ck_assert_uint_gt(strlen(problem.description), 0);
}

START_TEST(a_bad_header_is_refused_by_its_field)
{
    struct store_attribute labels[UPLOAD_LABELS + 1];
    struct upload_header header = header_of("a");
    char name[UPLOAD_NAME_BYTES + 2], keys[UPLOAD_LABELS + 1][8];

    header.key = span_of(key, 15);
    check_refused(&header, "header.upload_id");
    header.kind = STORE_FILE;
    check_refused(&header, "header.transfer_id");
    header = header_of("");
    check_refused(&header, "header.name");
    header.kind = STORE_FILE;
    check_refused(&header, "header.path");
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = 0;
    header = header_of(name);
    check_refused(&header, "header.name");
    header = header_of("\xff");
    check_refused(&header, "header.name");
    header = header_of("a");
    header.sha256 = span_of(key, 16);
    check_refused(&header, "header.sha256");
    header = header_of("a");
    header.size = UINT64_MAX;
    check_refused(&header, "header.size_bytes");
    header = header_of("a");
    header.kind = STORE_FILE;
    header.mode = 0100644;
    check_refused(&header, "header.mode");
    for (size_t i = 0; i <= UPLOAD_LABELS; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
        labels[i] = (struct store_attribute){ keys[i], "" };
    }
    header = header_of("a");
    header.labels = labels;
    header.n_labels = UPLOAD_LABELS + 1;
    check_refused(&header, "header.labels");
    header.n_labels = 3;
    labels[2].key = labels[0].key;
    check_refused(&header, "header.labels[2].key");
    labels[2] = (struct store_attribute){ "k2", name };
    check_refused(&header, "header.labels[2].value");
}
END_TEST

START_TEST(an_id_is_read_as_it_is_written_and_no_other_way)
{
    static const char *const bad[] = { "",    "u",   "17",  "u0", "u017", "u-1",
                                       "u+1", "u 1", "u1 ", "U1", "u1x",  "u18446744073709551616" };
    char id[UPLOAD_ID_BYTES];

    ck_assert_str_eq(upload_id_of(17, id), "u17");
    ck_assert_uint_eq(upload_number_of("u17"), 17);
    ck_assert_uint_eq(upload_number_of(upload_id_of(UINT64_MAX, id)), UINT64_MAX);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(upload_number_of(bad[i]) == 0, "%s", bad[i]);
}
END_TEST

/* ---- streams ---- */

START_TEST(chunks_are_acknowledged_and_the_result_is_their_digest)
{
    const struct upload_header header = header_of("a");
    struct stream stream;
    struct upload_event event;
    uint64_t acked = 0;

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 0);
    ck_assert_int_eq(chunk(&stream, 0, "hello "), 0);
    ck_assert_int_eq(chunk(&stream, 6, "world"), 0);
    /* What is there already is passed over, also where it overlaps. */
    ck_assert_int_eq(chunk(&stream, 0, "hello "), 0);
    ck_assert_int_eq(chunk(&stream, 9, "ld!!"), 0);
    event = next(&stream);
    ck_assert_int_eq(event.type, UPLOAD_ACK);
    ck_assert_int_eq(finish(&stream, "hello world!!"), 0);
    event = last(&stream, &acked);
    ck_assert_int_eq(event.type, UPLOAD_RESULT);
    ck_assert_uint_eq(event.size, 13);
    ck_assert(!event.had_it);
    stream.upload = upload_close(stream.upload);

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    event = next(&stream);
    ck_assert_int_eq(event.type, UPLOAD_RESULT);
    ck_assert(event.had_it);
    stream.upload = upload_close(stream.upload);
}
END_TEST

START_TEST(what_is_refused_ends_behind_the_acks)
{
    const struct upload_header header = header_of("a");
    struct stream stream;
    struct upload_event event;
    uint64_t acked = 0;

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 0);
    ck_assert_int_eq(chunk(&stream, 0, "hello"), 0);
    ck_assert_int_eq(chunk(&stream, 6, "gap"), UPLOAD_BAD);
    ck_assert(!upload_wants_more(stream.upload));
    ck_assert_int_eq(chunk(&stream, 5, "too late"), 0);
    event = last(&stream, &acked);
    ck_assert_int_eq(event.type, UPLOAD_END);
    ck_assert_int_eq(event.outcome, UPLOAD_BAD);
    ck_assert_str_eq(event.problem->field, "chunk.offset");
    ck_assert_uint_eq(acked, 5);
    stream.upload = upload_close(stream.upload);
}
END_TEST

START_TEST(another_digest_drops_another_size_keeps)
{
    const struct upload_header header = header_of("a");
    struct stream stream;
    struct upload_event event;
    uint64_t acked = 0;

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 0);
    ck_assert_int_eq(chunk(&stream, 0, "hello"), 0);
    ck_assert_int_eq(finish(&stream, "hello!"), UPLOAD_MISMATCH);
    event = last(&stream, &acked);
    ck_assert_int_eq(event.outcome, UPLOAD_MISMATCH);
    ck_assert_str_eq(event.problem->field, "end.size_bytes");
    stream.upload = upload_close(stream.upload);

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 5);
    ck_assert_int_eq(finish(&stream, "jello"), UPLOAD_MISMATCH);
    event = last(&stream, &acked);
    ck_assert_int_eq(event.outcome, UPLOAD_MISMATCH);
    ck_assert_str_eq(event.problem->field, "end.sha256");
    stream.upload = upload_close(stream.upload);

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 0);
    stream.upload = upload_close(stream.upload);
}
END_TEST

/* A job that holds the store up until it is let go of. */
struct holding {
    struct store_object_job job;
    sem_t go_on, over;
};

static void hold(struct store_object_job *job, int r)
{
    struct holding *holding = container_of(job, struct holding, job);

    (void) r;
    sem_wait(&holding->go_on);
    sem_post(&holding->over);
}

/* What one header said of an upload holds for each stream of it, also for one that says less. */
START_TEST(a_later_header_that_says_less_is_held_to_the_first)
{
    struct upload_header header = header_of("a");
    struct stream stream;
    struct upload_event event;
    uint64_t acked = 0;
    uint8_t digest[32];

    crypto_sha256(span_of_text("0123456789"), digest);
    header.size = 10;
    header.sha256 = span_of(digest, sizeof(digest));
    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 0);
    stream.upload = upload_close(stream.upload);

    header.size = 0;
    header.sha256 = span_of(NULL, 0);
    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 0);
    ck_assert_int_eq(chunk(&stream, 0, "0123456789A"), UPLOAD_BAD);
    event = last(&stream, &acked);
    ck_assert_int_eq(event.outcome, UPLOAD_BAD);
    ck_assert_str_eq(event.problem->field, "chunk.data");
    stream.upload = upload_close(stream.upload);

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 0);
    ck_assert_int_eq(chunk(&stream, 0, "01234"), 0);
    ck_assert_int_eq(finish(&stream, "01234"), UPLOAD_MISMATCH);
    event = last(&stream, &acked);
    ck_assert_int_eq(event.outcome, UPLOAD_MISMATCH);
    ck_assert_uint_eq(acked, 5);
    stream.upload = upload_close(stream.upload);

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 5);
    ck_assert_int_eq(chunk(&stream, 5, "56789"), 0);
    ck_assert_int_eq(finish(&stream, "0123456789"), 0);
    ck_assert_int_eq(last(&stream, &acked).type, UPLOAD_RESULT);
    stream.upload = upload_close(stream.upload);
}
END_TEST

START_TEST(no_more_is_under_way_than_the_window)
{
    static struct holding holding = {
        .job = { .work = STORE_OBJECT_LEAVE, .number = UINT64_MAX, .lease = 1, .done = hold },
    };
    const struct upload_header header = header_of("a");
    uint8_t *data = calloc(1, UPLOAD_CHUNK_BYTES);
    struct upload_problem problem;
    struct stream stream;
    uint64_t sent = 0;

    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert(!upload_wants_more(stream.upload));
    ck_assert_uint_eq(resume(&stream), 0);
    ck_assert_int_eq(sem_init(&holding.go_on, 0, 0), 0);
    ck_assert_int_eq(sem_init(&holding.over, 0, 0), 0);
    ck_assert_int_eq(store_object_submit(store, &holding.job), 0);
    while (upload_wants_more(stream.upload) && sent <= UPLOAD_WINDOW_BYTES) {
        ck_assert_int_eq(
            upload_chunk(stream.upload, sent, span_of(data, UPLOAD_CHUNK_BYTES), &problem), 0);
        sent += UPLOAD_CHUNK_BYTES;
    }
    ck_assert_uint_eq(sent, UPLOAD_WINDOW_BYTES);
    sem_post(&holding.go_on);
    for (uint64_t acked = 0; acked < sent;) {
        const struct upload_event event = next(&stream);

        ck_assert_int_eq(event.type, UPLOAD_ACK);
        ck_assert_uint_gt(event.offset, acked);
        acked = event.offset;
    }
    ck_assert(upload_wants_more(stream.upload));
    stream.upload = upload_close(stream.upload);
    sem_wait(&holding.over);
    free(data);
}
END_TEST

START_TEST(more_streams_than_there_may_be_are_told_so)
{
    struct upload_header header = header_of("a");
    uint8_t keys[3][16] = { { 1 }, { 2 }, { 3 } };
    struct stream streams[3];

    for (size_t i = 0; i < 3; i++) {
        header.key = span_of(keys[i], 16);
        ck_assert_int_eq(open_stream(&streams[i], &header), i < 2 ? 0 : UPLOAD_BUSY);
    }
    streams[0].upload = upload_close(streams[0].upload);
    ck_assert_int_eq(open_stream(&streams[2], &header), 0);
    ck_assert_uint_eq(resume(&streams[2]), 0);
    for (size_t i = 1; i < 3; i++)
        streams[i].upload = upload_close(streams[i].upload);
}
END_TEST

START_TEST(one_agent_leaves_places_for_others)
{
    const struct uploads_limits limits = { .max_open = 3, .agent_open = 2 };
    struct upload_header header = header_of("a");
    struct upload_problem problem;
    struct stream streams[4];
    struct upload *upload;

    uploads_set_limits(uploads, &limits);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(open_stream(&streams[i], &header), 0);
    ck_assert_int_eq(upload_open(&upload, uploads, &header, wake, NULL, &problem), UPLOAD_BUSY);
    ck_assert_str_eq(problem.quota, "uploads.agent_open");
    header.agent++;
    ck_assert_int_eq(open_stream(&streams[2], &header), 0);
    ck_assert_int_eq(upload_open(&upload, uploads, &header, wake, NULL, &problem), UPLOAD_BUSY);
    ck_assert_str_eq(problem.quota, "uploads.max_open");
    streams[0].upload = upload_close(streams[0].upload);
    header.agent--;
    ck_assert_int_eq(open_stream(&streams[3], &header), 0);
    for (size_t i = 1; i < 4; i++)
        streams[i].upload = upload_close(streams[i].upload);
}
END_TEST

START_TEST(a_stopped_store_ends_what_is_open)
{
    const struct upload_header header = header_of("a");
    struct stream stream, late;
    struct upload_event event;
    uint64_t acked = 0;

    ck_assert_int_eq(open_stream(&stream, &header), 0);
    ck_assert_uint_eq(resume(&stream), 0);
    store_stop(store);
    ck_assert_int_eq(chunk(&stream, 0, "hello"), UPLOAD_STOPPED);
    event = last(&stream, &acked);
    ck_assert_int_eq(event.outcome, UPLOAD_STOPPED);
    ck_assert_uint_eq(acked, 0);
    ck_assert_int_eq(open_stream(&late, &header), UPLOAD_STOPPED);
    stream.upload = upload_close(stream.upload);
}
END_TEST

Suite *suite(void)
{
    Suite *suite = suite_create("server/upload");
    TCase *tcase = tcase_create("upload");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_bad_header_is_refused_by_its_field);
    tcase_add_test(tcase, an_id_is_read_as_it_is_written_and_no_other_way);
    tcase_add_test(tcase, chunks_are_acknowledged_and_the_result_is_their_digest);
    tcase_add_test(tcase, what_is_refused_ends_behind_the_acks);
    tcase_add_test(tcase, another_digest_drops_another_size_keeps);
    tcase_add_test(tcase, a_later_header_that_says_less_is_held_to_the_first);
    tcase_add_test(tcase, no_more_is_under_way_than_the_window);
    tcase_add_test(tcase, more_streams_than_there_may_be_are_told_so);
    tcase_add_test(tcase, one_agent_leaves_places_for_others);
    tcase_add_test(tcase, a_stopped_store_ends_what_is_open);
    suite_add_tcase(suite, tcase);
    return suite;
}
