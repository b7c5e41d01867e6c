/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/base/text.h"
#include "server/ops/ops.h"
#include "server/pki/pki.h"
#include "server/settings.h"
#include "server/store/store.h"

static const char help[] =
    "Example:\n"
    "  sentinel-hub issue agent web-1 --out ./web-1\n"
    "  sentinel-hub issue operator alice --role viewer --out ./alice\n"
    "\n"
    "Makes a key and a certificate, registers it, and writes an identity directory (ca-cert.pem,\n"
    "client-cert.pem, client-key.pem). A running hub knows it within 200 ms.\n";

#define LIFE_US_MIN (INT64_C(60) * 1000000)
#define LIFE_US_MAX (INT64_C(366) * 24 * 3600 * 1000000)

static int read_role(const char *text, enum pki_role *ret)
{
    static const enum pki_role roles[] = { PKI_ROLE_VIEWER, PKI_ROLE_OPERATOR, PKI_ROLE_ADMIN };

    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (strcmp(text, pki_role_name(roles[i])) == 0) {
            *ret = roles[i];
            return 0;
        }
    }
    return ops_refuse("issue", OPS_USAGE, "--role: `%.40s` is none of viewer, operator, admin",
                      text);
}

static int
fill(const struct conf_args *args, const char *role, const char *life, struct pki_issue *issue)
{
    if (strcmp(args->rest[0], "agent") == 0)
        issue->kind = PKI_AGENT;
    else if (strcmp(args->rest[0], "operator") == 0)
        issue->kind = PKI_OPERATOR;
    else
        return ops_refuse("issue", OPS_USAGE, "`%.40s` is neither `agent` nor `operator`",
                          args->rest[0]);
    issue->name = args->rest[1];
    if (!issue->directory)
        return ops_refuse("issue", OPS_USAGE, "--out DIR is missing: where the identity goes");
    if (role && issue->kind == PKI_AGENT)
        return ops_refuse("issue", OPS_USAGE, "--role is for operators; an agent is an agent");
    if (role && read_role(role, &issue->role) != 0)
        return OPS_USAGE;
    if (life && (text_to_duration_us(life, &issue->life_us) != 0 || issue->life_us < LIFE_US_MIN ||
                 issue->life_us > LIFE_US_MAX))
        return ops_refuse("issue", OPS_USAGE,
                          "--life: `%.40s` is not a time from 1m to 366d, such as 12h or 7d", life);
    return OPS_OK;
}

static int issue_identity(const struct pki_options *options, const struct pki_issue *issue)
{
    CLEANUP(store_closep) struct store *store = NULL;
    CLEANUP(pki_closep) struct pki *pki = NULL;
    struct tls_why why = { "" };

    int exit_code = ops_open_store("issue", options->state_directory, &store);
    if (exit_code != 0)
        return exit_code;
    int r = pki_open_with(&pki, store, options, &why);
    if (r == 0)
        r = pki_issue_identity(pki, issue, &why);
    if (r > 0)
        return ops_refuse("issue", ops_exit_of_pki(r), "%s", why.text);
    return r == 0 ? OPS_OK
                  : ops_refuse("issue", OPS_FAILED,
                               "no identity was made; once that is mended, run "
                               "it again");
}

int ops_issue(int argc, char **argv)
{
    const char *state = NULL, *role = NULL, *life = NULL, *ca_key_file = NULL;
    struct pki_issue issue = { 0 };
    const struct conf_option options[] = {
        { .flag = "--out",
          .metavar = "DIR",
          .value = &issue.directory,
          .help = "becomes the identity directory" },
        { .flag = "--role",
          .metavar = "ROLE",
          .value = &role,
          .help = "of an operator: viewer, operator or admin; operator" },
        { .flag = "--life",
          .metavar = "TIME",
          .value = &life,
          .help = "7d for agents, 90d for operators" },
        { .flag = "--state-dir",
          .metavar = "DIR",
          .value = &state,
          .help = "the hub's; $STATE_DIRECTORY, else /var/lib/sentinel-hub" },
        { .flag = "--ca-key-file",
          .metavar = "FILE",
          .value = &ca_key_file,
          .help = "key that those of the CA are sealed under; SENTINEL_HUB_CA_KEY, else "
                  "$CREDENTIALS_DIRECTORY/ca-key, else none" },
        { .flag = NULL },
    };
    const struct ops_usage usage = { .command = "issue",
                                     .words = "agent|operator NAME",
                                     .text = help,
                                     .options = options,
                                     .min_words = 2,
                                     .max_words = 2 };
    struct conf_args args = { 0 };

    int done = ops_parse(argc, argv, &usage, &args);
    if (done >= 0)
        return done;
    int exit_code = fill(&args, role, life, &issue);
    const struct pki_options where = { .state_directory = settings_state_directory(state),
                                       .ca_key_file = ca_key_file };
    if (exit_code == OPS_OK)
        exit_code = issue_identity(&where, &issue);
    if (exit_code != OPS_OK)
        return exit_code;
    printf("%s\n", issue.directory);
    fprintf(stderr, "The identity of %s %s is in %s.\n",
            issue.kind == PKI_AGENT ? "agent" : "operator", issue.name, issue.directory);
    if (issue.kind == PKI_AGENT)
        fprintf(stderr, "Next: sentinel-agent run --hub HOST:PORT --identity %s\n",
                issue.directory);
    else
        fprintf(stderr, "Next: sentinelctl --hub HOST:PORT --identity %s status\n",
                issue.directory);
    return OPS_OK;
}
