/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"
#include "server/ops/certs.h"
#include "server/ops/ops.h"
#include "server/pki/pki.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub certs generate ./pki --name hub.example.org --agent web-1 --operator vera\n"
    "  sentinel-hub certs rotate ./pki --grace 30d\n"
    "  sentinel-hub certs show ./pki/hub/server-cert.pem\n"
    "  sentinel-hub certs verify ./pki/agents/web-1\n"
    "\n"
    "For people who make and hand out certificates themselves; a hub needs none of this.\n"
    "\n"
    "generate DIR   a root, two intermediates, and what is named: the hub's certificate, agents "
    "and\n"
    "               operators. What is there is never overwritten: run it again for the next one.\n"
    "rotate DIR     makes anew, with new keys, what ends within --grace; the old ones are kept in\n"
    "               DIR/backup/TIME. The hub's own directory is not for this: it renews by "
    "itself.\n"
    "show PATH      what the certificates of a file or an identity directory say.\n"
    "verify PATH    whether the chain leads to the root, the key belongs to it, the files are "
    "closed\n"
    "               to others; --roots FILE and --host NAME for a chain by itself.\n";

#define LIFE_US_MIN (INT64_C(60) * 1000000)
#define LIFE_US_MAX (INT64_C(3650) * 24 * 3600 * 1000000)
#define MAX_NAMES 63
#define COMMAND "certs"

struct certs_flags {
    const char *organisation, *trust_domain, *ca_key_file, *life, *grace;
    struct certs_check check;
    struct conf_list names, agents, operators;
    bool is_server;
};

static void flags_deinit(struct certs_flags *flags)
{
    free(flags->names.items); /* the items are argv's */
    free(flags->agents.items);
    free(flags->operators.items);
}

static void on_made(void *ctx, const char *path)
{
    (void) ctx;
    printf("%s\n", path);
}

static int read_time(const char *flag, const char *text, int64_t least_us, int64_t *ret)
{
    if (!text || (text_to_duration_us(text, ret) == 0 && *ret >= least_us && *ret <= LIFE_US_MAX))
        return OPS_OK;
    return ops_refuse(COMMAND, OPS_USAGE, "%s: `%.40s` is not a time up to 3650d, such as 30d",
                      flag, text);
}

/* With a NULL behind. */
static int put_names(const struct conf_list *list, const char *flag, const char **to)
{
    if (list->n_items > MAX_NAMES)
        return ops_refuse(COMMAND, OPS_USAGE, "%s: at most %d at a time", flag, MAX_NAMES);
    for (size_t i = 0; i < list->n_items; i++)
        to[i] = list->items[i];
    return OPS_OK;
}

static int finish(int r, const struct tls_why *why)
{
    if (r == 0)
        return OPS_OK;
    return ops_refuse(COMMAND, r > 0 ? ops_exit_of_pki(r) : OPS_FAILED, "%s",
                      r > 0 ? why->text
                            : "not all of it was made; once that is mended, run it again");
}

static int generate(const struct certs_flags *flags, const char *directory)
{
    const char *names[MAX_NAMES + 1] = { NULL }, *agents[MAX_NAMES + 1] = { NULL };
    const char *operators[MAX_NAMES + 1] = { NULL };
    struct tls_why why = { "" };
    int64_t life_us = 0;

    int done = read_time("--life", flags->life, LIFE_US_MIN, &life_us);
    if (done == OPS_OK)
        done = put_names(&flags->names, "--name", names);
    if (done == OPS_OK)
        done = put_names(&flags->agents, "--agent", agents);
    if (done == OPS_OK)
        done = put_names(&flags->operators, "--operator", operators);
    if (done != OPS_OK)
        return done;
    const struct pki_offline wish = {
        .directory = directory,
        .ca_key_file = flags->ca_key_file,
        .organisation = flags->organisation,
        .trust_domain = flags->trust_domain,
        .names = names,
        .agents = agents,
        .operators = operators,
        .agent_life_us = life_us,
        .operator_life_us = life_us,
        .hub_life_us = life_us,
        .made = on_made,
    };
    return finish(pki_offline_generate(&wish, &why), &why);
}

static int rotate(const struct certs_flags *flags, const char *directory)
{
    int64_t grace_us = INT64_C(30) * 24 * 3600 * 1000000, life_us = 0;
    struct tls_why why = { "" };
    uint32_t n = 0;

    int done = read_time("--grace", flags->grace, 0, &grace_us);
    if (done == OPS_OK)
        done = read_time("--life", flags->life, LIFE_US_MIN, &life_us);
    if (done != OPS_OK)
        return done;
    const struct pki_offline wish = {
        .directory = directory,
        .ca_key_file = flags->ca_key_file,
        .agent_life_us = life_us,
        .operator_life_us = life_us,
        .hub_life_us = life_us,
        .made = on_made,
    };
    int r = pki_offline_rotate(&wish, grace_us, &n, &why);
    if (r == 0)
        fprintf(stderr, "%u made anew%s\n", (unsigned) n,
                n > 0 ? "; the old ones are in backup/" : ": nothing ends within the grace");
    return finish(r, &why);
}

int ops_certs(int argc, char **argv)
{
    CLEANUP(flags_deinit) struct certs_flags flags = { 0 };
    const struct conf_option options[] = {
        { .flag = "--name",
          .metavar = "HOST_OR_IP",
          .values = &flags.names,
          .help = "generate: a name of the hub; may be repeated" },
        { .flag = "--agent",
          .metavar = "ID",
          .values = &flags.agents,
          .help = "generate: an agent; may be repeated" },
        { .flag = "--operator",
          .metavar = "NAME",
          .values = &flags.operators,
          .help = "generate: an operator; may be repeated" },
        { .flag = "--organisation",
          .metavar = "O",
          .value = &flags.organisation,
          .help = "generate: O of every certificate; Sentinel" },
        { .flag = "--trust-domain",
          .metavar = "T",
          .value = &flags.trust_domain,
          .help = "generate: of the SPIFFE ids; sentinel.internal" },
        { .flag = "--life",
          .metavar = "TIME",
          .value = &flags.life,
          .help = "generate, rotate: of what is made; 365d" },
        { .flag = "--grace",
          .metavar = "TIME",
          .value = &flags.grace,
          .help = "rotate: what ends within it; 30d" },
        { .flag = "--ca-key-file",
          .metavar = "FILE",
          .value = &flags.ca_key_file,
          .help = "key that seals those of the CA; SENTINEL_HUB_CA_KEY, else none" },
        { .flag = "--roots",
          .metavar = "FILE",
          .value = &flags.check.roots,
          .help = "verify: PEM of the roots, for a chain by itself" },
        { .flag = "--host",
          .metavar = "NAME",
          .value = &flags.check.host,
          .help = "verify: a name that the certificate must carry" },
        { .flag = "--server",
          .is_set = &flags.is_server,
          .help = "verify: as a hub's certificate" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = COMMAND,
                                     .words = "generate|rotate|show|verify PATH",
                                     .text = help,
                                     .options = options,
                                     .min_words = 2,
                                     .max_words = 2 };
    struct conf_args args = { 0 };

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    flags.check.is_server = flags.is_server || flags.check.host;
    const char *verb = args.rest[0], *path = args.rest[1];
    if (strcmp(verb, "generate") == 0)
        return generate(&flags, path);
    if (strcmp(verb, "rotate") == 0)
        return rotate(&flags, path);
    if (strcmp(verb, "show") == 0)
        return certs_show(path);
    if (strcmp(verb, "verify") == 0)
        return certs_verify(path, &flags.check);
    return ops_refuse(COMMAND, OPS_USAGE,
                      "`%.40s` is none of generate, rotate, show, verify; --help has examples",
                      verb);
}
