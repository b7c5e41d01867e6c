/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl agents allow, revoke, readmit, forget: whether and from where an agent may come. */
#include <string.h>

#include "common/base/clock.h"
#include "server/ctl/admin.h"

#define MAX_ADDRESSES 16

typedef Sentinel__Admin__V1__ChangeAgentRequest change_request;
typedef Sentinel__Admin__V1__ChangeAgentResponse change_response;

static int change(struct ctl *ctl, change_request *request, const change_response **ret)
{
    ProtobufCMessage *message = NULL;
    int r;

    request->agent_id = admin_copy(ctl, ctl->words[0]);
    request->reason = admin_copy(ctl, ctl->admin.reason);
    r = ctl_call(ctl, ADMIN_PATH("ChangeAgent"), &request->base, &message);
    if (r == CTL_OK)
        *ret = (const void *) message;
    return r;
}

/* What is known of the agent of the command line, one line; for --dry-run. */
static int say_what_would_be(struct ctl *ctl, const char *verb)
{
    Sentinel__Admin__V1__ListAgentIdentitiesRequest request =
        SENTINEL__ADMIN__V1__LIST_AGENT_IDENTITIES_REQUEST__INIT;
    const Sentinel__Admin__V1__ListAgentIdentitiesResponse *answer;
    ProtobufCMessage *message;
    int r;

    request.pattern = admin_copy(ctl, ctl->words[0]);
    r = ctl_call(ctl, ADMIN_PATH("ListAgentIdentities"), &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    if (answer->n_agents == 0)
        return ctl_say(CTL_NOT_FOUND, "no agent `%s` has an identity", ctl->words[0]);
    for (size_t i = 0; i < answer->n_agents; i++) {
        const Sentinel__Query__V1__AgentIdentity *agent = answer->agents[i];

        printf("would %s %s: %s now, certificate %.16s expires %s\n", verb,
               format_printable(ctl, agent->agent_id),
               admin_word(ctl, &sentinel__query__v1__agent_state__descriptor, (int) agent->state),
               *agent->certificate_sha256 ? agent->certificate_sha256 : "(none)",
               format_ago(ctl, convert_time_us(agent->certificate_expires), clock_wall().us));
    }
    return CTL_OK;
}

static void put_change(struct ctl *ctl, const change_response *answer, const char *what)
{
    struct object object;

    if (!ctl->is_json) {
        printf("%s\n", what);
        return;
    }
    object_begin(&object);
    json_put_text(&object.json, "agent", ctl->words[0]);
    json_put_u64(&object.json, "generation", answer->generation);
    if (answer->erased) {
        json_put_u64(&object.json, "erased_samples", answer->erased->samples);
        json_put_u64(&object.json, "erased_log_records", answer->erased->log_records);
    }
    if (*answer->enrolment) {
        json_put_text(&object.json, "enrolment", answer->enrolment);
        json_put_i64(&object.json, "enrolment_expires_us",
                     convert_time_us(answer->enrolment_expires));
    }
    object_end(&object);
}

int cmd_agents_allow(struct ctl *ctl)
{
    change_request request = SENTINEL__ADMIN__V1__CHANGE_AGENT_REQUEST__INIT;
    const change_response *answer;
    char *addresses[MAX_ADDRESSES];
    const bool is_any = ctl->n_words == 2 && strcmp(ctl->words[1], "any") == 0;
    int r;

    for (size_t i = 1; !is_any && i < ctl->n_words; i++)
        addresses[request.n_addresses++] = admin_copy(ctl, ctl->words[i]);
    if (ctl->is_dry_run)
        return say_what_would_be(ctl, "set the addresses of");
    request.change = SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_ALLOW;
    request.addresses = addresses;
    r = change(ctl, &request, &answer);
    if (r == CTL_OK)
        put_change(ctl, answer, is_any ? "allowed from anywhere" : "allowed from these alone");
    return r;
}

int cmd_agents_revoke(struct ctl *ctl)
{
    change_request request = SENTINEL__ADMIN__V1__CHANGE_AGENT_REQUEST__INIT;
    const change_response *answer;
    int r;

    if (ctl->is_dry_run)
        return say_what_would_be(ctl, "revoke");
    r = admin_confirm(ctl, false, "Revoke %s and all its certificates?", ctl->words[0]);
    if (r)
        return r;
    request.change = SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_REVOKE;
    request.reissue = ctl->admin.reissues;
    r = change(ctl, &request, &answer);
    if (r)
        return r;
    if (ctl->is_json || !ctl->admin.reissues) {
        put_change(ctl, answer, "revoked");
        if (!ctl->is_json)
            fprintf(stderr, "Let in again with: sentinelctl agents readmit %s\n",
                    format_printable(ctl, ctl->words[0]));
        return CTL_OK;
    }
    printf("%s\n", format_printable(ctl, answer->enrolment));
    fflush(stdout);
    fprintf(stderr,
            "\nRevoked. The string is shown once, for this agent alone, good until %s.\n"
            "On the machine: sentinel-agent enroll, and paste it.\n",
            format_time(ctl, convert_time_us(answer->enrolment_expires)));
    return CTL_OK;
}

int cmd_agents_readmit(struct ctl *ctl)
{
    change_request request = SENTINEL__ADMIN__V1__CHANGE_AGENT_REQUEST__INIT;
    const change_response *answer;
    int r;

    if (ctl->is_dry_run)
        return say_what_would_be(ctl, "readmit");
    request.change = SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_READMIT;
    r = change(ctl, &request, &answer);
    if (r == CTL_OK)
        put_change(ctl, answer, "readmitted: the certificate that it used last counts");
    return r;
}

int cmd_agents_forget(struct ctl *ctl)
{
    change_request request = SENTINEL__ADMIN__V1__CHANGE_AGENT_REQUEST__INIT;
    const change_response *answer;
    int r;

    if (ctl->is_dry_run)
        return say_what_would_be(ctl, "erase, with all that it sent,");
    r = admin_confirm(ctl, true, "Erase %s with all that it sent? This cannot be undone.",
                      ctl->words[0]);
    if (r)
        return r;
    request.change = SENTINEL__ADMIN__V1__AGENT_CHANGE__AGENT_CHANGE_FORGET;
    r = change(ctl, &request, &answer);
    if (r)
        return r;
    put_change(ctl, answer, "forgotten");
    if (!ctl->is_json && answer->erased)
        fprintf(
            stderr,
            "Erased: certificates, labels, %llu samples, %llu log records, inventories, uploads; "
            "nothing finds\nthem any more. They leave the tables within seconds, and the files "
            "with the next compaction,\nwithin the hour. The audit keeps that this was done; older "
            "backups keep what they have.\n",
            (unsigned long long) answer->erased->samples,
            (unsigned long long) answer->erased->log_records);
    return CTL_OK;
}
