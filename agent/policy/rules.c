/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/policy/rules.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/text.h"
#include "common/peer/peer.h"

PRINTF_LIKE(2, 3) static bool deny(struct policy_why *why, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, args);
    va_end(args);
    return false;
}

/* ---- what the rules look like ---- */

bool rules_is_whole_path(const char *path, bool is_tree_fine)
{
    const char *part = path;
    const size_t n_bytes = strlen(path);

    if (path[0] != '/' || n_bytes >= PATH_MAX)
        return false;
    for (size_t i = 0; i < n_bytes; i++)
        if ((unsigned char) path[i] < 0x20 || path[i] == 0x7f)
            return false;
    while (*part == '/') {
        const char *name = part + 1;
        const size_t len = strcspn(name, "/");

        if (len == 0)
            return *name == '\0' && is_tree_fine;
        if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
            return false;
        part = name + len;
    }
    return true;
}

static bool parse_ports(const char *text, struct rules_target *ret)
{
    char first[8] = "";
    const char *dash = strchr(text, '-');
    uint64_t low, high;

    if (strcmp(text, "*") == 0) {
        ret->first_port = 1;
        ret->last_port = 65535;
        return true;
    }
    if (dash && (size_t) (dash - text) >= sizeof(first))
        return false;
    if (dash)
        memcpy(first, text, (size_t) (dash - text));
    if (text_to_u64(dash ? first : text, &low) || text_to_u64(dash ? dash + 1 : text, &high))
        return false;
    if (low == 0 || high > 65535 || low > high)
        return false;
    ret->first_port = (uint32_t) low;
    ret->last_port = (uint32_t) high;
    return true;
}

static bool is_host_name(const char *host)
{
    if (!host[0] || host[0] == '-')
        return false;
    for (const char *at = host; *at; at++)
        if (!strchr("-._", *at) && (*at < '0' || *at > '9') && (*at < 'a' || *at > 'z') &&
            (*at < 'A' || *at > 'Z'))
            return false;
    return true;
}

int rules_parse_target(const char *text, struct rules_target *ret)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t) (colon - text) : 0;
    struct peer_net net;

    *ret = (struct rules_target){ 0 };
    if (len == 0 || len >= sizeof(ret->host) || !parse_ports(colon + 1, ret))
        return CONF_BAD;
    if (text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return CONF_BAD; /* an IPv6 address without brackets: where does its port begin? */
    }
    memcpy(ret->host, text, len);
    ret->is_range = peer_net_parse(ret->host, &net) == 0;
    return ret->is_range || is_host_name(ret->host) ? 0 : CONF_BAD;
}

/* ---- the check of a whole policy ---- */

static bool is_program_rule(const char *rule)
{
    char path[PATH_MAX];
    const size_t len = strcspn(rule, " ");

    if (strcmp(rule, "*") == 0)
        return true;
    if (len >= sizeof(path))
        return false;
    memcpy(path, rule, len);
    path[len] = '\0';
    return rules_is_whole_path(path, false) && !strpbrk(path, "*?");
}

PRINTF_LIKE(3, 4) static int refuse(char *to, size_t size, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(to, size, fmt, args);
    va_end(args);
    return CONF_BAD;
}

int rules_check(const struct policy *policy, char *to, size_t size)
{
    struct rules_target target;

    if (policy->interval_min > policy->interval_max)
        return refuse(to, size, "interval.min is longer than interval.max; swap them");
    for (size_t i = 0; i < policy->commands_programs.n_items; i++)
        if (!is_program_rule(policy->commands_programs.items[i]))
            return refuse(to, size,
                          "commands.programs: `%.100s`: begin with a whole path without * and ?, "
                          "such as /usr/bin/uptime",
                          policy->commands_programs.items[i]);
    if (!rules_is_whole_path(policy->terminals_shell, false))
        return refuse(to, size, "terminals.shell: `%.100s`: write the whole path, such as /bin/sh",
                      policy->terminals_shell);
    for (size_t i = 0; i < policy->files_read.n_items; i++)
        if (!rules_is_whole_path(policy->files_read.items[i], true))
            return refuse(to, size,
                          "files.read: `%.100s`: write a whole path without `.`, `..` and `//`; "
                          "a directory ends with a slash",
                          policy->files_read.items[i]);
    for (size_t i = 0; i < policy->files_deny.n_items; i++)
        if (!policy->files_deny.items[i][0] || strchr(policy->files_deny.items[i], '/'))
            return refuse(to, size,
                          "files.deny: `%.100s`: write a pattern of a name, without slashes",
                          policy->files_deny.items[i]);
    for (size_t i = 0; i < policy->proxy_targets.n_items; i++)
        if (rules_parse_target(policy->proxy_targets.items[i], &target))
            return refuse(to, size,
                          "proxy.targets: `%.100s`: write HOST:PORT, 10.0.0.0/8:443 or "
                          "[fd00::/8]:22; PORT is a number, 8000-8100 or *",
                          policy->proxy_targets.items[i]);
    return 0;
}

/* ---- interval ---- */

int64_t policy_limit_interval(const struct policy *policy, int64_t wish_us)
{
    if (wish_us <= 0 || !policy->interval_allow)
        return 0;
    if (wish_us < policy->interval_min)
        return policy->interval_min;
    return wish_us > policy->interval_max ? policy->interval_max : wish_us;
}

/* ---- commands ---- */

static bool is_closed(const struct policy *policy, struct policy_why *ret_why)
{
    if (policy->state != POLICY_CLOSED)
        return false;
    (void) deny(ret_why, "this machine's policy cannot be used, so nothing is allowed: %.300s",
                policy->problem);
    return true;
}

/*
 * A word against a pattern of `len` bytes. A pattern that begins with a wildcard means a name or a
 * number, never an option: `systemctl restart *` shall not become `systemctl restart --force`.
 */
static bool word_matches(const char *pattern, size_t len, const char *word)
{
    char text[PATH_MAX];

    if (len >= sizeof(text))
        return false;
    memcpy(text, pattern, len);
    text[len] = '\0';
    if ((text[0] == '*' || text[0] == '?') && word[0] == '-')
        return false;
    return text_matches(text, word);
}

/* "/usr/bin/systemctl restart web-* ..." against the words of a command. */
static bool program_matches(const char *rule, const char *const *argv, size_t n_words)
{
    size_t at = 0;

    if (strcmp(rule, "*") == 0)
        return true;
    for (;;) {
        size_t len;

        rule += strspn(rule, " ");
        len = strcspn(rule, " ");
        if (len == 0)
            return at == n_words;
        if (at > 0 && len == 3 && strncmp(rule, "...", 3) == 0 && rule[3] == '\0')
            return true;
        if (at == n_words)
            return false;
        if (at == 0 ? strlen(argv[0]) != len || memcmp(argv[0], rule, len) != 0
                    : !word_matches(rule, len, argv[at]))
            return false;
        at++;
        rule += len;
    }
}

bool policy_allows_command(const struct policy *policy,
                           const char *const *argv,
                           size_t n_words,
                           size_t n_running,
                           struct policy_why *ret_why)
{
    if (is_closed(policy, ret_why))
        return false;
    if (!policy->commands_allow)
        return deny(ret_why, "this machine runs no commands of the hub: commands.allow is false");
    if (n_words == 0 || !rules_is_whole_path(argv[0], false))
        return deny(ret_why, "a command begins with the whole path of its program, without `.`, "
                             "`..` and `//`");
    if (n_running >= policy->commands_max_running)
        return deny(ret_why, "%zu commands of the hub run here already: commands.max_running",
                    n_running);
    for (size_t i = 0; i < policy->commands_programs.n_items; i++)
        if (program_matches(policy->commands_programs.items[i], argv, n_words))
            return true;
    return deny(ret_why, "`%.100s` with these words is not among commands.programs", argv[0]);
}

bool policy_allows_terminal(const struct policy *policy, size_t n_open, struct policy_why *ret_why)
{
    if (is_closed(policy, ret_why))
        return false;
    if (!policy->terminals_allow)
        return deny(ret_why, "this machine opens no terminals: terminals.allow is false");
    if (n_open >= policy->terminals_max_open)
        return deny(ret_why, "%zu terminals are open here already: terminals.max_open", n_open);
    return true;
}

/* ---- targets ---- */

static bool target_matches(const char *rule, const char *host, uint16_t port)
{
    struct peer_address address = { 0 };
    struct rules_target target;
    struct peer_net net, asked;
    bool is_address;

    if (rules_parse_target(rule, &target) || port < target.first_port || port > target.last_port)
        return false;
    is_address = !strchr(host, '/') && peer_net_parse(host, &asked) == 0;
    if (is_address != target.is_range)
        return false;
    if (!is_address)
        return strcasecmp(host, target.host) == 0;
    if (peer_net_parse(target.host, &net))
        return false;
    memcpy(address.ip, asked.ip, sizeof(address.ip));
    return peer_nets_have(&(struct peer_nets){ .nets = { net }, .n = 1 }, &address);
}

bool policy_allows_target(const struct policy *policy,
                          const char *host,
                          uint16_t port,
                          size_t n_open,
                          struct policy_why *ret_why)
{
    if (is_closed(policy, ret_why))
        return false;
    if (policy->proxy_targets.n_items == 0)
        return deny(ret_why, "nothing is reached through this machine: proxy.targets is empty");
    if (n_open >= policy->proxy_max_open)
        return deny(ret_why, "%zu connections are open here already: proxy.max_open", n_open);
    for (size_t i = 0; i < policy->proxy_targets.n_items; i++)
        if (target_matches(policy->proxy_targets.items[i], host, port))
            return true;
    return deny(ret_why, "%.100s port %u is not among proxy.targets", host, (unsigned) port);
}

/* ---- settings ---- */

/* What a hub that could set them would get beyond this policy: other hubs and identities, other
 * files that are read and sent, programs that run. */
static const char *const never[] = {
    "hub",
    "hub_fallback",
    "server_name",
    "identity",
    "state_dir",
    "policy_file",
    "tls.*",
    "collect.root",
    "collect.exec.*",
    "collect.scrape.*",
    "collect.textfile.*",
    "collect.statsd.*",
    "inventory.certificates",
    "logs.*",
    "upload.*",
    NULL,
};

bool policy_allows_setting(const struct policy *policy,
                           const char *name,
                           struct policy_why *ret_why)
{
    if (is_closed(policy, ret_why))
        return false;
    for (size_t i = 0; never[i]; i++)
        if (text_matches(never[i], name))
            return deny(ret_why, "%.100s is this machine's own: no hub sets it", name);
    for (size_t i = 0; i < policy->configuration_settings.n_items; i++)
        if (text_matches(policy->configuration_settings.items[i], name))
            return true;
    return deny(ret_why, "%.100s is not among configuration.settings", name);
}
