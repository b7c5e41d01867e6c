/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "server/ctl/ctl.h"

/*
 * Each script is made from the tables of commands and flags, so that it cannot fall behind them:
 *
 *   source <(sentinelctl completion bash)
 *   source <(sentinelctl completion zsh)
 *   sentinelctl completion fish | source
 */

static bool is_first_of_group(size_t at)
{
    return at == 0 || strcmp(ctl_commands[at - 1].group, ctl_commands[at].group) != 0;
}

static void put_groups(const char *separator)
{
    for (size_t i = 0; ctl_commands[i].group; i++)
        if (is_first_of_group(i))
            printf("%s%s", i > 0 ? separator : "", ctl_commands[i].group);
}

static void put_flags(const struct ctl *ctl, bool only_with_value, const char *separator)
{
    bool is_first = true;

    for (const struct conf_option *option = ctl->options; option->flag; option++) {
        if (only_with_value && !option->metavar)
            continue;
        printf("%s%s", is_first ? "" : separator, option->flag);
        is_first = false;
    }
}

/* The words of bash's `case`, one for each group with verbs. */
static void put_verbs_bash(void)
{
    for (size_t i = 0; ctl_commands[i].group; i++) {
        if (!ctl_commands[i].verb)
            continue;
        if (is_first_of_group(i))
            printf("    %s) words=\"", ctl_commands[i].group);
        printf("%s%s", is_first_of_group(i) ? "" : " ", ctl_commands[i].verb);
        if (!ctl_commands[i + 1].group || is_first_of_group(i + 1))
            printf("\" ;;\n");
    }
}

static void put_bash(const struct ctl *ctl)
{
    printf(
        "_sentinelctl() {\n"
        "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} said= words= i\n"
        "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "    case ${COMP_WORDS[i]} in\n"
        "    ");
    put_flags(ctl, true, "|");
    printf(
        ") ((i++)) ;;\n"
        "    -*) ;;\n"
        "    *) said=\"$said${said:+ }${COMP_WORDS[i]}\" ;;\n"
        "    esac\n"
        "  done\n"
        "  COMPREPLY=()\n"
        "  case $before in\n"
        "  --role) words=\"viewer operator admin exporter\" ;;\n"
        "  --state) words=\"active unconfirmed superseded revoked\" ;;\n"
        "  --kind) words=\"agent operator hub\" ;;\n"
        "  --identity) COMPREPLY=($(compgen -d -- \"$word\")); return ;;\n"
        "  --agg|--group-agg) words=\"avg min max sum count last rate increase p50 p95 p99\" ;;\n"
        "  --by) words=\"metric agent attribute\" ;;\n"
        "  --severity) words=\"trace debug info warn error fatal\" ;;\n"
        "  ");
    put_flags(ctl, true, "|");
    printf(") return ;;\n"
           "  *) case $said in\n"
           "    \"\") words=\"");
    put_groups(" ");
    printf("\" ;;\n");
    put_verbs_bash();
    printf("    \"certs rotate-ca\") words=\"prepare issue serve retire back\" ;;\n"
           "    completion) words=\"bash zsh fish\" ;;\n"
           "    esac ;;\n"
           "  esac\n"
           "  [[ $word == -* ]] && words=\"");
    put_flags(ctl, false, " ");
    printf("\"\n"
           "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "}\n"
           "complete -F _sentinelctl sentinelctl\n");
}

static void put_fish(const struct ctl *ctl)
{
    printf("complete -c sentinelctl -f\n");
    for (size_t i = 0; ctl_commands[i].group; i++) {
        const struct ctl_command *command = &ctl_commands[i];

        if (is_first_of_group(i))
            printf("complete -c sentinelctl -n __fish_use_subcommand -a %s -d '%s'\n",
                   command->group, command->verb ? "" : command->help);
        if (command->verb)
            printf("complete -c sentinelctl -n '__fish_seen_subcommand_from %s' -a %s -d '%s'\n",
                   command->group, command->verb, command->help);
    }
    printf("complete -c sentinelctl -n '__fish_seen_subcommand_from completion' -a 'bash zsh "
           "fish'\n");
    for (const struct conf_option *option = ctl->options; option->flag; option++) {
        bool is_long = strncmp(option->flag, "--", 2) == 0;

        printf("complete -c sentinelctl -%c %s%s -d '%s'\n", is_long ? 'l' : 's',
               option->flag + (is_long ? 2 : 1), option->metavar ? " -r" : "", option->help);
    }
    printf("complete -c sentinelctl -l identity -r -a '(__fish_complete_directories)'\n");
}

int cmd_completion(struct ctl *ctl)
{
    const char *shell = ctl->words[0];

    if (strcmp(shell, "bash") == 0) {
        put_bash(ctl);
    } else if (strcmp(shell, "zsh") == 0) {
        /* zsh reads bash's by its own compatibility layer. */
        printf("autoload -U +X compinit && compinit\n"
               "autoload -U +X bashcompinit && bashcompinit\n");
        put_bash(ctl);
    } else if (strcmp(shell, "fish") == 0) {
        put_fish(ctl);
    } else {
        return ctl_say(CTL_USAGE, "completion: `%s` is none of bash, zsh, fish", shell);
    }
    return CTL_OK;
}
