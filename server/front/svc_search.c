/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.query.v1.QueryService, SearchLogs and TailLogs. */

#include "sentinel/query/v1/query.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/front/logs_answer.h"
#include "server/front/serial.h"

/* Entries of a message, where none of them is longer: clients take 4 MiB when nobody told them. */
#define MESSAGE_BYTES ((size_t) 1 << 20)
/* Made by one piece of a tail before the client has to take it. */
#define TAIL_BYTES ((size_t) 2 << 20)

/* ---- searching ---- */

static enum front_failure no_memory(int *ret_r)
{
    *ret_r = fault(-ENOMEM, "no memory for an answer about logs");
    return FAIL_FAULT;
}

static enum front_failure open_search(struct serial *serial, struct query_search **ret, int *ret_r)
{
    struct unary *unary = serial_unary(serial);
    const Sentinel__Query__V1__SearchLogsRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    struct query_problem problem = { 0 };
    struct query_search_options options = {
        .filter = {
            .selector = &selector,
            .words = (const char *const *) request->words,
            .n_words = request->n_words,
            .contains = (const char *const *) request->contains,
            .n_contains = request->n_contains,
            .regex = request->regex,
            .min_severity = request->min_severity_number,
            .source_pattern = request->source_pattern,
        },
        .is_oldest_first = request->oldest_first,
        .page_size = request->page_size,
        .page_token = request->page_token,
        .is_unwanted = serial_is_unwanted,
        .ctx = serial,
    };
    enum front_failure failure;

    failure = front_range_or_hour(unary, request->range, &options.from_us, &options.to_us);
    if (failure != FAIL_NOT)
        return failure;
    if (unary->is_short)
        return no_memory(ret_r);
    *ret_r = query_search_new(ret, unary->front->options.query, &options, &problem);
    return front_failure_of_query(*ret_r, &problem, &unary->detail);
}

/* All but the entries; protobuf lets them stand behind. */
static int pack_rest(const struct query_search_piece *piece, struct buf *to)
{
    Sentinel__Query__V1__SearchLogsResponse answer;
    Sentinel__Query__V1__SearchCost cost;

    sentinel__query__v1__search_logs_response__init(&answer);
    sentinel__query__v1__search_cost__init(&cost);
    answer.next_page_token = front_borrow(piece->next_page_token);
    answer.cost = &cost;
    cost.bytes_read = piece->cost.bytes_read;
    cost.blocks_read = piece->cost.blocks_read;
    cost.blocks_skipped = piece->cost.blocks_skipped;
    cost.blocks_damaged = piece->cost.blocks_damaged;
    cost.budget_reached = piece->is_budget_reached;
    return pass(wire_pack(&answer.base, to));
}

static enum front_failure
pack_piece(struct serial *serial, const struct query_search_piece *piece, int *ret_r)
{
    CLEANUP(logs_answer_deinit) struct logs_answer answer = { 0 };
    struct buf *message;

    /* A piece that found nothing is worth a message only at the end. */
    if (piece->n_entries == 0 && !piece->is_last)
        return FAIL_NOT;
    message = serial_message(serial);
    if (!message)
        return no_memory(ret_r);
    *ret_r = pack_rest(piece, message);
    if (*ret_r < 0)
        return FAIL_FAULT;
    for (size_t i = 0; i < piece->n_entries; i++)
        logs_answer_add(&answer, message, piece->agent_ids[i], &piece->entries[i].source,
                        &piece->entries[i].record);
    return buf_failed(message) ? no_memory(ret_r) : FAIL_NOT;
}

static enum front_failure
search_piece(struct serial *serial, void **work, enum serial_state *ret_state, int *ret_r)
{
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    struct query_search *search = *work;
    struct query_search_piece piece = { 0 };
    struct query_problem problem = { 0 };
    enum front_failure failure;

    if (!search) {
        failure = open_search(serial, &search, ret_r);
        if (failure != FAIL_NOT)
            return failure;
        *work = search;
    }
    arena_init(&arena, FRONT_ANSWER_BYTES);
    *ret_r = query_search_next(search, &arena, &piece);
    failure = front_failure_of_query(*ret_r, &problem, &serial_unary(serial)->detail);
    if (failure == FAIL_NOT)
        failure = pack_piece(serial, &piece, ret_r);
    *ret_state = piece.is_last ? SERIAL_LAST : SERIAL_MORE;
    return failure;
}

static void close_search(void *work)
{
    (void) query_search_free(work);
}

static const struct serial_kind search_kind = {
    .piece = search_piece,
    .close = close_search,
};

static void search_on_open(struct rpc_call *call)
{
    serial_on_open(call, &search_kind);
}

const struct rpc_handler svc_query_search_logs = {
    .on_open = search_on_open,
    .on_message = serial_on_message,
    .on_half_close = serial_on_half_close,
    .on_writable = serial_on_writable,
    .on_drain = serial_on_drain,
    .on_closed = serial_on_closed,
};

/* ---- tailing ---- */

struct tail_work {
    struct query_tail *tail;
    struct logs_answer answer;
    struct serial *serial;
    struct buf *message; /* of this piece; NULL: none yet */
    size_t n_bytes;      /* made by this piece */
    bool has_failed;
};

static enum front_failure open_tail(struct serial *serial, struct tail_work *work, int *ret_r)
{
    struct unary *unary = serial_unary(serial);
    const Sentinel__Query__V1__TailLogsRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    const struct query_log_filter filter = {
        .selector = &selector,
        .words = (const char *const *) request->words,
        .n_words = request->n_words,
        .contains = (const char *const *) request->contains,
        .n_contains = request->n_contains,
        .regex = request->regex,
        .min_severity = request->min_severity_number,
        .source_pattern = request->source_pattern,
    };
    struct query_problem problem = { 0 };

    if (unary->is_short)
        return no_memory(ret_r);
    work->serial = serial;
    *ret_r = query_tail_open(&work->tail, unary->front->options.query, &filter, serial_wake, serial,
                             &problem);
    if (*ret_r == QUERY_UNWANTED)
        return FAIL_STOPPING;
    /* An empty message says that the tail is open. */
    if (*ret_r == QUERY_OK && !serial_message(serial))
        return no_memory(ret_r);
    return front_failure_of_query(*ret_r, &problem, &unary->detail);
}

static bool has_room(void *ctx)
{
    const struct tail_work *work = ctx;

    return work->n_bytes < TAIL_BYTES && !work->has_failed && !serial_is_unwanted(work->serial);
}

static void on_entry(void *ctx,
                     const char *agent_id,
                     const struct logblock_source *source,
                     const struct logblock_record *record)
{
    struct tail_work *work = ctx;
    const size_t n_bytes = logs_answer_bytes(source, record);

    if (!work->message || work->message->len + n_bytes > MESSAGE_BYTES)
        work->message = serial_message(work->serial);
    if (!work->message) {
        work->has_failed = true;
        return;
    }
    work->n_bytes += n_bytes;
    logs_answer_add(&work->answer, work->message, agent_id, source, record);
    work->has_failed = work->has_failed || buf_failed(work->message);
}

/* On record with the last message, or with one of its own. */
static enum front_failure say_missed(struct tail_work *work, uint64_t n_missed, int *ret_r)
{
    Sentinel__Query__V1__TailLogsResponse answer;

    if (n_missed == 0)
        return FAIL_NOT;
    if (!work->message)
        work->message = serial_message(work->serial);
    if (!work->message)
        return no_memory(ret_r);
    sentinel__query__v1__tail_logs_response__init(&answer);
    answer.missed = n_missed;
    *ret_r = wire_pack(&answer.base, work->message);
    return *ret_r < 0 ? FAIL_FAULT : FAIL_NOT;
}

static enum front_failure
tail_piece(struct serial *serial, void **ctx, enum serial_state *ret_state, int *ret_r)
{
    struct tail_work *work = *ctx;
    struct query_tail_read read = { .has_room = has_room, .on_entry = on_entry };
    enum front_failure failure;

    if (!work) {
        *ctx = work = calloc(1, sizeof(*work));
        if (!work)
            return no_memory(ret_r);
        failure = open_tail(serial, work, ret_r);
        if (failure != FAIL_NOT)
            return failure;
    }
    work->message = NULL;
    work->n_bytes = 0;
    read.ctx = work;
    *ret_r = query_tail_read(work->tail, &read);
    if (*ret_r != 0)
        return FAIL_FAULT;
    if (work->has_failed)
        return no_memory(ret_r);
    *ret_state = read.ret_is_drained ? SERIAL_WAIT : SERIAL_MORE;
    return say_missed(work, read.ret_missed, ret_r);
}

static void close_tail(void *ctx)
{
    struct tail_work *work = ctx;

    if (!work)
        return;
    work->tail = query_tail_close(work->tail);
    logs_answer_deinit(&work->answer);
    free(work);
}

static const struct serial_kind tail_kind = {
    .piece = tail_piece,
    .close = close_tail,
    .is_endless = true,
};

static void tail_on_open(struct rpc_call *call)
{
    serial_on_open(call, &tail_kind);
}

const struct rpc_handler svc_query_tail_logs = {
    .on_open = tail_on_open,
    .on_message = serial_on_message,
    .on_half_close = serial_on_half_close,
    .on_writable = serial_on_writable,
    .on_drain = serial_on_drain,
    .on_closed = serial_on_closed,
};
