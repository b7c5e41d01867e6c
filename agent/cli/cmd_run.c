/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent run [--hub HOST:PORT] [--identity DIR] [--interval 10s] [--state-dir D] [--config
 * F] */
#include <arpa/inet.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/cli/cmd.h"

/* "localhost:8082", "127.0.0.1:8082", "[::1]:8082" */
static bool is_on_loopback(const char *hub)
{
    const char *colon = strrchr(hub, ':');
    char host[64];
    struct in_addr address;

    if (!colon || (size_t) (colon - hub) >= sizeof(host))
        return false;
    memcpy(host, hub, (size_t) (colon - hub));
    host[colon - hub] = '\0';
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

int cmd_run(int argc, char **argv)
{
    const char *insecure_id = NULL;
    const struct conf_option options[] = {
        { .flag = "--insecure",
          .metavar = "ID",
          .value = &insecure_id,
          .help = "plaintext, to a hub on this machine that runs with --insecure; this agent's id "
                  "there" },
        { .flag = NULL },
    };
    const struct cmd cmd = {
        .usage = "run [--hub HOST:PORT] [--identity DIR] [--interval 10s] [--state-dir D] "
                 "[--config F]",
        .options = options,
        .help = "Collects, and streams to the hub, until SIGTERM. SIGHUP loads the settings anew.",
        .has_settings = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    int code = CLI_FAILURE;
    int r;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    if (!line.settings.hub[0])
        return cmd_fail(CLI_USAGE, "run: no hub; give --hub HOST:PORT, or `hub:` in %s",
                        line.config ? line.config : SETTINGS_DEFAULT_FILE);
    if (insecure_id && !is_on_loopback(line.settings.hub))
        return cmd_fail(CLI_USAGE,
                        "run: --insecure means plaintext and is only for a hub on this machine, "
                        "such as 127.0.0.1:8082, not for %s; without it TLS is spoken",
                        line.settings.hub);
    r = agent_run(&(struct agent_options){
        .settings = &line.settings, .sources = &line.sources, .insecure_id = insecure_id });
    if (r == AGENT_NO_ROOT)
        return cmd_fail(CLI_NOT_FOUND, "collect.root: %s cannot be opened",
                        line.settings.collect_root);
    return r ? CLI_FAILURE : CLI_OK;
}
