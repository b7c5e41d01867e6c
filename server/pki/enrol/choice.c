/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/enrol/choice.h"

#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/crypto/crypto.h"

#define SUFFIX_CHARACTERS 4
#define MADE_CHARACTERS 8
#define NAME_MAX_BYTES 63

static void put_random(char *to, size_t n)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t random[MADE_CHARACTERS];

    crypto_random(random, sizeof(random));
    for (size_t i = 0; i < n; i++)
        to[i] = alphabet[random[i % sizeof(random)] % 32];
    to[n] = 0;
}

static bool keeps(const struct pki_token *token, const char *name)
{
    return pki_name_is_good(name) &&
           (!token->id_pattern[0] || identity_matches(token->id_pattern, name));
}

/* An id that keeps the pattern: the first `*` becomes eight random characters, others nothing, a
 * `?` one. */
static void make_name(const char *pattern, char to[static 64])
{
    const char *from = pattern[0] ? pattern : "agent-*";
    bool has_star = false;
    size_t len = 0;

    for (; *from && len + MADE_CHARACTERS < NAME_MAX_BYTES; from++) {
        size_t n = *from == '?' ? 1 : *from == '*' && !has_star ? MADE_CHARACTERS : 0;

        has_star |= *from == '*';
        put_random(to + len, n);
        len += n;
        if (*from != '*' && *from != '?')
            to[len++] = *from;
    }
    to[len] = 0;
}

static void with_suffix(const char *name, char to[static 64])
{
    char suffix[SUFFIX_CHARACTERS + 1];

    put_random(suffix, SUFFIX_CHARACTERS);
    snprintf(to, 64, "%.*s-%s", NAME_MAX_BYTES - 1 - SUFFIX_CHARACTERS, name, suffix);
}

/* A source in common, and agreement in all that both have. */
static bool is_same_machine(const struct identity_fingerprint *a,
                            const struct identity_fingerprint *b)
{
    bool has_common = false;

    for (unsigned i = 0; i < IDENTITY_N_SOURCES; i++)
        has_common |= a->has[i] && b->has[i];
    return has_common && identity_fingerprint_agrees(a, b);
}

static int refuse(struct pki_choice *choice, enum pki_refusal refusal, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

static int refuse(struct pki_choice *choice, enum pki_refusal refusal, const char *fmt, ...)
{
    va_list args;

    choice->refusal = refusal;
    va_start(args, fmt);
    vsnprintf(choice->why.text, sizeof(choice->why.text), fmt, args);
    va_end(args);
    return 0;
}

static int look_up(struct pki_edit *edit, const char *name, struct pki_choice *choice)
{
    int r = pki_edit_agent_get(edit, name, &choice->agent);

    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    choice->is_taken = r == 0;
    snprintf(choice->name, sizeof(choice->name), "%s", name);
    return 0;
}

/* Nobody asked for a name. */
static int choose_own(struct pki_edit *edit,
                      const struct pki_token *token,
                      const char *before,
                      struct pki_choice *choice)
{
    char name[64];

    snprintf(name, sizeof(name), "%s", before);
    if (!name[0])
        make_name(token->id_pattern, name);
    if (!keeps(token, name))
        return refuse(choice, PKI_REFUSED_NAME,
                      "id: no name could be made that keeps the token's pattern `%s`; ask for one",
                      token->id_pattern);
    int r = look_up(edit, name, choice);
    /* Taken by chance, or meanwhile; a token for one id may replace. */
    if (r == 0 && choice->is_taken && !token->replaces) {
        make_name(token->id_pattern, name);
        r = look_up(edit, name, choice);
        if (r == 0 && choice->is_taken)
            return refuse(choice, PKI_REFUSED_NAME,
                          "id: `%s` is taken; ask for another, or make a token that replaces it",
                          name);
    }
    return pass(r);
}

/* Somebody else has it. */
static int choose_beside(struct pki_edit *edit,
                         const struct pki_token *token,
                         const char *asked,
                         const char *before,
                         struct pki_choice *choice)
{
    char name[64];

    snprintf(name, sizeof(name), "%s", before);
    if (!name[0] || strcmp(name, asked) == 0)
        with_suffix(asked, name);
    if (!keeps(token, name))
        return refuse(choice, PKI_REFUSED_NAME,
                      "id: `%s` is taken by another machine, and the token's pattern `%s` allows "
                      "no `%s`; ask for another id, or make a token that replaces it",
                      asked, token->id_pattern, name);
    int r = look_up(edit, name, choice);
    if (r == 0 && choice->is_taken) {
        with_suffix(asked, name);
        r = look_up(edit, name, choice);
        if (r == 0 && choice->is_taken)
            return refuse(choice, PKI_REFUSED_NAME, "id: `%s` is taken; try again", name);
    }
    return pass(r);
}

int pki_choose(struct pki_edit *edit,
               const struct pki_token *token,
               const struct pki_enrolment *asked,
               const char *before,
               struct pki_choice *ret)
{
    const char *wanted = asked->requested_id ? asked->requested_id : "";

    *ret = (struct pki_choice){ .refusal = PKI_REFUSED_NOT };
    if (!wanted[0])
        return pass(choose_own(edit, token, before, ret));
    if (!pki_name_is_good(wanted))
        return refuse(ret, PKI_REFUSED_NAME,
                      "id: 1 to 63 of a-z, 0-9, dot and hyphen, beginning with a letter or digit");
    if (!keeps(token, wanted))
        return refuse(ret, PKI_REFUSED_NAME,
                      "id: the token is for `%s`, and this machine asks for `%s`; ask for an id "
                      "that it allows",
                      token->id_pattern, wanted);
    int r = look_up(edit, wanted, ret);
    if (r != 0 || !ret->is_taken || token->replaces)
        return pass(r);
    if (!is_same_machine(asked->fingerprint, &ret->agent.fingerprint))
        return pass(choose_beside(edit, token, wanted, before, ret));
    if (ret->agent.agent.state == PKI_AGENT_REVOKED)
        return refuse(ret, PKI_REFUSED_REVOKED,
                      "`%s` was revoked on this hub: let it in with `sentinelctl agents readmit "
                      "%s`, or make a token for this id alone",
                      wanted, wanted);
    return 0;
}
