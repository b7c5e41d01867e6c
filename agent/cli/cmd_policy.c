/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent policy [--policy-file F] [--yaml | --json] */
#include "agent/cli/cmd.h"
#include "agent/policy/policy.h"
#include "common/base/text.h"
#include "common/json/json.h"

static void print_json(const struct policy *policy, const char *file, struct buf *to)
{
    struct json_writer json;

    json_begin(&json, to, true);
    json_open_object(&json);
    json_put_text(&json, "file", file);
    json_put_text(&json, "state", policy_state_name(policy->state));
    json_put_text(&json, "problem", policy->problem);
    json_put_text(&json, "sha256", policy->sha256);
    json_key(&json, "rules");
    json_open_object(&json);
    policy_put_rules(policy, &json);
    json_close_object(&json);
    json_close_object(&json);
    buf_append_text(to, "\n");
}

static void print_list(const char *words, const struct conf_list *list, struct buf *to)
{
    buf_append_text(to, words);
    for (size_t i = 0; i < list->n_items; i++)
        buf_printf(to, "%s%s", i ? ", " : " ", list->items[i]);
    buf_append_text(to, "\n");
}

static void print_text(const struct policy *policy, const char *file, struct buf *to)
{
    const bool is_open = policy->state != POLICY_CLOSED;
    char times[2][TEXT_DURATION_BYTES], size[TEXT_SIZE_BYTES];

    buf_printf(to, "policy         %s, %s\n", file,
               policy->state == POLICY_DEFAULTS ? "which is not there: the defaults hold"
               : is_open                        ? "loaded"
                                                : "CANNOT BE USED: nothing is allowed");
    if (policy->problem[0])
        buf_printf(to, "               %s\n", policy->problem);
    if (is_open && policy->interval_allow)
        buf_printf(to, "interval       the hub may ask for %s to %s\n",
                   text_of_duration_us(policy->interval_min, times[0]),
                   text_of_duration_us(policy->interval_max, times[1]));
    else
        buf_append_text(to, "interval       this machine's own\n");
    if (is_open && policy->commands_allow)
        print_list("commands       may run:", &policy->commands_programs, to);
    else
        buf_append_text(to, "commands       none\n");
    if (is_open && policy->terminals_allow)
        buf_printf(to, "terminals      %s, %s at most, closed after %s without a key\n",
                   policy->terminals_shell,
                   text_of_duration_us(policy->terminals_max_time, times[0]),
                   text_of_duration_us(policy->terminals_idle_time, times[1]));
    else
        buf_append_text(to, "terminals      none\n");
    if (is_open && policy->files_read.n_items) {
        print_list("files          may be read:", &policy->files_read, to);
        print_list("               but not:", &policy->files_deny, to);
        buf_printf(to, "               up to %s each\n",
                   text_of_size(policy->files_max_size, size));
    } else {
        buf_append_text(to, "files          none\n");
    }
    if (is_open && policy->proxy_targets.n_items)
        print_list("proxy          may reach:", &policy->proxy_targets, to);
    else
        buf_append_text(to, "proxy          nothing\n");
    if (is_open && policy->configuration_settings.n_items)
        print_list("configuration  the hub may set:", &policy->configuration_settings, to);
    else
        buf_append_text(to, "configuration  this machine's own\n");
}

int cmd_policy(int argc, char **argv)
{
    bool is_yaml = false;
    const struct conf_option options[] = {
        { .flag = "--yaml",
          .is_set = &is_yaml,
          .help = "print it as a file to begin with, every rule with its meaning" },
        { .flag = NULL },
    };
    const struct cmd cmd = {
        .usage = "policy [--policy-file F] [--yaml | --json]",
        .help = "What the hub may ask of this machine. It is written here, in a file that no hub "
                "can change. Exits with 1 when the file cannot be used.",
        .options = options,
        .has_json = true,
        .has_settings = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(policy_free) struct policy policy = { 0 };
    CLEANUP(buf_deinit) struct buf text = { 0 };
    int code = CLI_FAILURE;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    if (policy_load(line.settings.policy_file, &policy))
        return CLI_FAILURE;
    if (is_yaml)
        policy_print(&policy, &text);
    else if (line.is_json)
        print_json(&policy, line.settings.policy_file, &text);
    else
        print_text(&policy, line.settings.policy_file, &text);
    code = cmd_print(&text);
    return code || policy.state != POLICY_CLOSED ? code : CLI_FAILURE;
}
