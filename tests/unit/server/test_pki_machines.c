/* SPDX-License-Identifier: Apache-2.0 */
#include "test_pki_machines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"

struct pki_rig rig;
const struct pki_act rig_act = { .by = "operator/anna",
                                 .source = "192.0.2.1:5",
                                 .correlation = "c1",
                                 .reason = "a test" };

#define ARENA_BYTES ((size_t) 64 << 20)
#define START_US (1800000000 * SECOND_US)

static _Thread_local uint8_t digest[4][32];

static wall_us stopped_wall(void)
{
    return (wall_us){ START_US + rig.offset_us };
}

static mono_us any_mono(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (mono_us){ now.tv_sec * SECOND_US + now.tv_nsec / 1000 };
}

const char *rig_path(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *to = path[next++ % 4];

    snprintf(to, sizeof(path[0]), "%s/%s", rig.state, name);
    return to;
}

void rig_open_store(void)
{
    struct store_why store_why;
    const struct store_options options = { .directory = rig_path("db"),
                                           .segment_bytes = 1 << 20,
                                           .queue_bytes = 1 << 20,
                                           .full_percent = 100,
                                           .allow_any_filesystem = true };

    ck_assert_int_eq(store_open(&rig.store, &options, &store_why), 0);
}

void rig_open_pki(void)
{
    int r = pki_open(&rig.pki, rig.store, rig.state, &rig.why);

    ck_assert_msg(r == 0, "%d: %s", r, rig.why.text);
}

void rig_setup(void)
{
    struct pki_init init = { .state_directory = rig.state, .trust_domain = "example.org" };

    rig.offset_us = 0;
    clock_set_source(stopped_wall, any_mono);
    snprintf(rig.state, sizeof(rig.state), "/tmp/test_pki.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(rig.state));
    ck_assert_int_eq(file_make_directories(rig_path("db"), 0700), 0);
    ck_assert_int_eq(store_create(rig_path("db")), 0);
    rig_open_store();
    ck_assert_msg(pki_create(rig.store, &init, &rig.why) == 0, "%s", rig.why.text);
    rig_open_pki();
    arena_init(&rig.arena, ARENA_BYTES);
}

void rig_open(void)
{
    rig_open_store();
    rig_open_pki();
}

void rig_close(void)
{
    rig.pki = pki_close(rig.pki);
    store_stop(rig.store);
    rig.store = store_close(rig.store);
}

void rig_teardown(void)
{
    rig_close();
    arena_deinit(&rig.arena);
    ck_assert_int_eq(file_remove_tree(rig.state), 0);
}

void rig_settle(void)
{
    rig.pki = pki_close(rig.pki);
    rig_open_pki();
}

/* ---- machines ---- */

void machine_new_key(struct machine *machine)
{
    machine->next_key = tls_key_free(machine->next_key);
    buf_clear(&machine->csr);
    ck_assert_int_eq(tls_key_new(&machine->next_key), 0);
    ck_assert_int_eq(tls_csr_print(machine->next_key, "whatever it says", &machine->csr), 0);
}

void machine_init(struct machine *machine, const char *text)
{
    *machine = (struct machine){ .key = NULL };
    if (text) {
        machine->fingerprint.has[IDENTITY_MACHINE_ID] = true;
        crypto_sha256(span_of_text(text), machine->fingerprint.sha256[IDENTITY_MACHINE_ID]);
    }
    machine_new_key(machine);
}

void machine_deinit(struct machine *machine)
{
    for (size_t i = 0; i < machine->n_old_keys; i++)
        tls_key_free(machine->old_keys[i]);
    tls_key_free(machine->key);
    tls_key_free(machine->next_key);
    buf_deinit(&machine->csr);
}

struct pki_token rig_token(const struct pki_token_wish *wish)
{
    struct pki_token_wish copy = *wish;
    struct pki_token token;

    copy.made_by = "operator/anna";
    int r = pki_token_create(rig.pki, &copy, &token, &rig.why);
    ck_assert_msg(r == 0, "%d: %s", r, rig.why.text);
    return token;
}

static void take_key(struct machine *machine)
{
    ck_assert_uint_lt(machine->n_old_keys, MACHINE_OLD_KEYS);
    machine->old_keys[machine->n_old_keys++] = machine->key; /* a snapshot may still have it */
    machine->key = machine->next_key;
    machine->next_key = NULL;
    machine_new_key(machine);
}

int machine_enrol(struct machine *machine, const struct pki_token *token, const char *id)
{
    const struct pki_enrolment enrolment = {
        .token_id = token->id,
        .secret = span_of(token->secret, sizeof(token->secret)),
        .csr_der = buf_span(&machine->csr),
        .requested_id = id,
        .instance = span_of_text("instance"),
        .fingerprint = &machine->fingerprint,
        .peer = "192.0.2.7:4711",
        .correlation = "c2",
    };
    struct tls_why why = { "" };
    enum pki_refusal refusal = PKI_REFUSED_NOT;

    int r = pki_enrol(rig.pki, &enrolment, &rig.arena, &machine->granted, &refusal, &why);
    rig.refusal = refusal;
    rig.why = why;
    return r;
}

int machine_renew(struct machine *machine, const uint8_t sha256[32])
{
    const struct pki_renewal renewal = { .sha256 = sha256,
                                         .csr_der = buf_span(&machine->csr),
                                         .peer = "192.0.2.7:4711" };

    rig.refusal = PKI_REFUSED_NOT;
    return pki_renew(rig.pki, &renewal, &rig.arena, &machine->granted, &rig.refusal, &rig.why);
}

int machine_renew_expired(struct machine *machine,
                          const struct pki_granted *old,
                          const struct tls_key *old_key)
{
    struct buf signed_bytes = { 0 }, signature = { 0 };
    uint8_t nonce[IDENTITY_NONCE_BYTES];
    wall_us grace_ends;

    crypto_random(nonce, sizeof(nonce));
    identity_renewal_signed_bytes(span_of(nonce, sizeof(nonce)), buf_span(&machine->csr),
                                  &signed_bytes);
    ck_assert_int_eq(tls_key_sign(old_key, buf_span(&signed_bytes), &signature), 0);
    const struct pki_late_renewal renewal = { .chain_der = old->chain_der,
                                              .n_chain = old->n_chain,
                                              .csr_der = buf_span(&machine->csr),
                                              .nonce = span_of(nonce, sizeof(nonce)),
                                              .signature = buf_span(&signature),
                                              .peer = "192.0.2.7:4711" };
    rig.refusal = PKI_REFUSED_NOT;
    int r = pki_renew_expired(rig.pki, &renewal, &rig.arena, &machine->granted, &grace_ends,
                              &rig.refusal, &rig.why);
    buf_deinit(&signed_bytes);
    buf_deinit(&signature);
    return r;
}

int machine_call(struct machine *machine, const struct pki_granted *granted)
{
    int r = pki_identify(rig.pki, granted->chain_der[0], clock_wall(), &machine->identity);

    if (r == 0 && machine->identity.state == PKI_UNCONFIRMED) {
        pki_presented(rig.pki, &machine->identity);
        take_key(machine);
    }
    return r;
}

const uint8_t *leaf_of(const struct pki_granted *granted)
{
    static _Thread_local unsigned next;
    uint8_t *to = digest[next++ % 4];

    crypto_sha256(granted->chain_der[0], to);
    return to;
}

/* ---- looking ---- */

struct pki_certificate *rig_certificates(const char *name, size_t *ret_n)
{
    const struct pki_certificates_question question = { .name_pattern = name, .kind = PKI_AGENT };
    struct pki_certificate *rows;
    bool has_more;

    ck_assert_int_eq(pki_certificate_list(rig.pki, &question, &rig.arena, &rows, ret_n, &has_more),
                     0);
    ck_assert(!has_more);
    return rows;
}

enum pki_state rig_state_of(const struct pki_granted *granted)
{
    struct pki_identity identity;

    ck_assert_int_ne(pki_recheck(rig.pki, leaf_of(granted), clock_wall(), &identity), PKI_UNKNOWN);
    return identity.state;
}

struct count {
    const char *code;
    size_t n;
};

static bool on_entry(void *ctx, struct span key, struct span value)
{
    struct count *count = ctx;

    (void) key;
    count->n += memmem(value.data, value.len, count->code, strlen(count->code)) != NULL;
    return true;
}

size_t rig_count(enum audit_event event)
{
    struct count count = { .code = audit_event_code(event) };

    ck_assert_int_eq(store_state_each(rig.store, STORE_TABLE_AUDIT, on_entry, &count), 0);
    return count.n;
}
