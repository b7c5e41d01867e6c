/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's keeper: one timer looks at the files and the time, one exchange at most is under
 * way. Every step is on disk before the next one begins, so a start finds what the last process
 * was at.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/identity/inside.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/base/rand.h"
#include "common/base/text.h"
#include "common/log/log.h"

/* Files are looked at this often: `sentinel-agent enroll` runs beside the daemon. */
#define LOOK_US INT64_C(5000000)
#define LOOK_SOON_US INT64_C(50000)
#define CLOSED_MEANS_EXPIRED 3u
/* The last fifth of a life is late for a renewal. */
#define WARN_SHARE 5
/* A hub's clock counts when this machine's is further from it. */
#define CLOCK_APART_US INT64_C(60000000)

enum refusal { REFUSED_NOT, REFUSED_NEEDS_TOKEN, REFUSED_FORKED, REFUSED_CLONED, REFUSED_REVOKED };

struct keeper {
    struct keeper_options options;
    char *directory, *state_directory, *hub, *server_name;
    struct rpc_queue *queue;
    struct rand rand;
    struct loop_timer look, changed;

    /* What is in use. */
    uint64_t use; /* from 1; another one with each other leaf */
    bool has_identity, is_candidate;
    struct tls_facts facts;
    struct timespec seen; /* client-cert.pem's */
    char problem[384];
    enum refusal refusal;

    /* Renewal. */
    struct exchange *exchange;
    bool is_over; /* the exchange: free it when its callback has returned */
    int lock_fd;
    struct place_request request;
    unsigned n_failed;
    unsigned n_closed; /* connections in a row that the hub closed without a word */
    wall_us next, last_attempt, last_renewal, grace_ends;
    char reason[64], message[256];

    uint64_t generation;
    wall_us hub_time;    /* at the last welcome; 0: there was none */
    int64_t hub_boot_us; /* the same instant in CLOCK_BOOTTIME */
    bool has_note_failed;
    bool has_warned; /* of its end, for this certificate */
};

static void arm(struct keeper *keeper, struct loop_timer *timer, int64_t delay_us)
{
    ensure(loop_timer_arm_in(keeper->options.loop, timer, delay_us) == 0);
}

static int64_t boot_us(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
        return clock_mono().us;
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The hub's clock minus ours, also when ours was set since the last welcome; 0 when not known. */
static int64_t offset_of(const struct keeper *keeper)
{
    if (keeper->hub_time.us == 0)
        return 0;
    return keeper->hub_time.us + (boot_us() - keeper->hub_boot_us) - clock_wall().us;
}

/* The hub's time when it is known to be another. */
static wall_us time_of(const struct keeper *keeper)
{
    int64_t offset_us = offset_of(keeper);
    wall_us now = clock_wall();

    if (offset_us > CLOCK_APART_US || offset_us < -CLOCK_APART_US)
        now.us += offset_us;
    return now;
}

/* ---- what is on disk ---- */

/* Outcomes: PLACE_ABSENT (and others of tls_identity_load() as PLACE_BAD). */
static int read_files(struct keeper *keeper,
                      struct tls_identity *ret,
                      bool *ret_is_candidate,
                      struct tls_why *why)
{
    int r = place_load(keeper->directory, PLACE_CANDIDATE, ret);

    *ret_is_candidate = r == 0;
    if (r <= 0)
        return pass(r);
    r = tls_identity_load(keeper->directory, ret, why);
    return r < 0 ? pass(r) : r == 0 ? 0 : r == TLS_ABSENT ? PLACE_ABSENT : PLACE_BAD;
}

static void note_seen(struct keeper *keeper)
{
    char path[4096];
    struct stat info;

    snprintf(path, sizeof(path), "%s/client-cert.pem", keeper->directory);
    keeper->seen = stat(path, &info) == 0 ? info.st_mtim : (struct timespec){ 0 };
}

static bool has_changed(const struct keeper *keeper)
{
    char path[4096];
    struct stat info;

    snprintf(path, sizeof(path), "%s/client-cert.pem", keeper->directory);
    if (stat(path, &info) != 0)
        return keeper->seen.tv_sec != 0;
    return info.st_mtim.tv_sec != keeper->seen.tv_sec ||
           info.st_mtim.tv_nsec != keeper->seen.tv_nsec;
}

/* By the hub's clock as far as it is known; or the hub hangs up on it each time. */
static bool is_over_for_hub(const struct keeper *keeper)
{
    return keeper->n_closed >= CLOSED_MEANS_EXPIRED ||
           time_of(keeper).us >= keeper->facts.not_after.us;
}

/* The first time of a certificate; it follows from the certificate itself. */
static void plan(struct keeper *keeper)
{
    keeper->n_failed = 0;
    keeper->next = schedule_first(keeper->facts.not_before, keeper->facts.not_after,
                                  schedule_unit(keeper->facts.sha256));
}

/* A leaf that was not in use before: nothing of the old one's troubles counts. */
static void take_up(struct keeper *keeper, const struct tls_facts *facts)
{
    keeper->facts = *facts;
    keeper->use++;
    keeper->refusal = REFUSED_NOT;
    keeper->n_closed = 0;
    keeper->has_warned = false;
    plan(keeper);
}

/* Returns whether another identity is in use now. */
static bool reload(struct keeper *keeper)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct tls_why why = { "the identity cannot be read; see the log" };
    struct tls_facts facts;
    bool is_candidate, had = keeper->has_identity;
    int r;

    note_seen(keeper);
    r = read_files(keeper, &identity, &is_candidate, &why);
    if (r == 0)
        r = answer_read_leaf(buf_span(&identity.chain_pem), &facts);
    keeper->has_identity = r == 0;
    snprintf(keeper->problem, sizeof(keeper->problem), "%s", r ? why.text : "");
    if (r)
        return false;
    keeper->is_candidate = is_candidate;
    if (had && memcmp(facts.sha256, keeper->facts.sha256, sizeof(facts.sha256)) == 0)
        return false;
    take_up(keeper, &facts);
    return true;
}

static void change(struct keeper *keeper)
{
    arm(keeper, &keeper->changed, 0);
}

static void on_change(struct loop_timer *timer)
{
    struct keeper *keeper = timer->ctx;

    keeper->options.on_changed(keeper->options.ctx);
}

/* ---- the end of an attempt to renew ---- */

static void end_attempt(struct keeper *keeper)
{
    place_request_deinit(&keeper->request);
    keeper->request = (struct place_request){ 0 };
    fd_closep(&keeper->lock_fd);
    keeper->is_over = true;
    arm(keeper, &keeper->look, 0);
}

static void fail(struct keeper *keeper, const char *reason, const char *message)
{
    char text[TEXT_DURATION_BYTES];
    bool is_said = keeper->n_failed > 0 && reason && strcmp(keeper->reason, reason) == 0;
    wall_us now = time_of(keeper);
    int64_t wait_us;

    keeper->n_failed++;
    wait_us =
        schedule_retry(now, keeper->facts.not_after, keeper->n_failed, rand_unit(&keeper->rand));
    keeper->next = (wall_us){ now.us + wait_us };
    snprintf(keeper->reason, sizeof(keeper->reason), "%s", reason ? reason : "");
    snprintf(keeper->message, sizeof(keeper->message), "%s", message);
    log_event(is_said ? LOG_DEBUG : LOG_WARN, "renewal_failed", LOG_S("reason", reason),
              LOG_S("message", message), LOG_U("attempts", keeper->n_failed),
              LOG_S("retry_in", text_of_duration_us(wait_us / 1000 * 1000, text)));
}

static bool is_one_of(const char *reason, const char *const *names)
{
    for (; reason && *names; names++) {
        if (strcmp(reason, *names) == 0)
            return true;
    }
    return false;
}

/* The candidate is nothing to the hub: what was before it goes on. */
static void drop_candidate(struct keeper *keeper, const char *reason)
{
    log_event(LOG_WARN, "candidate_dropped", LOG_S("serial", keeper->facts.serial),
              LOG_S("reason", reason));
    place_drop(keeper->directory, PLACE_CANDIDATE);
    keeper->is_candidate = false;
    if (reload(keeper)) {
        change(keeper);
        arm(keeper, &keeper->look, 0);
    }
}

/* What the hub's word about an identity means for it. Returns whether it is about the identity. */
static bool weigh(struct keeper *keeper, const char *reason)
{
    static const char *const unknown[] = { "CERTIFICATE_UNKNOWN", "CERTIFICATE_SUPERSEDED",
                                           "CERTIFICATE_NOT_CURRENT", NULL };
    static const char *const over[] = { "GRACE_OVER", "CHAIN_UNTRUSTED", NULL };
    static const char *const forked[] = { "LINEAGE_FORKED", NULL };
    static const char *const cloned[] = { "AGENT_ID_CLONED", NULL };
    static const char *const revoked[] = { "CERTIFICATE_REVOKED", NULL };

    if (is_one_of(reason, unknown)) {
        if (keeper->is_candidate)
            drop_candidate(keeper, reason);
        else
            keeper->refusal = REFUSED_NEEDS_TOKEN;
        return true;
    }
    if (is_one_of(reason, over))
        keeper->refusal = REFUSED_NEEDS_TOKEN;
    else if (is_one_of(reason, forked))
        keeper->refusal = REFUSED_FORKED;
    else if (is_one_of(reason, cloned))
        keeper->refusal = REFUSED_CLONED;
    else if (is_one_of(reason, revoked))
        keeper->refusal = REFUSED_REVOKED;
    else
        return false;
    return true;
}

/* ---- an attempt to renew ---- */

/* Outcomes: PLACE_BAD. */
static int
keep_answer(struct keeper *keeper, const struct exchange_result *result, struct tls_why *why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct answer answer = result->answer;
    int r;

    answer.agent_id = keeper->facts.common_name; /* a renewal makes nobody another agent */
    r = answer_check(&answer, buf_span(&keeper->request.key_pem), time_of(keeper), &identity, why);
    if (r == 0)
        r = place_answer(keeper->directory, PLACE_REQUEST, &identity, why);
    if (r == 0)
        r = place_promote(keeper->directory);
    return r < 0 ? pass(r) : r;
}

static void on_answer(struct keeper *keeper, const struct exchange_result *result)
{
    struct tls_why why = { "the new certificate could not be kept; see the log" };
    char until[TEXT_TIME_BYTES];

    if (keep_answer(keeper, result, &why) != 0) {
        fail(keeper, "BAD_ANSWER", why.text);
        return;
    }
    faultpoint("identity_candidate");
    keeper->reason[0] = keeper->message[0] = '\0';
    (void) reload(keeper);
    log_event(LOG_INFO, "certificate_renewed", LOG_S("serial", keeper->facts.serial),
              LOG_S("not_after", text_of_time(keeper->facts.not_after, until)));
    change(keeper);
}

static void on_done(void *ctx, const struct exchange_result *result)
{
    struct keeper *keeper = ctx;
    const struct wire_error *error = &result->error;

    if (result->grace_ends.us)
        keeper->grace_ends = result->grace_ends;
    if (error->code == RPC_OK) {
        on_answer(keeper, result);
    } else {
        fail(keeper, error->reason ? error->reason : rpc_code_name(error->code), error->message);
        (void) weigh(keeper, error->reason);
    }
    end_attempt(keeper);
}

/* Outcomes: PLACE_BAD, PLACE_BUSY. */
static int begin(struct keeper *keeper, struct tls_why *why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct exchange_options options = {
        .dial = { .queue = keeper->queue,
                  .hub = keeper->hub,
                  .server_name = keeper->server_name,
                  .is_tls13_only = keeper->options.is_tls13_only },
        .on_done = on_done,
        .ctx = keeper,
    };
    bool is_late = is_over_for_hub(keeper), is_candidate;
    int r = place_lock(keeper->directory, &keeper->lock_fd, why);

    if (r == 0)
        r = read_files(keeper, &identity, &is_candidate, why);
    if (r == 0)
        r = place_prepare(keeper->directory, PLACE_REQUEST, "", &keeper->request, why);
    if (r)
        return r < 0 ? pass(r) : r;
    options.dial.roots_pem = buf_span(&identity.roots_pem);
    options.csr_der = buf_span(&keeper->request.csr_der);
    *(is_late ? &options.expired_chain_pem : &options.dial.chain_pem) =
        buf_span(&identity.chain_pem);
    *(is_late ? &options.expired_key_pem : &options.dial.key_pem) = buf_span(&identity.key_pem);
    r = exchange_new(&keeper->exchange, &options);
    return r < 0 ? pass(r) : r;
}

static void renew(struct keeper *keeper)
{
    struct tls_why why = { "the agent failed to begin; see its log" };
    int r;

    keeper->last_attempt = clock_wall();
    r = begin(keeper, &why);
    if (r == 0)
        return;
    fail(keeper, r == PLACE_BUSY ? "IDENTITY_BUSY" : "IDENTITY_UNUSABLE", why.text);
    end_attempt(keeper);
}

/* ---- the timer ---- */

/* A candidate is waited for, unless its own time is over. One that the hub refuses is not asked
 * for; one that has expired is, as somebody may readmit it. */
static bool wants_renewal(const struct keeper *keeper, wall_us now)
{
    if (!keeper->has_identity || keeper->exchange || now.us < keeper->next.us)
        return false;
    return is_over_for_hub(keeper) || (!keeper->is_candidate && keeper->refusal == REFUSED_NOT);
}

/* Renewals should have come long before: somebody should look. */
static void warn_of_end(struct keeper *keeper, wall_us now)
{
    int64_t life_us = keeper->facts.not_after.us - keeper->facts.not_before.us;
    int64_t left_us = keeper->facts.not_after.us - now.us;
    char left[TEXT_DURATION_BYTES];

    if (!keeper->has_identity || keeper->has_warned || left_us * WARN_SHARE > life_us)
        return;
    keeper->has_warned = true;
    log_event(
        LOG_WARN, left_us > 0 ? "certificate_ends_soon" : "certificate_expired",
        LOG_S("serial", keeper->facts.serial),
        LOG_S("left", text_of_duration_us(left_us > 0 ? left_us / 1000000 * 1000000 : 0, left)),
        LOG_U("failed_attempts", keeper->n_failed), LOG_S("last_reason", keeper->reason));
}

static void on_look(struct loop_timer *timer)
{
    struct keeper *keeper = timer->ctx;
    wall_us now = time_of(keeper);
    int64_t wait_us;

    if (keeper->is_over) {
        keeper->exchange = exchange_free(keeper->exchange);
        keeper->is_over = false;
    }
    if ((!keeper->has_identity || has_changed(keeper)) && !keeper->exchange && reload(keeper))
        change(keeper);
    warn_of_end(keeper, now);
    if (wants_renewal(keeper, now))
        renew(keeper);
    wait_us = keeper->next.us - time_of(keeper).us;
    if (wait_us < LOOK_SOON_US)
        wait_us = LOOK_SOON_US;
    if (keeper->is_over)
        wait_us = 0;
    arm(keeper, &keeper->look, wait_us < LOOK_US ? wait_us : LOOK_US);
}

/* ---- life ---- */

static int copy(char **to, const char *text)
{
    *to = text ? strdup(text) : NULL;
    return text && !*to ? fault(-ENOMEM, "no memory for the identity's keeper") : 0;
}

/* What cannot be finished now is said, and is tried at the next start; nothing is lost by it. */
static void recover(struct keeper *keeper)
{
    struct tls_why why = { "" };
    int fd = -1;
    int r = place_lock(keeper->directory, &fd, &why);

    if (r == 0)
        r = place_recover(keeper->directory, &why);
    if (r > 0 && why.text[0])
        log_event(LOG_WARN, "identity_unfinished", LOG_S("directory", keeper->directory),
                  LOG_S("message", why.text));
    fd_closep(&fd);
}

int keeper_new(struct keeper **ret, const struct keeper_options *options)
{
    CLEANUP(keeper_freep) struct keeper *keeper = calloc(1, sizeof(*keeper));
    int r;

    if (!keeper)
        return fault(-ENOMEM, "no memory for the identity's keeper");
    ensure(options->loop && options->on_changed);
    keeper->options = *options;
    keeper->lock_fd = -1;
    keeper->look = (struct loop_timer){ .fn = on_look, .ctx = keeper };
    keeper->changed = (struct loop_timer){ .fn = on_change, .ctx = keeper };
    rand_init_from_system(&keeper->rand);
    r = copy(&keeper->directory, options->directory);
    if (r == 0)
        r = copy(&keeper->state_directory, options->state_directory);
    if (r == 0)
        r = copy(&keeper->hub, options->hub);
    if (r == 0)
        r = copy(&keeper->server_name, options->server_name);
    if (r == 0)
        r = rpc_queue_new(&keeper->queue, options->loop);
    if (r)
        return fold(r);
    if (access(keeper->directory, F_OK) == 0)
        recover(keeper);
    keeper->generation = notes_read_generation(keeper->directory);
    (void) reload(keeper);
    *ret = take(keeper);
    return 0;
}

struct keeper *keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return NULL;
    loop_timer_disarm(keeper->options.loop, &keeper->look);
    loop_timer_disarm(keeper->options.loop, &keeper->changed);
    keeper->exchange = exchange_free(keeper->exchange);
    place_request_deinit(&keeper->request);
    fd_closep(&keeper->lock_fd);
    keeper->queue = rpc_queue_free(keeper->queue);
    free(keeper->directory);
    free(keeper->state_directory);
    free(keeper->hub);
    free(keeper->server_name);
    free(keeper);
    return NULL;
}

int keeper_start(struct keeper *keeper)
{
    return pass(loop_timer_arm_in(keeper->options.loop, &keeper->look, 0));
}

bool keeper_is_absent(const char *directory)
{
    static const char *const names[] = { "client-cert.pem", PLACE_CANDIDATE "/client-cert.pem",
                                         PLACE_REQUEST "/client-cert.pem",
                                         PLACE_ENROLMENT "/client-cert.pem" };
    char path[4096];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        if (access(path, F_OK) == 0 || errno != ENOENT)
            return false;
    }
    return true;
}

int keeper_get(struct keeper *keeper,
               struct tls_identity *ret,
               uint64_t *ret_use,
               struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    char until[TEXT_TIME_BYTES];
    bool is_candidate;
    int r;

    /* Somebody may have put another one there since. */
    if (!keeper->exchange)
        (void) reload(keeper);
    r = read_files(keeper, &identity, &is_candidate, ret_why);
    if (r)
        return r < 0 ? pass(r) : KEEPER_UNUSABLE;
    if (time_of(keeper).us >= keeper->facts.not_after.us) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the certificate expired at %s; the hub is asked to renew it",
                 text_of_time(keeper->facts.not_after, until));
        return KEEPER_UNUSABLE;
    }
    *ret = identity;
    identity = (struct tls_identity){ 0 }; /* moved */
    *ret_use = keeper->use;
    return 0;
}

/* ---- what the hub says ---- */

static void commit(struct keeper *keeper)
{
    struct tls_why why = { "see the log" };
    int fd = -1;
    int r;

    faultpoint("identity_accepted");
    r = place_lock(keeper->directory, &fd, &why);
    if (r == 0)
        r = place_commit(keeper->directory, PLACE_CANDIDATE, &why);
    fd_closep(&fd);
    if (r) { /* it goes on as the candidate, and the next welcome tries again */
        log_event(LOG_WARN, "identity_unfinished", LOG_S("directory", keeper->directory),
                  LOG_S("message", why.text));
        return;
    }
    keeper->is_candidate = false;
    keeper->last_renewal = clock_wall();
    note_seen(keeper);
    log_event(LOG_INFO, "identity_current", LOG_S("serial", keeper->facts.serial));
}

static void note_generation(struct keeper *keeper, uint64_t generation)
{
    if (generation <= keeper->generation)
        return;
    keeper->generation = generation;
    if (notes_write_generation(keeper->directory, generation) != 0 && !keeper->has_note_failed) {
        keeper->has_note_failed = true;
        log_event(LOG_WARN, "identity_note_unwritable", LOG_S("directory", keeper->directory));
    }
}

void keeper_on_welcome(struct keeper *keeper, uint64_t use, const struct keeper_welcome *welcome)
{
    if (welcome->hub_us) {
        keeper->hub_time = (wall_us){ welcome->hub_us };
        keeper->hub_boot_us = boot_us();
    }
    note_generation(keeper, welcome->generation);
    if (welcome->anchor.sha256.len && notes_add_anchor(keeper->state_directory, welcome) != 0 &&
        !keeper->has_note_failed) {
        keeper->has_note_failed = true;
        log_event(LOG_WARN, "identity_note_unwritable",
                  LOG_S("directory", keeper->state_directory));
    }
    if (use != keeper->use)
        return;
    keeper->refusal = REFUSED_NOT;
    keeper->n_closed = 0;
    if (keeper->is_candidate)
        commit(keeper);
}

/* A certificate that our clock calls valid may have expired by the hub's, which then ends the
 * handshake without a word that reaches us: once is nothing, some times in a row is a reason to
 * ask. */
static void suspect_end(struct keeper *keeper)
{
    if (++keeper->n_closed != CLOSED_MEANS_EXPIRED)
        return;
    keeper->next = (wall_us){ 0 };
    arm(keeper, &keeper->look, 0);
}

void keeper_on_ended(struct keeper *keeper, uint64_t use, const char *reason)
{
    /* What was told of an identity that is no longer in use is no news. */
    if (use != keeper->use || !reason)
        return;
    if (strcmp(reason, IDENTITY_CLOSED) == 0 || strcmp(reason, "CERTIFICATE_EXPIRED") == 0)
        suspect_end(keeper);
    (void) weigh(keeper, reason);
}

uint64_t keeper_generation(const struct keeper *keeper)
{
    return keeper->generation;
}

/* ---- status ---- */

const char *keeper_state_name(enum keeper_state state)
{
    static const char *const names[] = { "ok",      "renewing",    "not-yet-valid",
                                         "expired", "needs-token", "forked",
                                         "cloned",  "revoked",     "unreadable" };

    return names[state];
}

const char *keeper_state_remedy(enum keeper_state state)
{
    static const char *const remedies[] = {
        [KEEPER_OK] = "",
        [KEEPER_RENEWING] = "",
        [KEEPER_NOT_YET] = "this machine's clock is behind: set it",
        [KEEPER_EXPIRED] = "",
        [KEEPER_NEEDS_TOKEN] = "on the hub: sentinelctl agents readmit, or sentinelctl tokens "
                               "create and here sentinel-agent enroll",
        [KEEPER_FORKED] = "two machines renew one identity: stop the copy, then on the hub: "
                          "sentinelctl agents readmit",
        [KEEPER_CLONED] = "another machine uses this identity: stop it, or enrol this one with a "
                          "token of its own",
        [KEEPER_REVOKED] = "it was taken away on the hub: sentinelctl agents readmit, or a new "
                           "token and sentinel-agent enroll",
        [KEEPER_UNREADABLE] = "mend it as said, or enrol again: sentinel-agent enroll",
    };

    return remedies[state];
}

static enum keeper_state state_of(const struct keeper *keeper, wall_us now)
{
    static const enum keeper_state by_refusal[] = {
        [REFUSED_NEEDS_TOKEN] = KEEPER_NEEDS_TOKEN,
        [REFUSED_FORKED] = KEEPER_FORKED,
        [REFUSED_CLONED] = KEEPER_CLONED,
        [REFUSED_REVOKED] = KEEPER_REVOKED,
    };

    if (!keeper->has_identity)
        return keeper->seen.tv_sec ? KEEPER_UNREADABLE : KEEPER_NEEDS_TOKEN;
    if (keeper->refusal != REFUSED_NOT)
        return by_refusal[keeper->refusal];
    if (now.us >= keeper->facts.not_after.us)
        return KEEPER_EXPIRED;
    if (now.us < keeper->facts.not_before.us)
        return KEEPER_NOT_YET;
    return keeper->exchange || keeper->is_candidate || keeper->n_failed ? KEEPER_RENEWING
                                                                        : KEEPER_OK;
}

static int percent_left(const struct tls_facts *facts, wall_us now)
{
    int64_t life = facts->not_after.us - facts->not_before.us;
    int64_t left = facts->not_after.us - now.us;

    if (life <= 0 || left <= 0)
        return 0;
    return left >= life ? 100 : (int) ((double) left * 100 / (double) life);
}

/* A certificate is dated back, so a clock before its beginning is behind by more than that. */
static void say_clock(const struct keeper *keeper, char to[static 384])
{
    char ours[TEXT_TIME_BYTES], from[TEXT_TIME_BYTES], apart[TEXT_DURATION_BYTES];
    wall_us now = clock_wall();

    snprintf(
        to, 384,
        "this machine's clock says %s, but the certificate begins at %s: the clock is at "
        "least %s behind",
        text_of_time(now, ours), text_of_time(keeper->facts.not_before, from),
        text_of_duration_us((keeper->facts.not_before.us - now.us) / 1000000 * 1000000, apart));
}

void keeper_get_status(const struct keeper *keeper, struct keeper_status *ret)
{
    wall_us now = time_of(keeper);

    *ret = (struct keeper_status){
        .state = state_of(keeper, now),
        .last_renewal = keeper->last_renewal,
        .last_attempt = keeper->last_attempt,
        .n_failed = keeper->n_failed,
        .grace_ends = keeper->grace_ends,
        .generation = keeper->generation,
    };
    memcpy(ret->last_reason, keeper->reason, sizeof(ret->last_reason));
    memcpy(ret->last_message, keeper->message, sizeof(ret->last_message));
    memcpy(ret->problem, keeper->problem, sizeof(ret->problem));
    ret->is_clock_known = keeper->hub_time.us != 0;
    ret->clock_offset_us = offset_of(keeper);
    if (!keeper->has_identity)
        return;
    if (ret->state == KEEPER_NOT_YET)
        say_clock(keeper, ret->problem);
    snprintf(ret->agent_id, sizeof(ret->agent_id), "%.63s", keeper->facts.common_name);
    memcpy(ret->serial, keeper->facts.serial, sizeof(ret->serial));
    ret->not_before = keeper->facts.not_before;
    ret->not_after = keeper->facts.not_after;
    ret->percent_left = percent_left(&keeper->facts, now);
    ret->next_renewal = keeper->next;
}
