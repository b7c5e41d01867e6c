/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Processes, and the sockets they hold: /proc/net says which sockets there are, by inode;
 * /proc/<pid>/fd whose they are, for those that may be looked at.
 */

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/inventory/table.h"

#define PATH_BYTES 320
#define NAME_BYTES 32
#define MAX_HOLDERS 65536 /* of all processes; others are shown without one */
#define TCP_LISTEN 10

struct holder {
    uint64_t inode;
    uint32_t pid;
    char name[NAME_BYTES];
};
struct holders {
    struct holder *rows;
    size_t n, capacity;
};

static bool is_pid(const char *name)
{
    return isdigit((unsigned char) name[0]) && strspn(name, "0123456789") == strlen(name);
}

static void add_holder(struct holders *holders, uint64_t inode, const char *pid, const char *name)
{
    if (holders->n == holders->capacity) {
        size_t capacity = holders->capacity ? 2 * holders->capacity : 256;
        struct holder *grown = capacity > MAX_HOLDERS
                                   ? NULL
                                   : reallocarray(holders->rows, capacity, sizeof(*holders->rows));
        if (!grown)
            return;
        holders->rows = grown;
        holders->capacity = capacity;
    }
    struct holder *row = &holders->rows[holders->n++];
    *row = (struct holder){ .inode = inode, .pid = (uint32_t) strtoul(pid, NULL, 10) };
    snprintf(row->name, sizeof(row->name), "%s", name);
}

static void add_process(struct table *t, struct holders *holders, const char *pid)
{
    char path[PATH_BYTES], link[64], name[NAME_BYTES];
    CLEANUP(closedirp) DIR *directory = NULL;
    const char *entry;

    snprintf(path, sizeof(path), "proc/%.16s/fd", pid);
    directory = table_directory(t, path);
    if (!directory)
        return;
    snprintf(path, sizeof(path), "proc/%.16s/comm", pid);
    table_fact(t, path, name, sizeof(name));
    while ((entry = table_entry(directory)) != NULL) {
        ssize_t n = readlinkat(dirfd(directory), entry, link, sizeof(link) - 1);

        if (n <= 0)
            continue;
        link[n] = '\0';
        if (strncmp(link, "socket:[", 8) == 0)
            add_holder(holders, strtoull(link + 8, NULL, 10), pid, name);
    }
}

static int by_inode(const void *a, const void *b)
{
    const struct holder *x = a, *y = b;

    if (x->inode != y->inode)
        return x->inode < y->inode ? -1 : 1;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static void find_holders(struct table *t, struct holders *holders)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, "proc");
    const char *entry;

    while (directory && (entry = table_entry(directory)) != NULL)
        if (is_pid(entry))
            add_process(t, holders, entry);
    if (holders->n > 1)
        qsort(holders->rows, holders->n, sizeof(*holders->rows), by_inode);
}

/* The first that has it, the parent mostly; NULL: not to be seen. */
static const struct holder *holder_of(const struct holders *holders, uint64_t inode)
{
    size_t low = 0, high = holders->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (holders->rows[middle].inode < inode)
            low = middle + 1;
        else
            high = middle;
    }
    return low < holders->n && holders->rows[low].inode == inode ? &holders->rows[low] : NULL;
}

/* ---- /proc/net ---- */

struct socket {
    char local[INET6_ADDRSTRLEN], remote[INET6_ADDRSTRLEN];
    unsigned local_port, remote_port, state;
    uint64_t uid, inode;
};

/* "0100007F:1F90": words of the machine's byte order. */
static bool read_end(char *text, char to[static INET6_ADDRSTRLEN], unsigned *ret_port)
{
    char *colon = strchr(text, ':');
    uint32_t words[4] = { 0 };
    size_t n;

    if (!colon)
        return false;
    n = (size_t) (colon - text) / 8;
    if ((n != 1 && n != 4) || (size_t) (colon - text) != 8 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char word[9] = "";

        memcpy(word, text + 8 * i, 8);
        words[i] = (uint32_t) strtoul(word, NULL, 16);
    }
    *ret_port = (unsigned) strtoul(colon + 1, NULL, 16);
    return inet_ntop(n == 1 ? AF_INET : AF_INET6, words, to, INET6_ADDRSTRLEN) != NULL;
}

/* sl local rem st tx:rx tr:when retrnsmt uid timeout inode */
static bool read_socket(char *line, struct socket *ret)
{
    char *words[10] = { NULL };

    for (int i = 0; i < 10; i++)
        words[i] = table_word(&line);
    if (!words[9] || !read_end(words[1], ret->local, &ret->local_port) ||
        !read_end(words[2], ret->remote, &ret->remote_port))
        return false;
    ret->state = (unsigned) strtoul(words[3], NULL, 16);
    ret->uid = strtoull(words[7], NULL, 10);
    ret->inode = strtoull(words[9], NULL, 10);
    return true;
}

static const struct {
    const char *path, *protocol, *family;
    bool is_tcp;
} lists[] = {
    { "proc/net/tcp", "tcp", "ipv4", true },
    { "proc/net/tcp6", "tcp", "ipv6", true },
    { "proc/net/udp", "udp", "ipv4", false },
    { "proc/net/udp6", "udp", "ipv6", false },
};
#define N_LISTS (sizeof(lists) / sizeof(lists[0]))

static void put_listening(struct table *t,
                          const struct holders *holders,
                          size_t list,
                          const struct socket *socket)
{
    const struct holder *holder = holder_of(holders, socket->inode);

    /* Of UDP those that wait for anybody. */
    if (lists[list].is_tcp ? socket->state != TCP_LISTEN : socket->remote_port != 0)
        return;
    table_put(t, lists[list].protocol);
    table_put(t, lists[list].family);
    table_put(t, socket->local);
    table_put_u64(t, socket->local_port);
    table_put(t, "");
    table_put_u64(t, socket->uid);
    table_put(t, holder ? holder->name : "");
    table_end_row(t);
}

static const char *state_name(unsigned state)
{
    static const char *const names[] = { "",           "ESTABLISHED", "SYN_SENT",  "SYN_RECV",
                                         "FIN_WAIT1",  "FIN_WAIT2",   "TIME_WAIT", "CLOSE",
                                         "CLOSE_WAIT", "LAST_ACK",    "LISTEN",    "CLOSING" };

    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "";
}

static void
put_open(struct table *t, const struct holders *holders, size_t list, const struct socket *socket)
{
    const struct holder *holder = holder_of(holders, socket->inode);

    if (holder)
        table_put_u64(t, holder->pid);
    else
        table_put(t, "");
    table_put(t, holder ? holder->name : "");
    table_put(t, lists[list].protocol);
    table_put(t, lists[list].family);
    table_put(t, socket->local);
    table_put_u64(t, socket->local_port);
    table_put(t, socket->remote);
    table_put_u64(t, socket->remote_port);
    table_put(t, lists[list].is_tcp ? state_name(socket->state) : "");
    table_end_row(t);
}

/* AF_UNIX: Num RefCount Protocol Flags Type St Inode Path */
static void put_unix(struct table *t, const struct holders *holders)
{
    char *text = table_read_if(t, "proc/net/unix");

    for (char *line; text && (line = table_line(&text));) {
        const struct holder *holder;
        char *words[7] = { NULL }, *path;

        for (int i = 0; i < 7; i++)
            words[i] = table_word(&line);
        path = words[6] ? table_word(&line) : NULL;
        /* SO_ACCEPTCON: it listens. */
        if (!path || !(strtoul(words[3], NULL, 16) & 0x10000))
            continue;
        holder = holder_of(holders, strtoull(words[6], NULL, 10));
        table_put(t, "unix");
        table_put(t, "unix");
        table_put(t, "");
        table_put(t, "");
        table_put(t, path);
        table_put(t, "");
        table_put(t, holder ? holder->name : "");
        table_end_row(t);
    }
}

static void put_sockets(struct table *t,
                        void (*put)(struct table *t,
                                    const struct holders *holders,
                                    size_t list,
                                    const struct socket *socket),
                        bool with_unix)
{
    struct holders holders = { 0 };
    struct socket socket;

    find_holders(t, &holders);
    for (size_t i = 0; i < N_LISTS; i++) {
        char *text = table_read_if(t, lists[i].path);

        for (char *line; text && (line = table_line(&text));)
            if (read_socket(line, &socket))
                put(t, &holders, i, &socket);
    }
    if (with_unix)
        put_unix(t, &holders);
    free(holders.rows);
}

void table_listening_ports(struct table *t)
{
    put_sockets(t, put_listening, true);
}

void table_process_open_sockets(struct table *t)
{
    put_sockets(t, put_open, false);
}

/* ---- processes ---- */

static void put_status_of(struct table *t, const char *pid, uint64_t *ret_uid)
{
    char path[PATH_BYTES];
    char *text;

    *ret_uid = 0;
    snprintf(path, sizeof(path), "proc/%.16s/status", pid);
    text = table_read_if(t, path);
    for (char *line; text && (line = table_line(&text));) {
        const char *uid = table_after(line, "Uid", ':');

        if (uid)
            *ret_uid = strtoull(uid, NULL, 10);
    }
}

static void put_process(struct table *t, const char *pid)
{
    char path[PATH_BYTES], link[512], name[64] = "";
    char *fields[22] = { NULL }, *text, *close_of_name;
    uint64_t uid;

    put_status_of(t, pid, &uid);
    snprintf(path, sizeof(path), "proc/%.16s/cmdline", pid);
    text = table_read_if(t, path);
    struct buf command = { 0 };
    for (size_t i = 0; text && i < t->text.len; i++)
        buf_append(&command, text[i] ? &text[i] : " ", 1);
    snprintf(path, sizeof(path), "proc/%.16s/stat", pid);
    text = table_read_if(t, path);
    close_of_name = text ? strrchr(text, ')') : NULL;
    if (close_of_name && strchr(text, '(')) {
        *close_of_name = '\0';
        snprintf(name, sizeof(name), "%s", strchr(text, '(') + 1);
        text = close_of_name + 1;
        /* From the third field on: state ppid ... nice(19) threads(20) start(22) size rss(24) */
        for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
            fields[i] = table_word(&text);
    }
    if (fields[21]) {
        snprintf(path, sizeof(path), "proc/%.16s/exe", pid);
        ssize_t n = readlinkat(t->root_fd, path, link, sizeof(link) - 1);
        link[n < 0 ? 0 : n] = '\0';
        table_put(t, pid);
        table_put(t, name);
        table_put(t, link);
        while (command.len > 0 && command.data[command.len - 1] == ' ')
            command.len--;
        table_put_span(t, buf_span(&command));
        table_put(t, fields[0]);
        table_put_u64(t, uid);
        table_put(t, fields[1]);
        table_put(t, fields[16]);
        table_put(t, fields[17]);
        table_put(t, fields[19]);
        table_put_u64(t, strtoull(fields[21], NULL, 10) * (uint64_t) sysconf(_SC_PAGESIZE));
        table_end_row(t);
    }
    buf_deinit(&command);
}

void table_processes(struct table *t)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, "proc");
    const char *entry;

    while (directory && (entry = table_entry(directory)) != NULL)
        if (is_pid(entry))
            put_process(t, entry);
}
