/* SPDX-License-Identifier: Apache-2.0 */
#include "sentinel/admin/v1/admin.pb-c.h"

#include <string.h>

#include "server/ctl/convert.h"

/*
 * agents label AGENT|PATTERN KEY=VALUE... KEY-...
 *
 * KEY=VALUE sets a label, KEY- takes it away; --label narrows the agents. All of them change, or
 * none.
 */

#define SET_AGENT_LABELS "/sentinel.admin.v1.AdminService/SetAgentLabels"

typedef Sentinel__Admin__V1__SetAgentLabelsRequest label_request;

static int add_change(struct ctl *ctl, const char *word, label_request *request)
{
    const size_t len = strlen(word);
    Sentinel__Admin__V1__SetAgentLabelsRequest__SetEntry *entry;
    int r;

    if (!strchr(word, '=') && len > 1 && word[len - 1] == '-') {
        char *key = arena_copy(&ctl->arena, span_of(word, len - 1));

        request->remove[request->n_remove++] = key;
        return key ? CTL_OK : ctl_say(CTL_FAILED, "out of memory");
    }
    if (!strchr(word, '='))
        return ctl_say(CTL_USAGE,
                       "`%s` is neither KEY=VALUE, which sets a label, nor KEY-, which "
                       "takes it away",
                       word);
    entry = arena_alloc(&ctl->arena, sizeof(*entry));
    if (!entry)
        return ctl_say(CTL_FAILED, "out of memory");
    sentinel__admin__v1__set_agent_labels_request__set_entry__init(entry);
    r = convert_pair(ctl, "agents label", word, &entry->key, &entry->value);
    request->set[request->n_set++] = entry;
    return r;
}

int cmd_agents_label(struct ctl *ctl)
{
    label_request request = SENTINEL__ADMIN__V1__SET_AGENT_LABELS_REQUEST__INIT;
    const Sentinel__Admin__V1__SetAgentLabelsResponse *answer;
    ProtobufCMessage *message;
    ctl_selector selector;
    int r;

    r = convert_selector(ctl, &selector);
    if (!r)
        r = convert_add_agent(ctl, ctl->words[0], &selector);
    if (r)
        return r;
    request.agents = &selector;
    request.set = arena_alloc_array(&ctl->arena, ctl->n_words,
                                    sizeof(Sentinel__Admin__V1__SetAgentLabelsRequest__SetEntry *));
    request.remove = arena_alloc_array(&ctl->arena, ctl->n_words, sizeof(char *));
    if (!request.set || !request.remove)
        return ctl_say(CTL_FAILED, "out of memory");
    for (size_t i = 1; !r && i < ctl->n_words; i++)
        r = add_change(ctl, ctl->words[i], &request);
    if (!r)
        r = ctl_call(ctl, SET_AGENT_LABELS, &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    if (ctl->is_json)
        printf("{\"selected\": %u, \"changed\": %u}\n", answer->selected, answer->changed);
    else
        printf("%u of %u agent%s changed\n", answer->changed, answer->selected,
               answer->selected == 1 ? "" : "s");
    return CTL_OK;
}
