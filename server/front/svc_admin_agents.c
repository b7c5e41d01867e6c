/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.admin.v1.AdminService: what the registry knows of agents, and what is done to them. */

#include "sentinel/admin/v1/admin.pb-c.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/faultpoint.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

/* ---- what is known ---- */

typedef Sentinel__Query__V1__AgentIdentity identity_message;

static char **addresses_of(struct unary *unary, const struct pki_agent *agent)
{
    char **to = unary_alloc(unary, agent->n_addresses + 1, sizeof(char *));

    for (size_t i = 0; to && i < agent->n_addresses; i++)
        to[i] = front_copy(unary, agent->addresses[i]);
    return to;
}

identity_message *svc_admin_identity(struct unary *unary, const struct pki_agent *agent)
{
    identity_message *to = unary_alloc(unary, 1, sizeof(*to));

    if (!to)
        return NULL;
    sentinel__query__v1__agent_identity__init(to);
    to->agent_id = front_copy(unary, agent->name);
    to->state = (Sentinel__Query__V1__AgentState) agent->state;
    to->enrolled = unary_time(unary, agent->enrolled);
    to->changed = unary_time(unary, agent->changed);
    to->reason = front_copy(unary, agent->reason);
    to->addresses = addresses_of(unary, agent);
    to->n_addresses = to->addresses ? agent->n_addresses : 0;
    to->certificate_sha256 = front_hex(unary, agent->current, sizeof(agent->current));
    to->certificate_expires = unary_time(unary, agent->not_after);
    to->has_fingerprint = agent->has_fingerprint;
    to->clones = agent->n_clones;
    to->last_address = front_copy(unary, agent->last_peer);
    return to;
}

typedef Sentinel__Admin__V1__ListAgentIdentitiesRequest list_request;
typedef Sentinel__Admin__V1__ListAgentIdentitiesResponse list_response;

static bool fits(const list_request *request, const struct pki_agent *agent, struct span behind)
{
    const struct span name = span_of_text(agent->name);
    const size_t len = name.len < behind.len ? name.len : behind.len;
    const int order = behind.len ? memcmp(name.data, behind.data, len) : 1;

    if (order < 0 || (order == 0 && name.len <= behind.len))
        return false;
    if (request->state != 0 && (int) request->state != (int) agent->state)
        return false;
    return !request->pattern[0] || identity_matches(request->pattern, agent->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct pki_agent *) a)->name, ((const struct pki_agent *) b)->name);
}

/* A page is what lies behind the last id. */
static enum front_failure
answer_page(struct unary *unary, uint32_t limit, struct span question, struct span behind)
{
    const list_request *request = (const void *) unary->request;
    list_response *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct pki_agent *agents = NULL;
    const char *last = "";
    size_t n = 0;

    if (pki_agent_list(unary->front->options.pki, &unary->arena, &agents, &n) != 0)
        return FAIL_FAULT;
    if (!answer)
        return unary_finish(unary, NULL);
    if (n > 0)
        qsort(agents, n, sizeof(*agents), by_name);
    sentinel__admin__v1__list_agent_identities_response__init(answer);
    answer->agents = unary_alloc(unary, limit, sizeof(*answer->agents));
    for (size_t i = 0; answer->agents && i < n; i++) {
        if (!fits(request, &agents[i], behind))
            continue;
        if (answer->n_agents == limit) {
            answer->next_page_token = front_token_make(unary, question, span_of_text(last));
            break;
        }
        last = agents[i].name;
        answer->agents[answer->n_agents++] = svc_admin_identity(unary, &agents[i]);
    }
    return unary_finish(unary, &answer->base);
}

enum front_failure svc_admin_list_agent_identities(struct unary *unary)
{
    const list_request *request = (const void *) unary->request;
    CLEANUP(buf_deinit) struct buf question = { 0 };
    struct span behind = { 0 };
    uint32_t limit = 0;
    enum front_failure failure = front_needs_pki(unary);

    buf_printf(&question, "%d %s", (int) request->state, request->pattern);
    if (failure == FAIL_NOT)
        failure = front_page_size(unary, request->page_size, &limit);
    if (failure == FAIL_NOT)
        failure = front_token_read(unary, request->page_token, buf_span(&question), &behind);
    return failure == FAIL_NOT ? answer_page(unary, limit, buf_span(&question), behind) : failure;
}

/* ---- what is done ---- */

typedef Sentinel__Admin__V1__ChangeAgentRequest change_request;
typedef Sentinel__Admin__V1__ChangeAgentResponse change_response;

static enum front_failure revoke(struct unary *unary,
                                 const change_request *request,
                                 const struct pki_act *act,
                                 change_response *answer)
{
    struct pki_token token = { 0 };
    enum front_failure failure = FAIL_NOT;
    char *hub = NULL, *pin = NULL;
    int r = pki_agent_revoke(unary->front->options.pki, request->agent_id, act,
                             request->reissue ? &token : NULL, &answer->generation);

    if (r != PKI_OK)
        return front_failure_of_act(r, "agent_id", NULL, &unary->detail);
    if (request->reissue) {
        failure = front_enrolment_string(unary, &token, &answer->enrolment, &hub, &pin);
        answer->enrolment_expires = unary_time(unary, token.expires);
        crypto_wipe(token.secret, sizeof(token.secret));
    }
    return failure;
}

static enum front_failure allow(struct unary *unary,
                                const change_request *request,
                                const struct pki_act *act,
                                change_response *answer)
{
    struct tls_why why = { "" };
    int r;

    if (request->n_addresses > PKI_MAX_ADDRESSES) {
        front_describe(&unary->detail, "addresses", "at most %u; a CIDR holds many",
                       PKI_MAX_ADDRESSES);
        return FAIL_BAD_QUESTION;
    }
    r = pki_agent_allow(unary->front->options.pki, request->agent_id,
                        (const char *const *) request->addresses, request->n_addresses, act, &why);
    answer->generation = pki_generation(unary->front->options.pki);
    return front_failure_of_act(r, why.text[0] ? "addresses" : "agent_id", &why, &unary->detail);
}

static Sentinel__Admin__V1__ErasedAgent *erased_message(struct unary *unary,
                                                        const struct store_forgotten *forgotten)
{
    Sentinel__Admin__V1__ErasedAgent *to = unary_alloc(unary, 1, sizeof(*to));

    if (!to)
        return NULL;
    sentinel__admin__v1__erased_agent__init(to);
    to->samples = forgotten->n_samples;
    to->log_records = forgotten->n_log_records;
    return to;
}

/* Thrown out first: nothing of it comes while what there is goes. */
static enum front_failure forget(struct unary *unary,
                                 const change_request *request,
                                 const struct pki_act *act,
                                 change_response *answer)
{
    struct front *front = unary->front;
    struct store_forgotten forgotten = { 0 };
    uint32_t number = 0;
    int known, r;

    if (store_agent_find(front->options.store, request->agent_id, &number) != 0)
        number = 0;
    known = pki_agent_forget(front->options.pki, request->agent_id, number, act);

    if (known != PKI_OK && known != PKI_UNKNOWN)
        return front_failure_of_act(known, "agent_id", NULL, &unary->detail);
    front_act_cuts(unary);
    faultpoint("forget_after_registry");
    r = store_agent_forget(front->options.store, request->agent_id, &forgotten);
    answer->erased = erased_message(unary, &forgotten);
    answer->generation = pki_generation(front->options.pki);
    if (r == STORE_OK || (r == STORE_NOT_FOUND && known == PKI_OK))
        return FAIL_NOT;
    if (r == STORE_NOT_FOUND)
        return front_failure_of_act(known, "agent_id", NULL, &unary->detail);
    return r == STORE_FULL ? FAIL_FULL : r == STORE_STOPPED ? FAIL_STOPPING : FAIL_FAULT;
}

static enum front_failure
change(struct unary *unary, const change_request *request, change_response *answer)
{
    struct pki *pki = unary->front->options.pki;
    struct front_act to;
    const struct pki_act *act = front_act_of(unary, request->reason, &to);

    /* As an int: the generated enum has a member that only keeps its size. */
    switch ((int) request->change) {
    case SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_ALLOW:
        return allow(unary, request, act, answer);
    case SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_REVOKE:
        return revoke(unary, request, act, answer);
    case SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_READMIT:
        return front_failure_of_act(
            pki_agent_readmit(pki, request->agent_id, act, &answer->generation), "agent_id", NULL,
            &unary->detail);
    case SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_FORGET:
        return forget(unary, request, act, answer);
    default:
        front_describe(&unary->detail, "change",
                       "AGENT_CHANGE_ALLOW, _REVOKE, _READMIT or _FORGET");
        return FAIL_BAD_QUESTION;
    }
}

enum front_failure svc_admin_change_agent(struct unary *unary)
{
    const change_request *request = (const void *) unary->request;
    change_response *answer = unary_alloc(unary, 1, sizeof(*answer));
    enum front_failure failure = front_needs_pki(unary);

    if (failure != FAIL_NOT)
        return failure;
    if (!answer)
        return unary_finish(unary, NULL);
    if (request->agent_id[0] == '\0') {
        front_describe(&unary->detail, "agent_id", "which agent? ListAgents has the ids");
        return FAIL_BAD_QUESTION;
    }
    sentinel__admin__v1__change_agent_response__init(answer);
    failure = change(unary, request, answer);
    if (failure != FAIL_NOT)
        return failure;
    front_act_cuts(unary);
    log_event(LOG_INFO, "agent_changed", LOG_S("by", unary->caller.name),
              LOG_S("agent", request->agent_id), LOG_I("change", (int) request->change));
    return unary_finish(unary, &answer->base);
}
