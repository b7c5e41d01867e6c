/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"
#include "server/pki/registry/codec.h"

/*
 * The clerk writes what calls only note: that an agent has the roots of a rotation, a leaf of a
 * foreign authority that came for the first time, when a bearer token was used. All that waits goes
 * into one transaction. What is lost with a power cut is noted again at the next call.
 */

#define MAX_NOTES 4096 /* a fleet of 10,000 that comes at once is written in a few rounds */

enum note_kind { NOTE_READY, NOTE_LEAF, NOTE_USED };

struct note {
    enum note_kind kind;
    char name[64];   /* agent, or id of a bearer token */
    uint32_t number; /* of the authority */
    wall_us at;
    struct pki_row *row; /* NOTE_LEAF */
};

struct pki_clerk {
    struct pki *pki;
    pthread_mutex_t lock;
    pthread_cond_t is_due, is_done;
    pthread_t thread;
    bool is_started, is_ending;
    uint64_t n_lost;
    struct note notes[MAX_NOTES]; /* the first n_busy are being written */
    size_t n, n_busy;
};

struct pki_clerk *pki_clerk_new(struct pki *pki)
{
    struct pki_clerk *clerk = calloc(1, sizeof(*clerk));

    if (!clerk)
        return NULL;
    clerk->pki = pki;
    pthread_mutex_init(&clerk->lock, NULL);
    pthread_cond_init(&clerk->is_due, NULL);
    pthread_cond_init(&clerk->is_done, NULL);
    return clerk;
}

/* ---- writing ---- */

static int put_ready(struct pki_edit *edit, const struct note *note)
{
    CLEANUP(buf_deinit) struct buf key = { 0 }, value = { 0 };

    buf_printf(&key, "pki.ready/%s", note->name);
    pki_put_u32(&value, note->number);
    if (buf_failed(&key) || buf_failed(&value))
        return STORE_FULL;
    return pass(pki_edit_put_raw(edit, STORE_TABLE_META, buf_span(&key), buf_span(&value)));
}

/* The name's row too, where it has none: it can be revoked like any agent. A name that somebody
 * took meanwhile stays his. */
static int put_leaf(struct pki_edit *edit, const struct note *note)
{
    const struct pki_identity *identity = &note->row->identity;
    struct pki_agent_row agent = { 0 };
    struct pki_row before;

    int r = pki_edit_get(edit, identity->sha256, &before);
    if (r != STORE_NOT_FOUND)
        return pass(r); /* it is there, whatever its state is */
    if (identity->kind == PKI_AGENT) {
        r = pki_edit_agent_get(edit, identity->name, &agent);
        if (r != 0 && r != STORE_NOT_FOUND)
            return pass(r);
        if (r == 0 && memcmp(agent.lineage, note->row->lineage, sizeof(agent.lineage)) != 0)
            return 0;
        if (r == STORE_NOT_FOUND) {
            memcpy(agent.agent.name, identity->name, sizeof(agent.agent.name));
            agent.agent.state = PKI_AGENT_ALLOWED;
            agent.agent.enrolled = edit->now;
        }
        agent.agent.changed = edit->now;
        memcpy(agent.agent.current, identity->sha256, sizeof(agent.agent.current));
        memcpy(agent.lineage, note->row->lineage, sizeof(agent.lineage));
        r = pki_edit_agent_put(edit, &agent);
        if (r != 0)
            return pass(r);
    }
    r = pki_edit_put(edit, note->row);
    if (r != 0)
        return pass(r);
    char object[80], hex[65];
    const struct audit_field fields[] = {
        { "issuer", note->row->issuer },
        { "certificate", text_of_hex(identity->sha256, sizeof(identity->sha256), hex) },
    };
    const struct pki_act act = { .by = "hub" };
    snprintf(object, sizeof(object), "%s/%s", identity->kind == PKI_AGENT ? "agent" : "operator",
             identity->name);
    return pass(pki_act_audit(edit, &act, AUDIT_ENROLLED, object, fields, 2));
}

static int put_used(struct pki_edit *edit, const struct note *note)
{
    CLEANUP(buf_deinit) struct buf key = { 0 }, value = { 0 };

    buf_printf(&key, "pki.bearer_used/%s", note->name);
    pki_put_u64(&value, (uint64_t) note->at.us);
    if (buf_failed(&key) || buf_failed(&value))
        return STORE_FULL;
    return pass(pki_edit_put_raw(edit, STORE_TABLE_META, buf_span(&key), buf_span(&value)));
}

static int put_all(struct pki_edit *edit, void *ctx)
{
    const struct pki_clerk *clerk = ctx;
    int r = 0;

    for (size_t i = 0; r == 0 && i < clerk->n_busy; i++) {
        const struct note *note = &clerk->notes[i];

        r = note->kind == NOTE_READY  ? put_ready(edit, note)
            : note->kind == NOTE_LEAF ? put_leaf(edit, note)
                                      : put_used(edit, note);
    }
    return pass(r);
}

/* Under the lock, which is let go while it writes. Notes are only added behind meanwhile. */
static void write_all(struct pki_clerk *clerk)
{
    clerk->n_busy = clerk->n;
    pthread_mutex_unlock(&clerk->lock);
    int r = pki_change(clerk->pki, put_all, clerk, NULL);
    if (r != 0)
        log_event(LOG_WARN, "registry_notes_lost", LOG_U("notes", clerk->n_busy),
                  LOG_S("reason", r > 0 ? "the disk is full" : "see the fault above"));
    pthread_mutex_lock(&clerk->lock);
    for (size_t i = 0; i < clerk->n_busy; i++)
        free(clerk->notes[i].row);
    clerk->n -= clerk->n_busy;
    memmove(clerk->notes, clerk->notes + clerk->n_busy, clerk->n * sizeof(clerk->notes[0]));
    clerk->n_busy = 0;
    pthread_cond_broadcast(&clerk->is_done);
}

static void *clerk_main(void *ctx)
{
    struct pki_clerk *clerk = ctx;

    pthread_mutex_lock(&clerk->lock);
    for (;;) {
        if (clerk->n > 0)
            write_all(clerk);
        else if (clerk->is_ending)
            break;
        else
            pthread_cond_wait(&clerk->is_due, &clerk->lock);
    }
    pthread_mutex_unlock(&clerk->lock);
    return NULL;
}

void pki_clerk_free(struct pki_clerk *clerk)
{
    if (!clerk)
        return;
    pthread_mutex_lock(&clerk->lock);
    clerk->is_ending = true;
    pthread_cond_signal(&clerk->is_due);
    pthread_mutex_unlock(&clerk->lock);
    if (clerk->is_started)
        pthread_join(clerk->thread, NULL);
    ensure(clerk->n == 0);
    pthread_cond_destroy(&clerk->is_due);
    pthread_cond_destroy(&clerk->is_done);
    pthread_mutex_destroy(&clerk->lock);
    free(clerk);
}

/* ---- noting ---- */

/* Takes the note's row, also when it is lost. */
static bool add(struct pki_clerk *clerk, const struct note *take_note)
{
    bool is_taken = false;

    pthread_mutex_lock(&clerk->lock);
    if (!clerk->is_started && !clerk->is_ending)
        clerk->is_started = pthread_create(&clerk->thread, NULL, clerk_main, clerk) == 0;
    if (clerk->is_started && clerk->n < MAX_NOTES) {
        clerk->notes[clerk->n++] = *take_note;
        pthread_cond_signal(&clerk->is_due);
        is_taken = true;
    } else {
        clerk->n_lost++;
    }
    uint64_t n_lost = clerk->n_lost;
    pthread_mutex_unlock(&clerk->lock);
    if (!is_taken) {
        log_peer(LOG_WARN, "registry_notes_lost", LOG_U("notes", n_lost),
                 LOG_S("reason", "too many wait for the disk; they come again"));
        free(take_note->row);
    }
    return is_taken;
}

bool pki_clerk_note_ready(struct pki_clerk *clerk, const char *agent, uint32_t number)
{
    struct note note = { .kind = NOTE_READY, .number = number };

    snprintf(note.name, sizeof(note.name), "%s", agent);
    return add(clerk, &note);
}

bool pki_clerk_note_leaf(struct pki_clerk *clerk, const struct pki_row *row)
{
    struct note note = { .kind = NOTE_LEAF, .row = malloc(sizeof(*row)) };

    if (!note.row)
        return false;
    *note.row = *row;
    return add(clerk, &note);
}

bool pki_clerk_note_used(struct pki_clerk *clerk, const char *bearer_id, wall_us at)
{
    struct note note = { .kind = NOTE_USED, .at = at };

    snprintf(note.name, sizeof(note.name), "%s", bearer_id);
    return add(clerk, &note);
}

bool pki_clerk_find_leaf(struct pki_clerk *clerk,
                         const uint8_t sha256[32],
                         struct pki_identity *ret)
{
    bool is_found = false;

    pthread_mutex_lock(&clerk->lock);
    for (size_t i = 0; !is_found && i < clerk->n; i++) {
        const struct pki_row *row = clerk->notes[i].row;

        is_found = row && memcmp(row->identity.sha256, sha256, 32) == 0;
        if (is_found)
            *ret = row->identity;
    }
    pthread_mutex_unlock(&clerk->lock);
    return is_found;
}

void pki_clerk_settle(struct pki_clerk *clerk)
{
    pthread_mutex_lock(&clerk->lock);
    while (clerk->n > 0)
        pthread_cond_wait(&clerk->is_done, &clerk->lock);
    pthread_mutex_unlock(&clerk->lock);
}
