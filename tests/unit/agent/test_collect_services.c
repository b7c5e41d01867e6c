/* SPDX-License-Identifier: Apache-2.0 */
/* systemd over a bus that the test plays, and cgroups. */
#include "suite.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/collect/dbus.h"
#include "collect_rig.h"
#include "common/base/file.h"

void add_service_cases(Suite *s);

/* ---- messages ---- */

static void put_u32(struct buf *to, uint32_t value)
{
    buf_append(to, &value, 4); /* these tests are of little endian */
}

static void align(struct buf *to, size_t n)
{
    while (to->len % n)
        buf_append(to, "", 1);
}

static void put_text(struct buf *to, const char *text)
{
    align(to, 4);
    put_u32(to, (uint32_t) strlen(text));
    buf_append(to, text, strlen(text) + 1);
}

static void put_unit(struct buf *to, const char *name, const char *state)
{
    const char *const texts[] = { name, "Described", "loaded", state, "dead", "" };

    align(to, 8);
    for (size_t i = 0; i < 6; i++)
        put_text(to, texts[i]);
    put_text(to, "/unit");
    align(to, 4);
    put_u32(to, 0);
    put_text(to, "");
    put_text(to, "/");
}

/* A return or a signal, with the signature of units or none. */
static void put_message(struct buf *to, uint8_t type, uint32_t reply_serial, const struct buf *body)
{
    CLEANUP(buf_deinit) struct buf message = { 0 };
    const uint8_t head[] = { 'l', type, 1, 1 };
    const uint8_t reply[] = { 5, 1, 'u', 0 };
    const uint8_t signature[] = { 8, 1, 'g', 0, 13 };
    uint32_t fields_bytes;

    buf_append(&message, head, 4);
    put_u32(&message, body ? (uint32_t) body->len : 0);
    put_u32(&message, 99);
    put_u32(&message, 0);
    buf_append(&message, reply, 4);
    put_u32(&message, reply_serial);
    if (body) {
        align(&message, 8);
        buf_append(&message, signature, 5);
        buf_append(&message, "a(ssssssouso)", 14);
    }
    fields_bytes = (uint32_t) message.len - 16;
    memcpy(message.data + 12, &fields_bytes, 4);
    align(&message, 8);
    buf_append_span(to, buf_span(&message));
    if (body)
        buf_append_span(to, buf_span(body));
}

static void put_units(struct buf *to, uint32_t reply_serial)
{
    CLEANUP(buf_deinit) struct buf body = { 0 };
    uint32_t bytes;

    put_u32(&body, 0);
    align(&body, 8);
    put_unit(&body, "ssh.service", "active");
    put_unit(&body, "backup.service", "failed");
    put_unit(&body, "home.mount", "failed");
    put_unit(&body, "old.service", "inactive");
    bytes = (uint32_t) body.len - 8;
    memcpy(body.data, &bytes, 4);
    put_message(to, DBUS_RETURN, reply_serial, &body);
}

START_TEST(a_message_is_read_whole_however_it_is_cut)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct dbus_message message;
    struct dbus_units units;
    struct dbus_unit unit;
    size_t used = 0, n = 0;

    put_units(&bytes, 7);
    for (size_t len = 0; len < bytes.len; len++)
        ck_assert_int_eq(dbus_decode(span_of(bytes.data, len), &message, &used), DBUS_MORE);
    ck_assert_int_eq(dbus_decode(buf_span(&bytes), &message, &used), 0);
    ck_assert_uint_eq(used, bytes.len);
    ck_assert_uint_eq(message.reply_serial, 7);
    ck_assert_int_eq(dbus_units_begin(&message, &units), 0);
    while (dbus_units_next(&units, &unit))
        n++;
    ck_assert(!units.is_bad);
    ck_assert_uint_eq(n, 4);
}
END_TEST

START_TEST(a_call_is_a_message_too)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct dbus_message message;
    size_t used;

    dbus_put_call(&bytes, &(struct dbus_call){ .serial = 3,
                                               .destination = "org.freedesktop.DBus",
                                               .path = "/org/freedesktop/DBus",
                                               .interface = "org.freedesktop.DBus",
                                               .member = "Hello" });
    ck_assert_int_eq(dbus_decode(buf_span(&bytes), &message, &used), 0);
    ck_assert_uint_eq(used, bytes.len);
    ck_assert_uint_eq(message.type, DBUS_CALL);
    bytes.data[3] = 2; /* the version */
    ck_assert_int_eq(dbus_decode(buf_span(&bytes), &message, &used), DBUS_BAD);
}
END_TEST

/* ---- a bus ---- */

static struct {
    int fd;
    unsigned n_connections, n_calls;
    bool is_private; /* systemd's own socket: nobody says hello */
    bool hangs_up;   /* instead of the second answer */
} bus;

static bool read_until(int fd, const char *end)
{
    char text[256];
    size_t len = 0, n = strlen(end);

    while (len < sizeof(text) && read(fd, text + len, 1) == 1)
        if (++len >= n && memcmp(text + len - n, end, n) == 0)
            return true;
    return false;
}

/* The serial of a call that is read; 0 at the end. */
static uint32_t read_call(int fd)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct dbus_message message;
    uint32_t serial;
    size_t used;
    char byte;

    while (dbus_decode(buf_span(&bytes), &message, &used) == DBUS_MORE) {
        if (read(fd, &byte, 1) != 1)
            return 0;
        buf_append(&bytes, &byte, 1);
    }
    if (bytes.len < 12)
        return 0;
    memcpy(&serial, bytes.data + 8, 4);
    return serial;
}

static void serve(int fd)
{
    static const char ok[] = "OK 0123456789abcdef0123456789abcdef\r\n";
    uint32_t serial;

    if (!read_until(fd, "\r\n") || write(fd, ok, sizeof(ok) - 1) < 0 ||
        !read_until(fd, "BEGIN\r\n"))
        return;
    for (unsigned i = 0; (serial = read_call(fd)) != 0; i++) {
        CLEANUP(buf_deinit) struct buf answer = { 0 };

        bus.n_calls++;
        if (bus.hangs_up && i == 2) {
            bus.hangs_up = false;
            return;
        }
        put_message(&answer, DBUS_SIGNAL, 0, NULL); /* nobody asked */
        if (i == 0 && !bus.is_private)
            put_message(&answer, DBUS_RETURN, serial, NULL);
        else
            put_units(&answer, serial);
        if (write(fd, answer.data, answer.len) < 0)
            return;
    }
}

static void *bus_main(void *ctx)
{
    (void) ctx;
    for (;;) {
        CLEANUP(fd_closep) int fd = accept(bus.fd, NULL, NULL);

        if (fd < 0)
            return NULL;
        bus.n_connections++;
        serve(fd);
    }
}

static pthread_t bus_start(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    pthread_t thread;

    tree_write("run/dbus/x", "");
    tree_write("run/systemd/x", "");
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", tree, path);
    bus.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(bus.fd, (const struct sockaddr *) &address, sizeof(address)), 0);
    ck_assert_int_eq(listen(bus.fd, 4), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, bus_main, NULL), 0);
    return thread;
}

static void bus_stop(pthread_t thread)
{
    shutdown(bus.fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(bus.fd);
}

#define UNITS(state) "system.linux.systemd.unit.count{systemd.unit.active_state=" state "}"
#define FAILED(unit) "system.linux.systemd.unit.failed{systemd.unit.name=" unit "}"

START_TEST(units_are_counted_and_failed_ones_named)
{
    struct collect *collect = new_collect(tree, "systemd");
    struct collect_totals totals;
    struct spool_scrape sample;
    pthread_t thread = bus_start("run/dbus/system_bus_socket");

    bus.hangs_up = true;
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(collect_run(collect, &sample), 0);
        if (i == 1) /* the bus hung up: this one is lost, and counted */
            break;
        expect(&sample, UNITS("active"), 1);
        expect(&sample, UNITS("failed"), 2);
        expect(&sample, UNITS("inactive"), 1);
        expect(&sample, UNITS("activating"), 0);
        expect(&sample, FAILED("backup.service"), 1);
        ck_assert_int_lt(find(&sample, FAILED("home.mount")), 0); /* a mount by default */
    }
    collect_get_totals(collect, &totals);
    ck_assert_uint_eq(totals.errors, 1);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(collect_run(collect, &sample), 0);
        expect(&sample, UNITS("failed"), 2);
    }
    collect_free(collect);
    bus_stop(thread);
    /* One connection for all rounds, and another after the first was hung up. */
    ck_assert_uint_eq(bus.n_connections, 2);
    ck_assert_uint_eq(bus.n_calls, 3 + 1 + 3);
}
END_TEST

START_TEST(without_a_bus_systemd_is_asked_directly)
{
    struct collect *collect = new_collect(tree, "systemd");
    struct spool_scrape sample;
    pthread_t thread;

    bus.is_private = true;
    thread = bus_start("run/systemd/private");
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(collect_run(collect, &sample), 0);
        expect(&sample, UNITS("failed"), 2);
    }
    collect_free(collect);
    bus_stop(thread);
    ck_assert_uint_eq(bus.n_calls, 2);
}
END_TEST

/* ---- cgroups ---- */

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define POD "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12ab_34cd.slice"

static void write_cgroup(const char *path)
{
    static const char *const files[][2] = {
        { "cpu.stat", "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n"
                      "throttled_usec 500000\n" },
        { "memory.current", "1000000\n" },
        { "memory.stat", "anon 5\ninactive_file 400000\n" },
        { "memory.max", "2000000\n" },
        { "memory.events", "low 0\noom_kill 3\n" },
        { "io.stat", "8:0 rbytes=100 wbytes=200 rios=1\n8:16 rbytes=11 wbytes=22 rios=1\n" },
        { "pids.current", "7\n" },
    };
    char name[512];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(name, sizeof(name), "sys/fs/cgroup/%s/%s", path, files[i][0]);
        tree_write(name, files[i][1]);
    }
}

#define CGROUP(metric, path, rest) \
    "system.linux.cgroup." metric "{system.linux.cgroup.path=" path rest "}"
#define CONTAINER_OF(metric, runtime, rest) \
    metric "{container.id=" ID ",container.runtime.name=" runtime rest "}"

START_TEST(the_top_is_told_by_path_and_a_container_by_id)
{
    tree_write("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
    write_cgroup("system.slice");
    tree_write("sys/fs/cgroup/system.slice/ssh.service/cpu.stat", "user_usec 1\n");
    write_cgroup(POD "/cri-containerd-" ID ".scope");
    tree_write("sys/fs/cgroup/machine.slice/libpod-conmon-" ID ".scope/cpu.stat", "user_usec 1\n");
#define IN_POD ",k8s.pod.uid=12ab-34cd"
    EXPECT_ALL_OF(
        tree, "cgroup", { CGROUP("cpu.time", "/system.slice", ",cpu.mode=user"), 2 },
        { CGROUP("cpu.time", "/system.slice", ",cpu.mode=system"), 1 },
        { CGROUP("cpu.throttled_time", "/system.slice", ""), 0.5 },
        { CGROUP("memory.usage", "/system.slice", ""), 1000000 },
        { CGROUP("memory.working_set", "/system.slice", ""), 600000 },
        { CGROUP("memory.limit", "/system.slice", ""), 2000000 },
        { CGROUP("memory.oom_kills", "/system.slice", ""), 3 },
        { CGROUP("disk.io", "/system.slice", ",disk.io.direction=read"), 111 },
        { CGROUP("disk.io", "/system.slice", ",disk.io.direction=write"), 222 },
        { CGROUP("process.count", "/system.slice", ""), 7 },
        { CONTAINER_OF("container.cpu.time", "containerd", IN_POD ",cpu.mode=user"), 2 },
        { CONTAINER_OF("container.cpu.time", "containerd", IN_POD ",cpu.mode=system"), 1 },
        { CONTAINER_OF("container.cpu.throttled_time", "containerd", IN_POD), 0.5 },
        { CONTAINER_OF("container.memory.usage", "containerd", IN_POD), 1000000 },
        { CONTAINER_OF("container.memory.working_set", "containerd", IN_POD), 600000 },
        { CONTAINER_OF("container.memory.limit", "containerd", IN_POD), 2000000 },
        { CONTAINER_OF("container.memory.oom_kills", "containerd", IN_POD), 3 },
        { CONTAINER_OF("container.disk.io", "containerd", IN_POD ",disk.io.direction=read"), 111 },
        { CONTAINER_OF("container.disk.io", "containerd", IN_POD ",disk.io.direction=write"), 222 },
        { CONTAINER_OF("container.process.count", "containerd", IN_POD), 7 },
        { "system.linux.cgroup.count", 8 }, { "system.linux.container.count", 1 });
}
END_TEST

START_TEST(containers_of_each_runtime_are_known)
{
    static const char *const rows[][2] = {
        { "docker/" ID, "docker" },
        { "system.slice/docker-" ID ".scope", "docker" },
        { "machine.slice/libpod-" ID ".scope", "podman" },
        { "kubepods/pod1/crio-" ID, "cri-o" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct collect *collect = new_collect(tree, "cgroup");
        struct spool_scrape sample;
        char path[512], name[512];

        tree_write("sys/fs/cgroup/cgroup.controllers", "");
        snprintf(path, sizeof(path), "sys/fs/cgroup/%s/pids.current", rows[i][0]);
        tree_write(path, "5\n");
        ck_assert_int_eq(collect_run(collect, &sample), 0);
        snprintf(name, sizeof(name),
                 "container.process.count{container.id=%s,container.runtime.name=%s%s}", ID,
                 rows[i][1], i == 3 ? ",k8s.pod.uid=1" : "");
        expect(&sample, name, 5);
        collect_free(collect);
        tree_remove();
        ck_assert_int_eq(mkdir(tree, 0700), 0);
    }
}
END_TEST

START_TEST(cgroups_told_of_are_bounded_and_chosen)
{
    struct collect_options options = rig_options(tree, "cgroup");
    struct collect *collect = NULL;
    struct spool_scrape sample;

    tree_write("sys/fs/cgroup/cgroup.controllers", "");
    tree_write("sys/fs/cgroup/a/pids.current", "1\n");
    tree_write("sys/fs/cgroup/b/pids.current", "1\n");
    tree_write("sys/fs/cgroup/b/deep/pids.current", "4\n");
    options.numbers.max_cgroups = 1;
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_uint_eq(sample.layout->n_series, 1 + 2);
    expect(&sample, "system.linux.cgroup.count", 3);
    collect_free(collect);

    options.numbers.max_cgroups = 100;
    options.filters[COLLECT_CGROUPS].include = "deep";
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, CGROUP("process.count", "/b/deep", ""), 4);
    ck_assert_uint_eq(sample.layout->n_series, 1 + 2);
    collect_free(collect);
}
END_TEST

static void write_v1(const char *controller, const char *path, const char *file, const char *text)
{
    char name[512];

    snprintf(name, sizeof(name), "sys/fs/cgroup/%s/%s/%s", controller, path, file);
    tree_write(name, text);
}

static void write_cgroup_v1(const char *path)
{
    write_v1("cpuacct", path, "cpuacct.usage", "3000000000\n");
    write_v1("cpuacct", path, "cpuacct.usage_user", "2000000000\n");
    write_v1("cpuacct", path, "cpuacct.usage_sys", "1000000000\n");
    write_v1("cpu", path, "cpu.stat", "nr_periods 4\nnr_throttled 1\nthrottled_time 500000000\n");
    write_v1("memory", path, "memory.usage_in_bytes", "1000000\n");
    write_v1("memory", path, "memory.stat", "inactive_file 1\ntotal_inactive_file 400000\n");
    write_v1("memory", path, "memory.limit_in_bytes", "2000000\n");
    write_v1("memory", path, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
    write_v1("blkio", path, "blkio.throttle.io_service_bytes",
             "8:0 Read 1\n8:0 Write 1\nTotal 2\n");
    write_v1(
        "blkio", path, "blkio.throttle.io_service_bytes_recursive",
        "8:0 Read 100\n8:0 Write 200\n8:0 Sync 300\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 300\n"
        "8:16 Read 11\n8:16 Write 22\n8:16 Total 33\nTotal 333\n");
    write_v1("pids", path, "pids.current", "7\n");
}

START_TEST(version_1_tells_the_same_out_of_its_trees)
{
    write_cgroup_v1("system.slice");
    write_cgroup_v1("docker/" ID);
    EXPECT_ALL_OF(tree, "cgroup", { CGROUP("cpu.time", "/system.slice", ",cpu.mode=user"), 2 },
                  { CGROUP("cpu.time", "/system.slice", ",cpu.mode=system"), 1 },
                  { CGROUP("cpu.throttled_time", "/system.slice", ""), 0.5 },
                  { CGROUP("memory.usage", "/system.slice", ""), 1000000 },
                  { CGROUP("memory.working_set", "/system.slice", ""), 600000 },
                  { CGROUP("memory.limit", "/system.slice", ""), 2000000 },
                  { CGROUP("memory.oom_kills", "/system.slice", ""), 3 },
                  { CGROUP("disk.io", "/system.slice", ",disk.io.direction=read"), 111 },
                  { CGROUP("disk.io", "/system.slice", ",disk.io.direction=write"), 222 },
                  { CGROUP("process.count", "/system.slice", ""), 7 },
                  { CONTAINER_OF("container.cpu.time", "docker", ",cpu.mode=user"), 2 },
                  { CONTAINER_OF("container.cpu.time", "docker", ",cpu.mode=system"), 1 },
                  { CONTAINER_OF("container.cpu.throttled_time", "docker", ""), 0.5 },
                  { CONTAINER_OF("container.memory.usage", "docker", ""), 1000000 },
                  { CONTAINER_OF("container.memory.working_set", "docker", ""), 600000 },
                  { CONTAINER_OF("container.memory.limit", "docker", ""), 2000000 },
                  { CONTAINER_OF("container.memory.oom_kills", "docker", ""), 3 },
                  { CONTAINER_OF("container.disk.io", "docker", ",disk.io.direction=read"), 111 },
                  { CONTAINER_OF("container.disk.io", "docker", ",disk.io.direction=write"), 222 },
                  { CONTAINER_OF("container.process.count", "docker", ""), 7 },
                  { "system.linux.cgroup.count", 3 }, { "system.linux.container.count", 1 });
}
END_TEST

/* Linux 3.10, as RHEL 7 has it: ticks, the cgroup's own io alone, and a limit that is none. */
START_TEST(an_old_version_1_tells_what_it_has)
{
    char ticks[64];

    snprintf(ticks, sizeof(ticks), "user %ld\nsystem %ld\n", 2 * sysconf(_SC_CLK_TCK),
             3 * sysconf(_SC_CLK_TCK));
    write_v1("cpuacct", "a", "cpuacct.stat", ticks);
    write_v1("memory", "a", "memory.usage_in_bytes", "4096\n");
    write_v1("memory", "a", "memory.limit_in_bytes", "9223372036854771712\n");
    write_v1("blkio", "a", "blkio.throttle.io_service_bytes", "Total 0\n");
    EXPECT_ALL_OF(tree, "cgroup", { CGROUP("cpu.time", "/a", ",cpu.mode=user"), 2 },
                  { CGROUP("cpu.time", "/a", ",cpu.mode=system"), 3 },
                  { CGROUP("memory.usage", "/a", ""), 4096 },
                  { CGROUP("disk.io", "/a", ",disk.io.direction=read"), 0 },
                  { CGROUP("disk.io", "/a", ",disk.io.direction=write"), 0 },
                  { "system.linux.cgroup.count", 1 }, { "system.linux.container.count", 0 });
}
END_TEST

void add_service_cases(Suite *s)
{
    TCase *services = tcase_create("services");

    tcase_add_checked_fixture(services, tree_make, tree_remove);
    tcase_add_test(services, a_message_is_read_whole_however_it_is_cut);
    tcase_add_test(services, a_call_is_a_message_too);
    tcase_add_test(services, units_are_counted_and_failed_ones_named);
    tcase_add_test(services, without_a_bus_systemd_is_asked_directly);
    tcase_add_test(services, the_top_is_told_by_path_and_a_container_by_id);
    tcase_add_test(services, containers_of_each_runtime_are_known);
    tcase_add_test(services, cgroups_told_of_are_bounded_and_chosen);
    tcase_add_test(services, version_1_tells_the_same_out_of_its_trees);
    tcase_add_test(services, an_old_version_1_tells_what_it_has);
    suite_add_tcase(s, services);
}
