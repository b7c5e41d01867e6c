/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "agent/collect/dbus.h"

/*
 * Units by state, and the failed ones by name, as `systemctl list-units --all` has them.
 *
 * They are asked for over the system bus, which every user may: /run/systemd holds neither states
 * nor results, and a cgroup says of a service that it runs, not that it failed. Without a bus,
 * systemd's private socket is tried, which only root may. The connection stays, as each one that
 * comes and goes is told to everybody on the bus. A machine without systemd has neither socket:
 * nothing is said.
 *
 * systemd may be slow to answer while it reloads: so this runs on the helper.
 */

#define BUS "run/dbus/system_bus_socket"
#define PRIVATE "run/systemd/private"
/* For each read; a reload of a large machine takes some seconds. */
#define PATIENCE_S 5
#define MAX_NAMED 100

static const struct collect_metric count = { "system.linux.systemd.unit.count", "{unit}",
                                             SPOOL_GAUGE };
static const struct collect_metric failed = { "system.linux.systemd.unit.failed", "1",
                                              SPOOL_GAUGE };

static const char *const states[] = { "active", "reloading",  "inactive",
                                      "failed", "activating", "deactivating" };
#define N_STATES (sizeof(states) / sizeof(states[0]))

struct state {
    int fd; /* + 1, as the zero value is none */
    bool is_bus;
    uint32_t serial;
};

static void hang_up(struct state *state)
{
    if (state->fd > 0)
        close(state->fd - 1);
    state->fd = 0;
}

void collect_systemd_free(void *memory)
{
    hang_up(memory);
    free(memory);
}

static int connect_to(struct probe *c, const char *path)
{
    const struct timeval patience = { .tv_sec = PATIENCE_S };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *root = c->machine->root;
    size_t root_len = strlen(root);
    int fd, n;

    while (root_len > 0 && root[root_len - 1] == '/')
        root_len--;
    n = snprintf(address.sun_path, sizeof(address.sun_path), "%.*s/%s", (int) root_len, root, path);
    if (n < 0 || (size_t) n >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
        connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

static bool send_all(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t) n;
    }
    return true;
}

/* Who we are is what the kernel says of the socket: EXTERNAL with our number in decimal, in hex. */
static bool authenticate(int fd)
{
    char uid[16], line[64], answer[256];
    size_t len = 0;
    int n;

    snprintf(uid, sizeof(uid), "%u", (unsigned) geteuid());
    n = snprintf(line + 1, sizeof(line) - 1, "AUTH EXTERNAL ");
    line[0] = '\0';
    for (size_t i = 0; uid[i]; i++)
        n += snprintf(line + 1 + n, sizeof(line) - 1 - (size_t) n, "%02x", (unsigned char) uid[i]);
    n += snprintf(line + 1 + n, sizeof(line) - 1 - (size_t) n, "\r\n");
    if (!send_all(fd, line, 1 + (size_t) n))
        return false;
    while (len < sizeof(answer) - 1 && (len < 2 || answer[len - 1] != '\n')) {
        ssize_t got = recv(fd, answer + len, 1, 0);

        if (got <= 0)
            return false;
        len++;
    }
    return len > 3 && memcmp(answer, "OK ", 3) == 0 && send_all(fd, "BEGIN\r\n", 7);
}

static bool send_call(struct state *state, const struct dbus_call *call)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };

    dbus_put_call(&bytes, call);
    return !buf_failed(&bytes) && send_all(state->fd - 1, bytes.data, bytes.len);
}

/* Reads on until the answer to `serial`; signals and others are passed over. The message borrows
 * from the probe's text. */
static bool await(struct probe *c, struct state *state, uint32_t serial, struct dbus_message *ret)
{
    buf_clear(c->text);
    for (;;) {
        size_t used;
        int r = dbus_decode(buf_span(c->text), ret, &used);
        char piece[8192];
        ssize_t n;

        if (r == DBUS_BAD)
            return false;
        if (r == DBUS_OK && ret->reply_serial == serial &&
            (ret->type == DBUS_RETURN || ret->type == DBUS_ERROR))
            return true;
        if (r == DBUS_OK) {
            memmove(c->text->data, c->text->data + used, c->text->len - used);
            c->text->len -= used;
            continue;
        }
        n = recv(state->fd - 1, piece, sizeof(piece), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        buf_append(c->text, piece, (size_t) n);
        if (buf_failed(c->text))
            return false;
    }
}

static bool say_hello(struct probe *c, struct state *state)
{
    struct dbus_message message;

    state->serial = 1;
    return send_call(state, &(struct dbus_call){ .serial = state->serial,
                                                 .destination = "org.freedesktop.DBus",
                                                 .path = "/org/freedesktop/DBus",
                                                 .interface = "org.freedesktop.DBus",
                                                 .member = "Hello" }) &&
           await(c, state, state->serial, &message) && message.type == DBUS_RETURN;
}

/* False: there is nobody to talk to, which is counted where it is not as it should be. */
static bool call_up(struct probe *c, struct state *state)
{
    int fd;

    if (state->fd > 0)
        return true;
    fd = connect_to(c, BUS);
    state->is_bus = fd >= 0;
    if (fd == -ENOENT || fd == -ECONNREFUSED)
        fd = connect_to(c, PRIVATE);
    if (fd < 0) {
        collect_count_failure(c, BUS, fd == -ECONNREFUSED ? ENOENT : -fd);
        return false;
    }
    state->fd = fd + 1;
    if (authenticate(fd) && (!state->is_bus || say_hello(c, state)))
        return true;
    collect_count_error(c);
    hang_up(state);
    return false;
}

static bool is(struct span text, const char *what)
{
    return span_equal(text, span_of_text(what));
}

static void add_units(struct probe *c, struct dbus_units *units)
{
    uint64_t counts[N_STATES] = { 0 };
    struct probe_mark mark = collect_mark(c);
    struct dbus_unit unit;
    size_t n_named = 0;

    while (dbus_units_next(units, &unit)) {
        char name[256];

        for (size_t i = 0; i < N_STATES; i++)
            counts[i] += is(unit.active_state, states[i]);
        if (!is(unit.active_state, "failed") || n_named == MAX_NAMED)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int) unit.name.len, (const char *) unit.name.data);
        if (!collect_wants(c, COLLECT_UNITS, name))
            continue;
        n_named++;
        collect_add(c, &failed, 1, ATTRIBUTES({ "systemd.unit.name", name }));
    }
    if (units->is_bad) {
        collect_rewind(c, mark);
        collect_count_error(c);
        return;
    }
    for (size_t i = 0; i < N_STATES; i++)
        collect_add(c, &count, (double) counts[i],
                    ATTRIBUTES({ "systemd.unit.active_state", states[i] }));
}

/* A bus without systemd says so, which is no error; one that forbids us is another matter. */
static void count_refusal(struct probe *c, const struct dbus_message *message)
{
    if (is(message->error_name, "org.freedesktop.DBus.Error.ServiceUnknown") ||
        is(message->error_name, "org.freedesktop.DBus.Error.NameHasNoOwner"))
        return;
    if (is(message->error_name, "org.freedesktop.DBus.Error.AccessDenied"))
        collect_count_failure(c, BUS, EACCES);
    else
        collect_count_error(c);
}

void collect_systemd(struct probe *c)
{
    struct state *state = collect_state(c, sizeof(*state));
    struct dbus_message message;
    struct dbus_units units;

    if (!state || !call_up(c, state))
        return;
    if (!send_call(state,
                   &(struct dbus_call){
                       .serial = ++state->serial,
                       .destination = state->is_bus ? "org.freedesktop.systemd1" : NULL,
                       .path = "/org/freedesktop/systemd1",
                       .interface = "org.freedesktop.systemd1.Manager",
                       .member = "ListUnits",
                   }) ||
        !await(c, state, state->serial, &message)) {
        collect_count_error(c);
        hang_up(state);
        return;
    }
    if (message.type == DBUS_ERROR)
        count_refusal(c, &message);
    else if (dbus_units_begin(&message, &units) == DBUS_OK)
        add_units(c, &units);
    else
        collect_count_error(c);
}
