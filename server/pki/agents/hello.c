/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/agents/hello.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/crypto/crypto.h"
#include "server/pki/enrol/lineage.h"

/*
 * What is known of the machines behind agents' names beside the registry: which processes came, in
 * memory alone. One that was superseded by another and comes again is a second machine (or a second
 * agent on it): a restart never takes its old instance along.
 */

#define OLD_INSTANCES 8
#define OLD_FOR_US (INT64_C(24) * 3600 * 1000000)
/* A machine of another fingerprint becomes the registered one when that did not come so long: a
 * disk or a network card was changed. */
#define MOVES_AFTER_US (INT64_C(24) * 3600 * 1000000)
#define TELL_EVERY_US (INT64_C(60) * 1000000) /* of one agent: who hammers fills no disk */

struct instance {
    uint8_t sha256[32];
    int64_t until_us; /* 0: none */
};
struct hello {
    char name[64];
    uint8_t current[32];
    bool has_current, is_behind_told;
    struct instance old[OLD_INSTANCES];
    size_t next_old;
    int64_t owner_seen_us; /* the registered fingerprint, or when we first heard of the agent */
    uint64_t n_untold;     /* clones that are not in the row yet */
    int64_t told_us, denied_us;
};
struct pki_hellos {
    pthread_mutex_t lock;
    struct map by_name; /* under `lock`; as many as there are agents */
};

int pki_hellos_open(struct pki *pki)
{
    pki->hellos = calloc(1, sizeof(*pki->hellos));
    if (!pki->hellos)
        return fault(-ENOMEM, "no memory for the agents' machines");
    pthread_mutex_init(&pki->hellos->lock, NULL);
    return 0;
}

void pki_hellos_close(struct pki *pki)
{
    void *one;

    if (!pki->hellos)
        return;
    for (size_t at = 0; (one = map_next(&pki->hellos->by_name, &at)) != NULL;)
        free(one);
    map_deinit(&pki->hellos->by_name);
    pthread_mutex_destroy(&pki->hellos->lock);
    free(pki->hellos);
    pki->hellos = NULL;
}

/* Under the lock. */
static int find_or_add(struct pki *pki, const char *name, int64_t now_us, struct hello **ret)
{
    struct hello *one = map_get(&pki->hellos->by_name, span_of_text(name));

    if (!one) {
        one = calloc(1, sizeof(*one));
        if (!one)
            return fault(-ENOMEM, "no memory for an agent's machine");
        snprintf(one->name, sizeof(one->name), "%s", name);
        one->owner_seen_us = now_us;
        int r = map_put(&pki->hellos->by_name, span_of_text(one->name), one);
        if (r != 0) {
            free(one);
            return pass(r);
        }
    }
    *ret = one;
    return 0;
}

/* ---- the rules ---- */

enum verdict { WELCOME, WELCOME_AS_CLONE, REFUSED_AS_CLONE };

struct judgement {
    enum verdict verdict;
    const char *what; /* of a clone: for people */
    bool sets_fingerprint;
};

static bool has_any(const struct identity_fingerprint *fingerprint)
{
    bool has = false;

    for (unsigned i = 0; i < IDENTITY_N_SOURCES; i++)
        has |= fingerprint->has[i];
    return has;
}

static bool takes_turns(const struct hello *one, const uint8_t sha256[32], int64_t now_us)
{
    for (size_t i = 0; i < OLD_INSTANCES; i++) {
        if (one->old[i].until_us > now_us && memcmp(one->old[i].sha256, sha256, 32) == 0)
            return true;
    }
    return false;
}

static void make_current(struct hello *one, const uint8_t sha256[32], int64_t now_us)
{
    for (size_t i = 0; i < OLD_INSTANCES; i++) {
        if (memcmp(one->old[i].sha256, sha256, 32) == 0)
            one->old[i].until_us = 0;
    }
    if (one->has_current) {
        struct instance *old = &one->old[one->next_old++ % OLD_INSTANCES];
        memcpy(old->sha256, one->current, sizeof(old->sha256));
        old->until_us = now_us + OLD_FOR_US;
    }
    memcpy(one->current, sha256, sizeof(one->current));
    one->has_current = true;
}

static struct judgement judge_fingerprint(struct hello *one,
                                          const struct pki_hello *hello,
                                          const struct pki_agent_row *row,
                                          int64_t now_us)
{
    struct judgement judgement = { .verdict = WELCOME };

    if (!row->agent.has_fingerprint) {
        judgement.sets_fingerprint = has_any(hello->fingerprint);
        one->owner_seen_us = now_us;
    } else if (identity_fingerprint_agrees(&row->fingerprint, hello->fingerprint)) {
        one->owner_seen_us = now_us;
    } else if (hello->is_live && !span_equal(hello->instance, hello->live_instance)) {
        judgement.verdict = REFUSED_AS_CLONE;
        judgement.what = "another machine has this identity and is connected: its fingerprint is "
                         "the registered one";
    } else if (now_us - one->owner_seen_us >= MOVES_AFTER_US) {
        judgement.sets_fingerprint = true;
        one->owner_seen_us = now_us;
    }
    return judgement;
}

/* Under the lock. */
static struct judgement judge(struct hello *one,
                              const struct pki_hello *hello,
                              const struct pki_agent_row *row,
                              int64_t now_us)
{
    struct judgement judgement = judge_fingerprint(one, hello, row, now_us);
    uint8_t sha256[32];

    if (judgement.verdict != WELCOME)
        return judgement;
    crypto_sha256(hello->instance, sha256);
    if (one->has_current && memcmp(one->current, sha256, sizeof(sha256)) == 0)
        return judgement;
    if (takes_turns(one, sha256, now_us)) {
        judgement.verdict = hello->is_live ? REFUSED_AS_CLONE : WELCOME_AS_CLONE;
        judgement.what = "two processes take turns with this identity: a second agent on this "
                         "machine, or a copy of it";
    }
    if (judgement.verdict != REFUSED_AS_CLONE)
        make_current(one, sha256, now_us);
    return judgement;
}

/* ---- what goes on record ---- */

struct telling {
    const struct pki_hello *hello;
    struct judgement judgement;
    uint64_t n_clones; /* since the last time */
    uint64_t generation;
    bool tells_clone, tells_behind, tells_denied, sets_peer;
    char peer[64];
};

static int put_entry(struct pki_edit *edit,
                     const struct telling *telling,
                     enum audit_event event,
                     const struct audit_field *fields)
{
    char agent[PKI_OBJECT_BYTES];
    const struct audit_entry entry = { .event = event,
                                       .actor = pki_agent_object(telling->hello->name, agent),
                                       .source = telling->hello->peer,
                                       .object = agent,
                                       .fields = fields,
                                       .n_fields = 2 };

    return pass(pki_edit_audit(edit, &entry));
}

static int tell(struct pki_edit *edit, void *ctx)
{
    const struct telling *telling = ctx;
    const struct pki_hello *hello = telling->hello;
    struct pki_agent_row row = { 0 };
    char n[24], seen[24];

    int r = pki_edit_agent_get(edit, hello->name, &row);
    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    if (r == STORE_NOT_FOUND) { /* of an authority that registers by itself, or an older hub's */
        snprintf(row.agent.name, sizeof(row.agent.name), "%s", hello->name);
        row.agent.state = PKI_AGENT_ALLOWED;
        row.agent.enrolled = row.agent.changed = edit->now;
    }
    row.agent.n_clones += telling->n_clones;
    if (telling->judgement.sets_fingerprint)
        row.fingerprint = *hello->fingerprint;
    if (telling->sets_peer)
        snprintf(row.agent.last_peer, sizeof(row.agent.last_peer), "%s", telling->peer);
    r = pki_edit_agent_put(edit, &row);
    snprintf(n, sizeof(n), "%" PRIu64, telling->n_clones);
    const struct audit_field clone[] = { { "what", telling->judgement.what }, { "times", n } };
    if (r == 0 && telling->tells_clone)
        r = put_entry(edit, telling, AUDIT_CLONED, clone);
    snprintf(n, sizeof(n), "%" PRIu64, telling->generation);
    snprintf(seen, sizeof(seen), "%" PRIu64, hello->generation_seen);
    const struct audit_field behind[] = { { "generation", n }, { "seen", seen } };
    if (r == 0 && telling->tells_behind)
        r = put_entry(edit, telling, AUDIT_REGISTRY_BEHIND, behind);
    const struct audit_field denied[] = { { "refused", "address" }, { "call", "hello" } };
    if (r == 0 && telling->tells_denied)
        r = put_entry(edit, telling, AUDIT_DENIED, denied);
    return pass(r);
}

/* "10.0.0.7:4711" -> "10.0.0.7", "[fd00::7]:4711" -> "fd00::7". */
static void host_of(const char *peer, char to[static 64])
{
    const char *begin = peer, *end = peer + strlen(peer);

    if (peer[0] == '[') {
        begin++;
        end = begin + strcspn(begin, "]");
    } else if (strchr(peer, ':') == strrchr(peer, ':')) {
        end = peer + strcspn(peer, ":");
    }
    snprintf(to, 64, "%.*s", (int) (end - begin), begin);
}

static bool is_allowed(const struct pki_agent *agent, const char *peer)
{
    for (size_t i = 0; i < agent->n_addresses; i++) {
        if (identity_cidr_matches(agent->addresses[i], peer))
            return true;
    }
    return agent->n_addresses == 0;
}

static int
read_row(struct pki *pki, const char *name, struct pki_agent_row *ret, bool *ret_is_there)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct span value;
    char key[65];

    arena_init(&arena, 65536);
    snprintf(key, sizeof(key), "a%s", name);
    int r = store_state_get(pki->store, STORE_TABLE_IDENTITIES, span_of_text(key), &arena, &value);
    if (r != 0 && r != STORE_NOT_FOUND)
        return fold(r);
    *ret_is_there = r == 0 && pki_agent_row_decode(span_of_text(name), value, ret) == 0;
    return 0;
}

/* Under the lock: what of it is told now, and what waits. */
static void plan(struct hello *one, struct telling *telling, int64_t now_us)
{
    const struct pki_hello *hello = telling->hello;

    one->n_untold += telling->judgement.verdict != WELCOME;
    if (one->n_untold > 0 && now_us - one->told_us >= TELL_EVERY_US &&
        telling->judgement.verdict != WELCOME) {
        telling->tells_clone = true;
        telling->n_clones = one->n_untold;
        one->n_untold = 0;
        one->told_us = now_us;
    }
    telling->tells_behind = hello->generation_seen > telling->generation && !one->is_behind_told;
    one->is_behind_told |= telling->tells_behind;
}

static bool has_news(const struct telling *telling)
{
    return telling->tells_clone || telling->tells_behind || telling->tells_denied ||
           telling->sets_peer || telling->judgement.sets_fingerprint;
}

int pki_agent_hello(struct pki *pki, const struct pki_hello *hello, struct tls_why *ret_why)
{
    struct telling telling = { .hello = hello, .generation = pki_generation(pki) };
    struct pki_agent_row row = { 0 };
    const int64_t now_us = clock_wall().us;
    struct hello *one = NULL;
    bool is_there, is_denied;

    int r = read_row(pki, hello->name, &row, &is_there);
    if (r != 0)
        return pass(r);
    is_denied = !is_allowed(&row.agent, hello->peer);
    host_of(hello->peer, telling.peer);
    telling.sets_peer = !is_denied && strcmp(telling.peer, row.agent.last_peer) != 0;

    pthread_mutex_lock(&pki->hellos->lock);
    r = find_or_add(pki, hello->name, now_us, &one);
    if (r == 0 && is_denied) {
        telling.tells_denied = now_us - one->denied_us >= TELL_EVERY_US;
        one->denied_us = telling.tells_denied ? now_us : one->denied_us;
    } else if (r == 0) {
        telling.judgement = judge(one, hello, &row, now_us);
        plan(one, &telling, now_us);
        telling.sets_peer &= telling.judgement.verdict != REFUSED_AS_CLONE;
    }
    pthread_mutex_unlock(&pki->hellos->lock);
    if (r == 0 && (has_news(&telling) || (!is_there && !is_denied)))
        r = pki_change(pki, tell, &telling, NULL);
    /* What only tells waits for room: nobody is sent away for it. */
    if (r < 0)
        return pass(r);
    if (is_denied) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the agent may not come from %.63s; an operator sets its addresses: sentinelctl "
                 "agents allow %s ADDRESS",
                 telling.peer, hello->name);
        return PKI_REFUSED;
    }
    if (telling.judgement.verdict != REFUSED_AS_CLONE)
        return 0;
    snprintf(ret_why->text, sizeof(ret_why->text),
             "%s; give this machine an identity of its own: sentinel-agent enroll",
             telling.judgement.what);
    return PKI_CLONED;
}
