/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent support-bundle [--out FILE] [--log FILE] */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/cli/bundle.h"
#include "agent/cli/cmd.h"
#include "agent/cli/doctor.h"
#include "agent/collect/collect.h"
#include "agent/policy/policy.h"
#include "agent/spool/spool.h"
#include "common/base/file.h"
#include "common/base/owner.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "common/tls/tls.h"

#define MAX_LOG_BYTES (1u << 20)
#define MAX_STATUS_BYTES (64u << 10)
#define MAX_PEM_BYTES (256u << 10)
#define MAX_CERTS 32
#define JOURNAL_LINES "2000"

static const char about[] =
    "What sentinel-agent support-bundle has collected on this machine:\n\n"
    "  version.txt        the agent and the system\n"
    "  host.txt           facts of the machine, as the hub is told\n"
    "  settings.yaml      in effect; words of commands and queries of addresses are ***\n"
    "  policy.yaml        what the hub may ask of this machine\n"
    "  status.json        what the agent wrote of itself last\n"
    "  doctor.txt         what `sentinel-agent doctor` says\n"
    "  spool.txt          segments that wait: names, numbers and sizes, not what is in them\n"
    "  certificates.txt   names, dates and fingerprints\n"
    "  log.txt            the agent's last lines, where they could be found\n\n"
    "Never in it: keys, enrolment strings, samples, log records, files of uploads.\n"
    "It names this machine, its addresses and mount points, and the hub. Read it before you give "
    "it "
    "away.\n";

struct support {
    struct cmd_line line;
    struct bundle bundle;
    struct buf list; /* what is in it, for people */
    const char *out, *log;
};

/* ---- without secrets ---- */

/* Words of commands and queries of addresses may hold a password; what is shorter is no secret. */
#define MIN_SECRET_BYTES 4u

static void forget(struct buf *content, const char *secret, size_t len)
{
    const uint8_t *at = content->data;

    if (len < MIN_SECRET_BYTES)
        return;
    while (at && (at = memmem(at, content->len - (size_t) (at - content->data), secret, len))) {
        memset(content->data + (at - content->data), '*', len);
        at += len;
    }
}

/* Each word behind the first `mark`. */
static void forget_words(struct buf *content, const struct conf_list *list, char mark)
{
    for (size_t i = 0; i < list->n_items; i++) {
        const char *word = strchr(list->items[i], mark);

        while (word && *word) {
            word += 1 + strspn(word + 1, " ");
            forget(content, word, strcspn(word, " "));
            word = strchr(word, ' ');
        }
    }
}

static void add(struct support *support, const char *name, struct buf *content)
{
    char path[BUNDLE_NAME_BYTES], size[TEXT_SIZE_BYTES];

    if (content->len == 0)
        return;
    forget_words(content, &support->line.settings.collect_exec_commands, ' ');
    forget_words(content, &support->line.settings.collect_scrape_targets, '?');
    snprintf(path, sizeof(path), "sentinel-agent-support/%s", name);
    bundle_add(&support->bundle, path, buf_span(content));
    buf_printf(&support->list, "  %-18s %s\n", name, text_of_size(content->len, size));
}

/* ---- settings ---- */

static void add_settings(struct support *support)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    conf_print(&settings_table, &support->line.settings, &text);
    add(support, "settings.yaml", &text);
}

static void add_policy(struct support *support)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct policy policy;

    if (policy_load(support->line.settings.policy_file, &policy))
        return;
    buf_printf(&text, "# %s: %s %s\n", support->line.settings.policy_file,
               policy_state_name(policy.state), policy.problem);
    policy_print(&policy, &text);
    policy_free(&policy);
    add(support, "policy.yaml", &text);
}

/* ---- facts ---- */

static void add_version(struct support *support)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct utsname names;

    buf_printf(&text, "sentinel-agent %s (%s)\n", SENTINEL_VERSION, __VERSION__);
    if (uname(&names) == 0)
        buf_printf(&text, "%s %s %s %s\n", names.sysname, names.release, names.version,
                   names.machine);
    add(support, "version.txt", &text);
}

static void add_host(struct support *support)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct collect_host host;

    collect_read_host(support->line.settings.collect_root, &host);
    for (size_t i = 0; i < host.n_attributes; i++)
        buf_printf(&text, "%s=%s\n", host.attributes[i].key, host.attributes[i].value);
    add(support, "host.txt", &text);
}

static void add_status(struct support *support)
{
    CLEANUP(buf_deinit) struct buf path = { 0 }, content = { 0 };

    buf_printf(&path, "%s/" AGENT_STATUS_FILE, support->line.settings.state_dir);
    if (file_read(buf_text(&path), MAX_STATUS_BYTES, &content) == 0)
        add(support, "status.json", &content);
}

static void print_certificate(const char *file, const struct tls_cert *cert, struct buf *to)
{
    char from[TEXT_TIME_BYTES], until[TEXT_TIME_BYTES], sha256[65];
    struct tls_facts facts;

    if (tls_cert_read(cert, &facts)) {
        buf_printf(to, "%s: a certificate that cannot be read\n", file);
        return;
    }
    buf_printf(to,
               "%s: %s, O=%s OU=%s, %s\n  issuer %s\n  serial %s\n  from %s until %s\n"
               "  sha256 %s\n",
               file, facts.common_name, facts.organisation, facts.organisation_unit, facts.uri,
               facts.issuer, facts.serial, text_of_time(facts.not_before, from),
               text_of_time(facts.not_after, until),
               text_of_hex(facts.sha256, sizeof(facts.sha256), sha256));
}

static void add_certificates(struct support *support)
{
    static const char *const names[] = { "ca-cert.pem", "client-cert.pem", NULL };
    CLEANUP(buf_deinit) struct buf text = { 0 };

    for (size_t i = 0; names[i]; i++) {
        CLEANUP(buf_deinit) struct buf path = { 0 }, pem = { 0 };
        struct tls_cert *certs[MAX_CERTS];
        size_t n = 0;

        buf_printf(&path, "%s/%s", support->line.settings.identity, names[i]);
        if (file_read(buf_text(&path), MAX_PEM_BYTES, &pem) != 0 ||
            tls_chain_split(buf_span(&pem), certs, MAX_CERTS, &n) != 0) {
            buf_printf(&text, "%s: not there, or no certificates\n", names[i]);
            continue;
        }
        for (size_t k = 0; k < n; k++) {
            print_certificate(names[i], certs[k], &text);
            (void) tls_cert_free(certs[k]);
        }
    }
    add(support, "certificates.txt", &text);
}

static void on_finding(void *ctx, const struct spool_finding *finding)
{
    buf_printf(ctx, "%s/%s %llu batches, %llu records, %llu bytes, %llu damaged%s%s\n",
               spool_signal_name(finding->signal), finding->file,
               (unsigned long long) finding->batches, (unsigned long long) finding->records,
               (unsigned long long) finding->bytes, (unsigned long long) finding->damaged_bytes,
               finding->is_ended ? "" : ", open", finding->is_headless ? ", without a head" : "");
}

static void add_spool(struct support *support)
{
    CLEANUP(buf_deinit) struct buf path = { 0 }, text = { 0 };

    buf_printf(&path, "%s/spool", support->line.settings.state_dir);
    if (spool_check(buf_text(&path), on_finding, &text) == 0)
        add(support, "spool.txt", &text);
}

static int add_doctor(struct support *support)
{
    CLEANUP(doctor_deinit) struct doctor doctor = { .settings = &support->line.settings };
    CLEANUP(buf_deinit) struct buf text = { 0 };

    if (doctor_run(&doctor))
        return CLI_FAILURE;
    doctor_print(&doctor, false, &text);
    add(support, "doctor.txt", &text);
    return CLI_OK;
}

/* ---- log lines ---- */

/* The end of what comes, up to MAX_LOG_BYTES. */
static void read_end(int fd, struct buf *to)
{
    for (;;) {
        uint8_t *room = buf_extend(to, 65536);
        ssize_t n = room ? read(fd, room, 65536) : 0;

        to->len -= room ? 65536 - (n > 0 ? (size_t) n : 0) : 0;
        if (to->len > MAX_LOG_BYTES) {
            memmove(to->data, to->data + to->len - MAX_LOG_BYTES, MAX_LOG_BYTES);
            to->len = MAX_LOG_BYTES;
        }
        if (n == 0 || (n < 0 && errno != EINTR))
            return;
    }
}

/* Where the service manager keeps what the agent says. */
static void read_journal(const char *journalctl, struct buf *to)
{
    char *const argv[] = { "journalctl", "-u",          "sentinel-agent.service",
                           "-n",         JOURNAL_LINES, "--no-pager",
                           "-o",         "short-iso",   NULL };
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    pid = fork();
    if (pid == 0) {
        const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (dup2(ends[1], 1) >= 0 && dup2(null, 0) >= 0 && dup2(null, 2) >= 0)
            execv(journalctl, argv);
        _exit(127);
    }
    close(ends[1]);
    if (pid > 0) {
        read_end(ends[0], to);
        (void) waitpid(pid, NULL, 0);
    }
    close(ends[0]);
}

/* Outcomes: a cli_exit that is not 0; all is said. */
static int add_log(struct support *support)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    if (support->log) {
        CLEANUP(fd_closep) int fd = open(support->log, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
            return cmd_fail(CLI_NOT_FOUND, "support-bundle: --log: %s: %s", support->log,
                            strerror(errno));
        read_end(fd, &text);
    } else if (access("/run/systemd/system", F_OK) == 0) {
        read_journal(support->line.settings.logs_journalctl, &text);
    }
    add(support, "log.txt", &text);
    return CLI_OK;
}

/* ---- the command ---- */

static int write_all(int fd, const struct buf *content)
{
    size_t done = 0;

    while (done < content->len) {
        ssize_t n = write(fd, content->data + done, content->len - done);

        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t) n : 0;
    }
    return 0;
}

static int collect_all(struct support *support)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    int code;

    buf_append_text(&text, about);
    add(support, "README.txt", &text);
    add_version(support);
    add_host(support);
    add_policy(support);
    add_status(support);
    add_spool(support);
    add_certificates(support);
    code = add_doctor(support);
    add_settings(support);
    return code;
}

static int make(struct support *support, int fd)
{
    CLEANUP(buf_deinit) struct buf whole = { 0 }, said = { 0 };
    char size[TEXT_SIZE_BYTES];
    int code = add_log(support); /* as who we are: the agent's user may not read it */
    int r;

    if (code)
        return code;
    if (owner_become(support->line.settings.state_dir))
        return CLI_FAILURE;
    code = collect_all(support);
    if (code)
        return code;
    bundle_finish(&support->bundle, &whole);
    if (buf_failed(&whole))
        return cmd_fail(CLI_FAILURE, "support-bundle: no memory");
    r = write_all(fd, &whole);
    if (r)
        return cmd_fail(CLI_FAILURE, "support-bundle: %s: %s", support->out, strerror(-r));
    buf_printf(&said, "%s, %s:\n", support->out, text_of_size(whole.len, size));
    buf_append_span(&said, buf_span(&support->list));
    buf_append_text(&said, "No keys, no samples, no log records of this machine are in it; read it "
                           "before you give it away.\n");
    return cmd_print(&said);
}

int cmd_support_bundle(int argc, char **argv)
{
    struct support support = { .bundle = { .time = clock_wall() } };
    const struct conf_option options[] = {
        { .flag = "--out",
          .metavar = "FILE",
          .value = &support.out,
          .help = "what is made; it must not be there yet; sentinel-agent-support.tar.gz" },
        { .flag = "--log",
          .metavar = "FILE",
          .value = &support.log,
          .help = "where the agent's lines are, when not in the journal" },
        { .flag = NULL },
    };
    const struct cmd cmd = {
        .usage = "support-bundle [--out FILE] [--log FILE] [--state-dir D]",
        .help = "Collects what somebody who helps needs to know into one .tar.gz, without keys "
                "and secrets, and says what is in it.",
        .options = options,
        .has_settings = true,
    };
    CLEANUP(fd_closep) int fd = -1;
    int code = CLI_FAILURE;

    if (cmd_parse(argc, argv, &cmd, &support.line, &code) == 0) {
        log_init(&(struct log_options){ .level = LOG_ERROR, .format = LOG_LOGFMT, .fd = 2 });
        support.out = support.out ? support.out : "sentinel-agent-support.tar.gz";
        fd = open(support.out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        code = fd < 0 ? cmd_fail(CLI_FAILURE, "support-bundle: %s: %s; name another with --out",
                                 support.out, strerror(errno))
                      : make(&support, fd);
        if (fd >= 0 && code != CLI_OK)
            (void) unlink(support.out);
    }
    buf_deinit(&support.bundle.tar);
    buf_deinit(&support.list);
    cmd_line_deinit(&support.line);
    return code;
}
