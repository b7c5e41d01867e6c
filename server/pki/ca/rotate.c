/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/base/map.h"
#include "common/log/log.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"
#include "server/pki/registry/codec.h"

/*
 * Rotation. The row in META says where it is; it is written in one transaction with the audit's
 * entry. Before it the files of the next authority are made, after it the file of roots follows;
 * a cut between leaves files that the next "prepare" does not use, or roots that the next start
 * mends.
 *
 * The new root is also signed by the old one. While the hub serves from the new authority it sends
 * that certificate along, so that an agent that slept through the announcement still comes in, and
 * fetches the new root then.
 */

#define ROOT_LIFE_US (3650 * PKI_DAY_US)
#define SEEN_US (30 * PKI_DAY_US)
#define READY_PREFIX "pki.ready/"
#define ROOTS_LIMIT_BYTES ((size_t) 256 * 1024)
#define MAX_NAMED 3

static const char row_key[] = "pki.ca";

const char *pki_ca_phase_name(enum pki_ca_phase phase)
{
    static const char *const names[] = { [PKI_CA_STEADY] = "steady",
                                         [PKI_CA_PREPARED] = "prepared",
                                         [PKI_CA_ISSUING] = "issuing",
                                         [PKI_CA_SERVING] = "serving" };

    return names[phase];
}

/* ---- files ---- */

static int read_file(const struct pki *pki, const char *base, struct buf *to)
{
    char path[PKI_PATH_BYTES];

    if (!pki_path(path, pki->certs, base))
        return fault(-ENAMETOOLONG, "%s", pki->certs);
    return pass(file_read(path, ROOTS_LIMIT_BYTES, to));
}

/* The root of one authority, as PEM. */
static int append_root(const struct pki *pki, uint32_t number, struct buf *to)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *root = NULL;
    char name[PKI_CA_NAME_BYTES], base[PKI_CA_NAME_BYTES + 16];

    snprintf(base, sizeof(base), "%s-cert.pem", pki_ca_name(PKI_PART_ROOT, number, name));
    int r = read_file(pki, base, &pem);
    if (r == 0)
        r = tls_cert_parse_pem(&root, buf_span(&pem)); /* ca-cert.pem may have another behind it */
    if (r > 0)
        return fault(-EIO, "%s/%s cannot be read; put it back from a backup", pki->certs, base);
    return r != 0 ? pass(r) : fold(tls_cert_print(root, to));
}

int pki_ca_mend_roots(struct pki *pki, const struct pki_ca_row *row)
{
    CLEANUP(buf_deinit) struct buf wanted = { 0 }, there = { 0 };
    char path[PKI_PATH_BYTES];

    if (row->highest <= 1)
        return 0;
    int r = append_root(pki, row->current, &wanted);
    if (r == 0 && row->next)
        r = append_root(pki, row->next, &wanted);
    if (r != 0)
        return pass(r);
    r = read_file(pki, "ca-cert.pem", &there);
    if (r < 0)
        return pass(r);
    if (r == 0 && span_equal(buf_span(&wanted), buf_span(&there)))
        return 0;
    if (buf_failed(&wanted))
        return fault(-ENOMEM, "no memory for roots");
    if (!pki_path(path, pki->certs, "ca-cert.pem"))
        return fault(-ENAMETOOLONG, "%s", pki->certs);
    return fold(file_replace(path, buf_span(&wanted), 0644));
}

static void cross_base(uint32_t number, char to[static 32])
{
    snprintf(to, 32, "ca-%u-cross.pem", (unsigned) number);
}

int pki_ca_append_cross(struct pki *pki, struct buf *chain_pem)
{
    struct pki_ca_row row;
    char base[32];

    pki_ca_get_row(pki, &row);
    if (row.phase != PKI_CA_SERVING)
        return 0;
    cross_base(row.next, base);
    int r = read_file(pki, base, chain_pem);
    return r == FILE_ABSENT ? 0 : fold(r);
}

/* ---- a new authority ---- */

struct made {
    struct pki_issuer parts[PKI_N_PARTS];
    struct tls_cert *cross; /* NULL: the old root's key is away, and that was forced */
};

static void made_deinit(struct made *made)
{
    for (size_t i = 0; i < PKI_N_PARTS; i++)
        pki_issuer_deinit(&made->parts[i]);
    made->cross = tls_cert_free(made->cross);
}

static int make_parts(const struct pki *pki, uint32_t number, wall_us now, struct made *ret)
{
    static const char *const names[] = { [PKI_PART_ROOT] = "Sentinel CA",
                                         [PKI_PART_AGENTS] = "Sentinel Agents CA",
                                         [PKI_PART_HUBS] = "Sentinel Hubs CA" };

    for (size_t i = 0; i < PKI_N_PARTS; i++) {
        char name[64];

        snprintf(name, sizeof(name), "%s %u", names[i], (unsigned) number);
        const struct tls_request request = {
            .profile = i == PKI_PART_ROOT ? TLS_ROOT : TLS_INTERMEDIATE,
            .common_name = name,
            .organisation = pki->authority.organisation,
            .not_before = { now.us - PKI_BACKDATE_US },
            .not_after = { now.us + ROOT_LIFE_US },
        };
        int r = pki_issuer_make(&ret->parts[i], &request,
                                i == PKI_PART_ROOT ? NULL : &ret->parts[PKI_PART_ROOT]);
        if (r != 0)
            return pass(r);
    }
    return 0;
}

/* The new root by the old one. Outcomes: PKI_ABSENT, PKI_BAD (the old root). */
static int make_cross(struct pki *pki,
                      const struct pki_ca_row *row,
                      uint32_t number,
                      wall_us now,
                      struct made *made,
                      struct tls_why *ret_why)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer old = { 0 };
    char name[64];

    int r = pki_ca_issuer_of(pki, PKI_PART_ROOT, row->current, &old, ret_why);
    if (r != 0)
        return pass(r);
    snprintf(name, sizeof(name), "Sentinel CA %u", (unsigned) number);
    const struct tls_request request = {
        .profile = TLS_ROOT,
        .common_name = name,
        .organisation = pki->authority.organisation,
        .not_before = { now.us - PKI_BACKDATE_US },
        .not_after = old.not_after,
    };
    const struct tls_signer signer = pki_issuer_signer(&old);
    r = tls_cert_issue_by(&made->cross, &request, made->parts[PKI_PART_ROOT].key, old.cert,
                          &signer);
    if (r == TLS_MISMATCH || r == TLS_BAD) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the key of the old root does not sign for its certificate, or it has expired; "
                 "--force goes on without its signature: agents that are not ready are left out");
        return PKI_BAD;
    }
    return pass(r);
}

static int save_made(const struct pki *pki, uint32_t number, const struct made *made)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    char base[32], path[PKI_PATH_BYTES];
    int r = 0;

    for (size_t i = 0; r == 0 && i < PKI_N_PARTS; i++) {
        char name[PKI_CA_NAME_BYTES];
        const struct pki_issuer_place place = { .directory = pki->certs,
                                                .name =
                                                    pki_ca_name((enum pki_part) i, number, name),
                                                .sealing = &pki->ca->sealing };
        r = pki_issuer_save(&made->parts[i], &place);
    }
    if (r != 0 || !made->cross)
        return pass(r);
    r = tls_cert_print(made->cross, &pem);
    if (r != 0)
        return fold(r);
    cross_base(number, base);
    if (!pki_path(path, pki->certs, base))
        return fault(-ENAMETOOLONG, "%s", pki->certs);
    return fold(file_replace(path, buf_span(&pem), 0644));
}

/* Keys that nobody needs any more. What cannot be removed is said, and harms nobody but by lying
 * there. */
static void remove_authority(const struct pki *pki, uint32_t number)
{
    char name[PKI_CA_NAME_BYTES], base[PKI_CA_NAME_BYTES + 16], path[PKI_PATH_BYTES];

    for (size_t i = 0; i < PKI_N_PARTS; i++) {
        snprintf(base, sizeof(base), "%s-key.pem", pki_ca_name((enum pki_part) i, number, name));
        if (pki_path(path, pki->certs, base) && unlink(path) < 0 && errno != ENOENT)
            log_event(LOG_WARN, "ca_key_not_removed", LOG_S("path", path),
                      LOG_S("reason", strerror(errno)));
    }
}

/* ---- who is ready ---- */

struct name {
    char text[80]; /* of an agent; "operator NAME" */
    bool is_ready;
};
struct census {
    wall_us now;
    const char *old_issuer; /* not NULL: who still has a certificate of it is counted instead */
    uint32_t number;
    struct map by_text;
    uint32_t n, n_ready;
    int r;
};

static void census_deinit(struct census *census)
{
    void *one;

    for (size_t at = 0; (one = map_next(&census->by_text, &at)) != NULL;)
        free(one);
    map_deinit(&census->by_text);
}

static bool add_name(struct census *census, const char *text)
{
    if (map_get(&census->by_text, span_of_text(text)))
        return true;
    struct name *name = calloc(1, sizeof(*name));
    if (!name) {
        census->r = fault(-ENOMEM, "no memory for names");
        return false;
    }
    snprintf(name->text, sizeof(name->text), "%s", text);
    census->r = map_put(&census->by_text, span_of_text(name->text), name);
    if (census->r != 0) {
        free(name);
        return false;
    }
    census->n++;
    return true;
}

static bool on_agent(void *ctx, const struct pki_row *row)
{
    struct census *census = ctx;
    const struct pki_identity *identity = &row->identity;
    char text[80];

    if (identity->state != PKI_ACTIVE && identity->state != PKI_UNCONFIRMED)
        return true;
    if (!census->old_issuer)
        return identity->kind != PKI_AGENT || identity->not_after.us + SEEN_US < census->now.us ||
               add_name(census, identity->name);
    if (identity->not_after.us <= census->now.us || strcmp(row->issuer, census->old_issuer) != 0 ||
        identity->kind == PKI_HUB)
        return true;
    snprintf(text, sizeof(text), "%s%s", identity->kind == PKI_OPERATOR ? "operator " : "",
             identity->name);
    return add_name(census, text);
}

static bool on_ready(void *ctx, struct span key, struct span value)
{
    const size_t prefix = sizeof(READY_PREFIX) - 1;
    struct census *census = ctx;
    struct pki_reader reader = { .rest = value };

    const uint32_t number = pki_get_u32(&reader);
    struct name *name = map_get(&census->by_text, span_of(key.data + prefix, key.len - prefix));
    if (name && !name->is_ready && !reader.is_bad && number == census->number) {
        name->is_ready = true;
        census->n_ready++;
    }
    return true;
}

/* Who holds a certificate that counts, or did until a month ago; and who of them has the root. */
static int count(struct pki *pki, struct census *census)
{
    pki_clerk_settle(pki->ca->clerk);
    int r = pki_each_row(pki->store, on_agent, census);
    if (r == 0)
        r = census->r;
    if (r == 0 && census->number)
        r = store_state_range(pki->store, STORE_TABLE_META, span_of_text(READY_PREFIX), false,
                              on_ready, census);
    return r != 0 ? fold(r) : 0;
}

/* "3 of 40 agents ...: a, b, c". */
static void say_names(const struct census *census, const char *what, struct tls_why *ret_why)
{
    const struct name *name;
    char names[3 * 80] = "";
    unsigned n_named = 0;

    for (size_t at = 0; n_named < MAX_NAMED && (name = map_next(&census->by_text, &at)) != NULL;) {
        if (name->is_ready)
            continue;
        size_t len = strlen(names);
        snprintf(names + len, sizeof(names) - len, "%s%.60s", n_named++ ? ", " : "", name->text);
    }
    snprintf(ret_why->text, sizeof(ret_why->text), "%u of %u %s: %.190s%s",
             (unsigned) (census->n - census->n_ready), (unsigned) census->n, what, names,
             census->n - census->n_ready > n_named ? ", ..." : "");
}

void pki_ca_note_bundle(struct pki *pki, const char *agent)
{
    struct pki_ca_row row;

    pki_ca_get_row(pki, &row);
    if (row.phase != PKI_CA_STEADY && strlen(agent) < 64)
        (void) pki_clerk_note_ready(pki->ca->clerk, agent, row.next);
}

/* ---- status ---- */

static int read_pin(const struct pki *pki, uint32_t number, uint8_t pin[32], wall_us *ret_not_after)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *root = NULL;
    struct tls_facts facts;

    int r = append_root(pki, number, &pem);
    if (r == 0)
        r = tls_cert_parse_pem(&root, buf_span(&pem));
    if (r == 0)
        r = tls_cert_read(root, &facts);
    if (r != 0)
        return fold(r);
    memcpy(pin, facts.key_sha256, sizeof(facts.key_sha256));
    if (ret_not_after)
        *ret_not_after = facts.not_after;
    return 0;
}

/* us 0: it cannot be read. */
static wall_us end_of(const struct pki *pki, enum pki_part part, uint32_t number)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    char name[PKI_CA_NAME_BYTES], base[PKI_CA_NAME_BYTES + 16];
    struct tls_facts facts;

    snprintf(base, sizeof(base), "%s-cert.pem", pki_ca_name(part, number, name));
    if (read_file(pki, base, &pem) != 0 || tls_cert_parse_pem(&cert, buf_span(&pem)) != 0 ||
        tls_cert_read(cert, &facts) != 0)
        return (wall_us){ 0 };
    return facts.not_after;
}

int pki_ca_get_status(struct pki *pki, struct pki_ca_status *ret)
{
    struct pki_ca_status status = { .n_agents = 0 };
    struct census census = { .now = clock_wall() };
    char name[PKI_CA_NAME_BYTES], base[PKI_CA_NAME_BYTES + 16], path[PKI_PATH_BYTES];
    struct pki_ca_row row;

    pki_ca_get_row(pki, &row);
    status.phase = row.phase;
    status.since = row.since;
    const uint32_t agents = row.phase >= PKI_CA_ISSUING ? row.next : row.current;
    const uint32_t hubs = row.phase >= PKI_CA_SERVING ? row.next : row.current;
    int r = read_pin(pki, row.current, status.pin, &status.root_not_after);
    if (r == 0 && row.next)
        r = read_pin(pki, row.next, status.next_pin, NULL);
    if (r == 0)
        r = pki_ca_is_sealed(pki->certs, &status.is_sealed);
    if (r != 0)
        return pass(r);
    status.agents_ca_not_after = end_of(pki, PKI_PART_AGENTS, agents);
    status.hubs_ca_not_after = end_of(pki, PKI_PART_HUBS, hubs);
    snprintf(base, sizeof(base), "%s-key.pem", pki_ca_name(PKI_PART_ROOT, row.current, name));
    status.is_root_offline = !pki->ca->signers[PKI_PART_ROOT].sign &&
                             pki_path(path, pki->certs, base) && access(path, F_OK) < 0;
    census.number = row.next;
    r = count(pki, &census);
    status.n_agents = census.n;
    status.n_ready = row.next ? census.n_ready : census.n;
    census_deinit(&census);
    if (r != 0)
        return pass(r);
    *ret = status;
    return 0;
}

/* ---- steps ---- */

struct step {
    struct pki_ca_row before, after;
    const char *name;
    bool is_forced;
    const struct pki_act *act;
};

static bool is_same(const struct pki_ca_row *a, const struct pki_ca_row *b)
{
    return a->phase == b->phase && a->current == b->current && a->next == b->next &&
           a->highest == b->highest;
}

static int put_row(struct pki_edit *edit, void *ctx)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct step *step = ctx;
    struct pki_ca_row there = { .current = 1, .highest = 1 };
    struct span value;

    int r = pki_edit_get_raw(edit, STORE_TABLE_META, row_key, &value);
    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    if (r == 0 && pki_ca_row_decode(value, &there) != 0)
        return PKI_EDIT(PKI_REFUSED);
    if (!is_same(&there, &step->before))
        return PKI_EDIT(PKI_REFUSED);
    step->after.since = edit->now;
    pki_ca_row_encode(&step->after, &bytes);
    if (buf_failed(&bytes))
        return STORE_FULL;
    r = pki_edit_put_raw(edit, STORE_TABLE_META, span_of_text(row_key), buf_span(&bytes));
    if (r != 0)
        return pass(r);
    edit->must_raise = true;
    const struct audit_field fields[] = {
        { "step", step->name },
        { "from", pki_ca_phase_name(step->before.phase) },
        { "to", pki_ca_phase_name(step->after.phase) },
        { "forced", step->is_forced ? "true" : "false" },
    };
    return pass(pki_act_audit(edit, step->act, AUDIT_CA_PHASE, "ca", fields, 4));
}

static int refuse_phase(const struct step *step, const char *from, struct tls_why *ret_why)
{
    snprintf(ret_why->text, sizeof(ret_why->text),
             "`%.20s` goes from the phase `%s`, and this is `%s`; `sentinelctl certs rotate-ca` "
             "shows what comes next",
             step->name, from, pki_ca_phase_name(step->before.phase));
    return PKI_REFUSED;
}

/* Outcomes: PKI_REFUSED. */
static int check_ready(struct pki *pki, const struct step *step, struct tls_why *ret_why)
{
    struct census census = { .now = clock_wall(), .number = step->before.next };

    if (step->is_forced)
        return 0;
    int r = count(pki, &census);
    if (r == 0 && census.n_ready < census.n) {
        say_names(&census,
                  "agents have not fetched the new root; wait for them, or --force and leave "
                  "them to come in by the old root until it is retired",
                  ret_why);
        r = PKI_REFUSED;
    }
    census_deinit(&census);
    return pass(r);
}

/* Nobody must hold a certificate of this authority any more. Outcomes: PKI_REFUSED. */
static int
check_unused(struct pki *pki, const struct step *step, uint32_t number, struct tls_why *ret_why)
{
    struct census census = { .now = clock_wall() };
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    char name[PKI_CA_NAME_BYTES], base[PKI_CA_NAME_BYTES + 16];
    struct tls_facts facts;

    if (step->is_forced)
        return 0;
    snprintf(base, sizeof(base), "%s-cert.pem", pki_ca_name(PKI_PART_AGENTS, number, name));
    int r = read_file(pki, base, &pem);
    if (r == 0)
        r = tls_cert_parse_pem(&cert, buf_span(&pem));
    if (r == 0)
        r = tls_cert_read(cert, &facts);
    if (r != 0)
        return fold(r);
    census.old_issuer = facts.common_name;
    r = count(pki, &census);
    if (r == 0 && census.n > 0) {
        say_names(&census,
                  "identities would be refused: their certificates come from the authority that "
                  "goes; let agents renew and give operators new ones, or --force",
                  ret_why);
        r = PKI_REFUSED;
    }
    census_deinit(&census);
    return pass(r);
}

static int prepare(struct pki *pki, struct step *step, struct tls_why *ret_why)
{
    CLEANUP(made_deinit) struct made made = { .cross = NULL };
    const wall_us now = clock_wall();
    struct tls_why why = { "" };

    if (step->before.phase != PKI_CA_STEADY)
        return refuse_phase(step, "steady", ret_why);
    const uint32_t number = step->before.highest + 1;
    int r = make_parts(pki, number, now, &made);
    if (r == 0)
        r = make_cross(pki, &step->before, number, now, &made, &why);
    if (r > 0 && step->is_forced) {
        log_event(LOG_WARN, "ca_prepared_without_old_root", LOG_S("reason", why.text));
        r = 0;
    }
    if (r > 0)
        *ret_why = why;
    if (r == 0)
        r = save_made(pki, number, &made);
    step->after = (struct pki_ca_row){ PKI_CA_PREPARED, step->before.current, number, number, now };
    return pass(r);
}

static int go_back(struct pki *pki, struct step *step, struct tls_why *ret_why)
{
    if (step->before.phase == PKI_CA_STEADY)
        return refuse_phase(step, "prepared, issuing or serving", ret_why);
    step->after.phase = (enum pki_ca_phase)(step->before.phase - 1);
    if (step->after.phase != PKI_CA_STEADY)
        return 0;
    step->after.next = 0;
    return pass(check_unused(pki, step, step->before.next, ret_why));
}

static int plan(struct pki *pki, struct step *step, struct tls_why *ret_why)
{
    const enum pki_ca_phase phase = step->before.phase;

    step->after = step->before;
    if (strcmp(step->name, "prepare") == 0)
        return pass(prepare(pki, step, ret_why));
    if (strcmp(step->name, "back") == 0)
        return pass(go_back(pki, step, ret_why));
    if (strcmp(step->name, "issue") == 0) {
        step->after.phase = PKI_CA_ISSUING;
        return phase != PKI_CA_PREPARED ? refuse_phase(step, "prepared", ret_why)
                                        : pass(check_ready(pki, step, ret_why));
    }
    if (strcmp(step->name, "serve") == 0) {
        step->after.phase = PKI_CA_SERVING;
        return phase != PKI_CA_ISSUING ? refuse_phase(step, "issuing", ret_why)
                                       : pass(check_ready(pki, step, ret_why));
    }
    if (strcmp(step->name, "retire") != 0) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "`%.40s` is no step; there are prepare, issue, serve, retire and back",
                 step->name);
        return PKI_REFUSED;
    }
    if (phase != PKI_CA_SERVING)
        return refuse_phase(step, "serving", ret_why);
    step->after.phase = PKI_CA_STEADY;
    step->after.current = step->before.next;
    step->after.next = 0;
    int r = check_ready(pki, step, ret_why);
    return r != 0 ? pass(r) : pass(check_unused(pki, step, step->before.current, ret_why));
}

int pki_ca_rotate(struct pki *pki,
                  const char *step_name,
                  bool is_forced,
                  const struct pki_act *act,
                  struct pki_ca_status *ret,
                  struct tls_why *ret_why)
{
    struct step step = { .name = step_name, .is_forced = is_forced, .act = act };

    pki_ca_get_row(pki, &step.before);
    int r = plan(pki, &step, ret_why);
    if (r == 0)
        faultpoint("ca_step_before_commit");
    if (r == 0 && (r = pki_change(pki, put_row, &step, NULL)) == PKI_REFUSED)
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "another rotation step was made meanwhile; look at the status, then try again");
    if (r == 0)
        faultpoint("ca_step_after_commit");
    if (r == 0)
        r = pki_ca_refresh(pki);
    if (r == 0)
        r = pki_ca_mend_roots(pki, &step.after);
    if (r != 0)
        return pass(r);
    faultpoint("ca_step_roots_written");
    if (step.after.phase == PKI_CA_STEADY && step.after.current == step.before.current)
        remove_authority(pki, step.before.next);
    log_event(LOG_INFO, "ca_rotation", LOG_S("step", step_name),
              LOG_S("phase", pki_ca_phase_name(step.after.phase)), LOG_S("by", act->by));
    return pass(pki_ca_get_status(pki, ret));
}

/* ---- what clients may hang on ---- */

int pki_client_roots(struct pki *pki, struct buf *to)
{
    struct pki_ca_row row;

    pki_ca_get_row(pki, &row);
    int r = append_root(pki, row.current, to);
    if (r == 0 && row.next)
        r = append_root(pki, row.next, to);
    return r != 0 ? pass(r) : pass(pki_foreign_roots(pki, to));
}
