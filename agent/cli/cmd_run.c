/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent run [--hub HOST:PORT] [--identity DIR] [--interval 10s] [--state-dir D] [--config
 * F] */
#include "agent/agent.h"
#include "agent/cli/cmd.h"
#include "agent/identity/identity.h"

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
        return cmd_fail(CLI_USAGE,
                        "run: no hub; enrol this machine with `sentinel-agent enroll`, or give "
                        "--hub HOST:PORT, or `hub:` in %s",
                        line.config ? line.config : SETTINGS_DEFAULT_FILE);
    if (insecure_id && !cmd_is_on_loopback(line.settings.hub))
        return cmd_fail(CLI_USAGE, "run: " CMD_INSECURE_REMEDY, line.settings.hub);
    /* Its own exit code, so that a unit file can say RestartPreventExitStatus=4: restarting helps
     * nobody before somebody enrols. */
    if (!insecure_id && keeper_is_absent(line.settings.identity))
        return cmd_fail(CLI_DENIED,
                        "run: this machine has no identity in %s; get one with `sentinel-agent "
                        "enroll` and the string of `sentinelctl tokens create`, or name another "
                        "directory with --identity",
                        line.settings.identity);
    r = agent_run(&(struct agent_options){
        .settings = &line.settings, .sources = &line.sources, .insecure_id = insecure_id });
    if (r == AGENT_NO_ROOT)
        return cmd_fail(CLI_NOT_FOUND, "collect.root: %s cannot be opened",
                        line.settings.collect_root);
    if (r == AGENT_IN_USE)
        return cmd_fail(CLI_FAILURE,
                        "run: another agent runs with %s; stop it, or give --state-dir",
                        line.settings.state_dir);
    return r ? CLI_FAILURE : CLI_OK;
}
