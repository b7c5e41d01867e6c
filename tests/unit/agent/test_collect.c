/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/collect/collect.h"
#include "collect_rig.h"
#include "common/base/clock.h"
#include "common/base/file.h"

#define PLAIN AGENT_FIXTURES "/plain"
#define BROKEN AGENT_FIXTURES "/broken"
#define CONTAINER AGENT_FIXTURES "/container"

/* ---- a kernel of our own ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_hanging; /* for paths that end in /mnt/nfs */
    unsigned n_calls_nfs;
} mounted = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 };

static void set_hanging(bool is_hanging)
{
    pthread_mutex_lock(&mounted.lock);
    mounted.is_hanging = is_hanging;
    pthread_cond_broadcast(&mounted.changed);
    pthread_mutex_unlock(&mounted.lock);
}

static unsigned calls_of_nfs(void)
{
    unsigned n;

    pthread_mutex_lock(&mounted.lock);
    n = mounted.n_calls_nfs;
    pthread_mutex_unlock(&mounted.lock);
    return n;
}

static int fake_statvfs(const char *path, struct statvfs *ret)
{
    const char *place = path + strlen(PLAIN);

    *ret = (struct statvfs){
        .f_bsize = 4096,
        .f_frsize = 1024,
        .f_blocks = 1000,
        .f_bfree = 400,
        .f_bavail = 300,
        .f_files = 64,
        .f_ffree = 60,
    };
    if (strcmp(place, "/run") == 0) {
        ret->f_files = 0;
        return 0;
    }
    if (strcmp(place, "/mnt/old name") == 0) {
        errno = EIO;
        return -1;
    }
    if (strcmp(place, "/mnt/nfs") == 0) {
        pthread_mutex_lock(&mounted.lock);
        mounted.n_calls_nfs++;
        while (mounted.is_hanging)
            pthread_cond_wait(&mounted.changed, &mounted.lock);
        pthread_mutex_unlock(&mounted.lock);
    }
    return 0;
}

#define EXPECT_ALL(collector, ...) EXPECT_ALL_OF(PLAIN, collector, __VA_ARGS__)

/* ---- collectors ---- */

START_TEST(cpu_time_is_in_seconds_by_mode_and_cpu)
{
    double hz = (double) sysconf(_SC_CLK_TCK);

    EXPECT_ALL("cpu", { "system.cpu.time{cpu.mode=user}", 18423 / hz },
               { "system.cpu.time{cpu.mode=nice}", 250 / hz },
               { "system.cpu.time{cpu.mode=system}", 2842 / hz },
               { "system.cpu.time{cpu.mode=idle}", 224781 / hz },
               { "system.cpu.time{cpu.mode=iowait}", 1066 / hz },
               { "system.cpu.time{cpu.mode=interrupt}", 320 / hz },
               { "system.cpu.time{cpu.mode=steal}", 1964 / hz },
               { "system.cpu.time{cpu.mode=user,cpu.logical_number=0}", 8204 / hz },
               { "system.cpu.time{cpu.mode=nice,cpu.logical_number=0}", 100 / hz },
               { "system.cpu.time{cpu.mode=system,cpu.logical_number=0}", 1300 / hz },
               { "system.cpu.time{cpu.mode=idle,cpu.logical_number=0}", 124288 / hz },
               { "system.cpu.time{cpu.mode=iowait,cpu.logical_number=0}", 123 / hz },
               { "system.cpu.time{cpu.mode=interrupt,cpu.logical_number=0}", 26 / hz },
               { "system.cpu.time{cpu.mode=steal,cpu.logical_number=0}", 897 / hz },
               { "system.cpu.time{cpu.mode=user,cpu.logical_number=1}", 10219 / hz },
               { "system.cpu.time{cpu.mode=nice,cpu.logical_number=1}", 150 / hz },
               { "system.cpu.time{cpu.mode=system,cpu.logical_number=1}", 1542 / hz },
               { "system.cpu.time{cpu.mode=idle,cpu.logical_number=1}", 100493 / hz },
               { "system.cpu.time{cpu.mode=iowait,cpu.logical_number=1}", 943 / hz },
               { "system.cpu.time{cpu.mode=interrupt,cpu.logical_number=1}", 294 / hz },
               { "system.cpu.time{cpu.mode=steal,cpu.logical_number=1}", 1067 / hz },
               { "system.cpu.logical.count", 2 }, { "system.cpu.physical.count", 1 });
}
END_TEST

START_TEST(load_has_three_averages)
{
    EXPECT_ALL("load", { "system.cpu.load_average.1m", 0.20 },
               { "system.cpu.load_average.5m", 0.18 }, { "system.cpu.load_average.15m", 12.50 });
}
END_TEST

START_TEST(memory_states_add_up_to_the_limit)
{
    double kib = 1024;

    EXPECT_ALL("memory", { "system.memory.limit", 8000000 * kib },
               { "system.memory.usage{system.memory.state=used}", 3500000 * kib },
               { "system.memory.usage{system.memory.state=free}", 1000000 * kib },
               { "system.memory.usage{system.memory.state=buffers}", 200000 * kib },
               { "system.memory.usage{system.memory.state=cached}", 3300000 * kib },
               { "system.memory.utilization{system.memory.state=used}", 0.4375 },
               { "system.memory.utilization{system.memory.state=free}", 0.125 },
               { "system.memory.utilization{system.memory.state=buffers}", 0.025 },
               { "system.memory.utilization{system.memory.state=cached}", 0.4125 },
               { "system.memory.linux.available", 5000000 * kib },
               { "system.memory.linux.shared", 50000 * kib },
               { "system.memory.linux.slab.usage{system.memory.linux.slab.state=reclaimable}",
                 300000 * kib },
               { "system.memory.linux.slab.usage{system.memory.linux.slab.state=unreclaimable}",
                 100000 * kib });
}
END_TEST

START_TEST(paging_tells_areas_faults_and_operations)
{
    EXPECT_ALL(
        "paging",
        { "system.paging.usage{system.device=/dev/sda2,system.paging.state=used}", 256000000 },
        { "system.paging.usage{system.device=/dev/sda2,system.paging.state=free}", 768000000 },
        { "system.paging.utilization{system.device=/dev/sda2,system.paging.state=used}", 0.25 },
        { "system.paging.utilization{system.device=/dev/sda2,system.paging.state=free}", 0.75 },
        { "system.paging.faults{system.paging.fault.type=minor}", 35147133 },
        { "system.paging.faults{system.paging.fault.type=major}", 1656 },
        { "system.paging.operations{system.paging.fault.type=major,system.paging.direction=in}",
          12 },
        { "system.paging.operations{system.paging.fault.type=major,system.paging.direction=out}",
          34 });
}
END_TEST

#define DISK(device, read_ops, read_merged, read_sectors, read_ms, write_ops, write_merged,        \
             write_sectors, write_ms, io_ms)                                                       \
    { "system.disk.io{system.device=" device ",disk.io.direction=read}", (read_sectors) *512.0 },  \
        { "system.disk.operations{system.device=" device ",disk.io.direction=read}", read_ops },   \
        { "system.disk.merged{system.device=" device ",disk.io.direction=read}", read_merged },    \
        { "system.disk.operation_time{system.device=" device ",disk.io.direction=read}",           \
          (read_ms) / 1000.0 },                                                                    \
        { "system.disk.io{system.device=" device ",disk.io.direction=write}",                      \
          (write_sectors) *512.0 },                                                                \
        { "system.disk.operations{system.device=" device ",disk.io.direction=write}", write_ops }, \
        { "system.disk.merged{system.device=" device ",disk.io.direction=write}", write_merged },  \
        { "system.disk.operation_time{system.device=" device ",disk.io.direction=write}",          \
          (write_ms) / 1000.0 },                                                                   \
        { "system.linux.disk.in_flight{system.device=" device "}", 0 },                            \
    {                                                                                              \
        "system.disk.io_time{system.device=" device "}", (io_ms) / 1000.0                          \
    }

START_TEST(disk_leaves_out_loops_memory_and_partitions)
{
    EXPECT_ALL(
        "disk", DISK("vda", 65127, 10930, 4394858, 57673, 20915, 62528, 7274168, 22343, 23000),
        DISK("nvme0n1", 10, 1, 80, 5, 20, 2, 160, 6, 7), DISK("dm-0", 3, 0, 24, 2, 4, 0, 32, 3, 5));
}
END_TEST

#define NETWORK(name, bytes_in, packets_in, errs_in, drop_in, bytes_out, packets_out, errs_out,   \
                drop_out)                                                                         \
    { "system.network.io{network.interface.name=" name ",network.io.direction=receive}",          \
      bytes_in },                                                                                 \
        { "system.network.packet.count{system.device=" name ",network.io.direction=receive}",     \
          packets_in },                                                                           \
        { "system.network.errors{network.interface.name=" name ",network.io.direction=receive}",  \
          errs_in },                                                                              \
        { "system.network.packet.dropped{network.interface.name=" name                            \
          ",network.io.direction=receive}",                                                       \
          drop_in },                                                                              \
        { "system.network.io{network.interface.name=" name ",network.io.direction=transmit}",     \
          bytes_out },                                                                            \
        { "system.network.packet.count{system.device=" name ",network.io.direction=transmit}",    \
          packets_out },                                                                          \
        { "system.network.errors{network.interface.name=" name ",network.io.direction=transmit}", \
          errs_out },                                                                             \
    {                                                                                             \
        "system.network.packet.dropped{network.interface.name=" name                              \
        ",network.io.direction=transmit}",                                                        \
            drop_out                                                                              \
    }

START_TEST(network_reads_numbers_glued_to_the_name)
{
    EXPECT_ALL("network", NETWORK("lo", 3193, 29, 0, 0, 3193, 29, 0, 0),
               NETWORK("eth0", 169177791, 5038, 3, 4, 344900, 3130, 5, 6));
}
END_TEST

START_TEST(processes_are_counted_by_state_whatever_they_are_called)
{
    EXPECT_ALL("processes", { "system.process.count{process.state=running}", 1 },
               { "system.process.count{process.state=sleeping}", 2 },
               { "system.process.count{process.state=stopped}", 1 },
               { "system.process.count{process.state=defunct}", 1 },
               { "system.linux.thread.count", 0 }, { "system.process.created", 11206 });
}
END_TEST

#define STALL(resource, type)                                                   \
    "system.linux.pressure.stall_time{system.linux.pressure.resource=" resource \
    ",system.linux.pressure.type=" type "}"

START_TEST(pressure_is_stall_time_in_seconds)
{
    EXPECT_ALL("pressure", { STALL("cpu", "some"), 457.149813 }, { STALL("cpu", "full"), 0 },
               { STALL("io", "some"), 1.5 }, { STALL("io", "full"), 0.5 });
}
END_TEST

START_TEST(uptime_and_file_handles_are_read)
{
    EXPECT_ALL("uptime", { "system.uptime", 106431.25 });
    EXPECT_ALL("filehandles", { "system.linux.file_handle.count", 592 },
               { "system.linux.file_handle.limit", 2466193 });
}
END_TEST

START_TEST(self_tells_use_and_ledger)
{
    struct collect *collect = new_collect(PLAIN, "self");
    const struct spool_ledger ledgers[SPOOL_SIGNALS] = {
        { .produced = 50,
          .acknowledged = 30,
          .queued = 15,
          .dropped = { [0] = 5, [SPOOL_REFUSED] = 5 },
          .queued_batches = 3,
          .queued_bytes = 999 },
        { .produced = 7, .acknowledged = 7 },
    };
    double hz = (double) sysconf(_SC_CLK_TCK);
    struct spool_scrape sample;

    collect_set_ledgers(collect, ledgers);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "process.cpu.time{cpu.mode=user}", 150 / hz);
    expect(&sample, "process.cpu.time{cpu.mode=system}", 50 / hz);
    expect(&sample, "process.memory.usage", 2560.0 * (double) sysconf(_SC_PAGESIZE));
    expect(&sample, "process.memory.virtual", 104857600);
    expect(&sample, "process.thread.count", 9);
    expect(&sample, "process.unix.file_descriptor.count", 3);
    expect(&sample, "sentinel.agent.batches.queued", 3);
    expect(&sample, "sentinel.agent.queue.usage", 999);
    expect(&sample, "sentinel.agent.samples.produced", 50);
    expect(&sample, "sentinel.agent.samples.acknowledged", 30);
    expect(&sample, "sentinel.agent.samples.dropped", 5);
    expect(&sample, "sentinel.agent.dropped{sentinel.reason=refused,sentinel.signal=metrics}", 5);
    expect(&sample, "sentinel.agent.log_records.produced", 7);
    expect(&sample, "sentinel.agent.queue.usage{sentinel.signal=logs}", 0);
    collect_free(collect);
}
END_TEST

/* ---- file systems ---- */

#define PLACE(device, mode, point, type)                     \
    "{system.device=" device ",system.filesystem.mode=" mode \
    ",system.filesystem.mountpoint=" point ",system.filesystem.type=" type
#define ROOT PLACE("/dev/vda", "rw", "/", "ext4")
#define NFS PLACE("server:/export", "rw", "/mnt/nfs", "nfs4")
#define RUN PLACE("tmpfs", "rw", "/run", "tmpfs")

START_TEST(filesystems_are_told_once_and_pseudo_ones_not)
{
    struct collect *collect = new_collect(PLAIN, "filesystem");
    struct collect_totals totals;
    struct spool_scrape sample;

    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "system.filesystem.limit" ROOT "}", 1024000);
    expect(&sample, "system.filesystem.usage" ROOT ",system.filesystem.state=used}", 614400);
    expect(&sample, "system.filesystem.usage" ROOT ",system.filesystem.state=free}", 307200);
    expect(&sample, "system.filesystem.usage" ROOT ",system.filesystem.state=reserved}", 102400);
    expect(&sample, "system.filesystem.utilization" ROOT ",system.filesystem.state=used}", 0.6);
    expect(&sample, "system.filesystem.inodes.limit" ROOT "}", 64);
    expect(&sample, "system.filesystem.inodes.usage" ROOT ",system.filesystem.state=used}", 4);
    expect(&sample, "system.filesystem.inodes.usage" ROOT ",system.filesystem.state=free}", 60);
    expect(&sample, "system.filesystem.limit" NFS "}", 1024000);
    /* A tmpfs without inodes of its own; nothing of bind mounts, overlays, /run/user. */
    expect(&sample, "system.filesystem.limit" RUN "}", 1024000);
    expect(&sample,
           "system.linux.filesystem.read_only{system.device=/dev/vda,"
           "system.filesystem.mountpoint=/,system.filesystem.type=ext4}",
           0);
    ck_assert_uint_eq(sample.layout->n_series, 11 + 11 + 8 + 1);
    /* "/mnt/old name" fails, and is counted: it was asked for under its real name. */
    collect_get_totals(collect, &totals);
    ck_assert_uint_eq(totals.errors, 1);
    collect_free(collect);
}
END_TEST

static int any_statvfs(const char *path, struct statvfs *ret)
{
    ck_assert_str_eq(path, CONTAINER "/");
    *ret = (struct statvfs){ .f_frsize = 1024, .f_blocks = 1000, .f_bfree = 400, .f_bavail = 300 };
    return 0;
}

START_TEST(below_another_root_the_machine_is_told_of_and_not_the_container)
{
    struct collect_options options = { .root = CONTAINER,
                                       .max_series = 4000,
                                       .deadline_us = 500000,
                                       .statvfs_timeout_us = 5000000,
                                       .statvfs = any_statvfs };
    struct collect *collect;
    struct spool_scrape sample;

    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "system.network.io{network.interface.name=eth7,network.io.direction=receive}",
           1000);
    ck_assert_int_lt(
        find(&sample,
             "system.network.io{network.interface.name=tap0,network.io.direction=receive}"),
        0);
    expect(&sample, "system.filesystem.limit" PLACE("/dev/sda1", "rw", "/", "ext4") "}", 1024000);
    collect_free(collect);
}
END_TEST

START_TEST(a_mount_that_hangs_is_left_out_until_it_comes_back)
{
    struct collect *collect = new_collect(PLAIN, NULL);
    struct collect_options options = {
        .root = PLAIN,
        .max_series = 4000,
        .statvfs_timeout_us = 500000,
        .deadline_us = 5000000,
        .statvfs = fake_statvfs,
    };
    struct spool_scrape sample;
    unsigned n_calls;

    ck_assert_int_eq(collect_configure(collect, &options), 0);
    set_hanging(true);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "system.filesystem.limit" ROOT "}", 1024000);
    ck_assert(is_absent(&sample, "system.filesystem.limit" NFS "}"));
    /* What is behind it in the list is told in the same round. */
    expect(&sample, "system.filesystem.limit" RUN "}", 1024000);
    expect(&sample, "sentinel.agent.filesystems.stuck", 1);

    /* Not asked again while it hangs. */
    n_calls = calls_of_nfs();
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_uint_eq(calls_of_nfs(), n_calls);
    expect(&sample, "system.filesystem.limit" RUN "}", 1024000);
    expect(&sample, "sentinel.agent.filesystems.stuck", 1);

    set_hanging(false);
    do
        ck_assert_int_eq(collect_run(collect, &sample), 0);
    while (is_absent(&sample, "system.filesystem.limit" NFS "}"));
    expect(&sample, "sentinel.agent.filesystems.stuck", 0);
    collect_free(collect);
}
END_TEST

/* ---- what cannot be read or understood ---- */

START_TEST(nonsense_is_counted_and_not_told)
{
    static const char *const names[] = { "cpu",         "load",    "memory",     "paging",
                                         "disk",        "network", "processes",  "uptime",
                                         "filehandles", "self",    "filesystem", "softnet",
                                         "sockets",     "mdadm",   "zfs",        "conntrack",
                                         NULL };

    for (const char *const *name = names; *name; name++) {
        struct collect *collect = new_collect(BROKEN, *name);
        struct collect_totals totals;
        struct spool_scrape sample;

        ck_assert_int_eq(collect_run(collect, &sample), 0);
        collect_get_totals(collect, &totals);
        ck_assert_msg(totals.errors > 0, "%s understands nonsense", *name);
        /* What these say beside does not come from the broken file. */
        if (strcmp(*name, "self") != 0 && strcmp(*name, "processes") != 0 &&
            strcmp(*name, "filesystem") != 0 && strcmp(*name, "conntrack") != 0)
            ck_assert_msg(sample.layout->n_series == 0, "%s tells nonsense", *name);
        collect_free(collect);
    }
}
END_TEST

START_TEST(an_empty_machine_has_no_errors)
{
    char root[] = "/tmp/sentinel-collect-XXXXXX";
    struct collect_totals totals;
    struct spool_scrape sample;
    struct collect *collect;

    ck_assert_ptr_nonnull(mkdtemp(root));
    collect = new_collect(root, NULL);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    collect_get_totals(collect, &totals);
    ck_assert_uint_eq(totals.errors, 0);
    collect_free(collect);
    ck_assert_int_eq(file_remove_tree(root), 0);
}
END_TEST

START_TEST(unknown_names_are_refused)
{
    const char *names[] = { "cpuu" };
    struct collect_options options = { .root = PLAIN, .disable = names, .n_disable = 1 };
    struct collect *collect = NULL;

    ck_assert_int_eq(collect_new(&collect, &options), COLLECT_UNKNOWN);
    ck_assert_str_eq(collect_nearest("cpuu"), "cpu");
    options.n_disable = 0;
    options.root = "/no/such/root";
    ck_assert_int_eq(collect_new(&collect, &options), COLLECT_ABSENT);
}
END_TEST

/* ---- layouts ---- */

static void write_swaps(const char *text)
{
    tree_write("proc/swaps", text);
}

#define AREA_A "heading\n/a partition 100 25 -1\n"
#define AREA_B "/b partition 200 50 -1\n"
#define USED(device) "system.paging.usage{system.device=" device ",system.paging.state=used}"

START_TEST(a_layout_stays_while_the_series_stay)
{
    struct collect *collect = new_collect(PLAIN, "memory");
    const struct spool_layout *layout;
    struct spool_scrape sample;

    ck_assert_int_eq(collect_run(collect, &sample), 0);
    layout = sample.layout;
    for (int i = 0; i < 30; i++)
        ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_ptr_eq(sample.layout, layout);
    collect_free(collect);
}
END_TEST

START_TEST(a_new_series_makes_a_new_layout_and_keeps_old_ids)
{
    struct collect *collect = new_collect(tree, "paging");
    struct spool_scrape sample;
    uint32_t layout_id, series_id;

    write_swaps(AREA_A);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    layout_id = sample.layout->id;
    series_id = sample.layout->series[0]->id;
    ck_assert_uint_eq(sample.layout->n_series, 4);

    write_swaps(AREA_A AREA_B);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_uint_gt(sample.layout->id, layout_id);
    ck_assert_uint_eq(sample.layout->n_series, 8);
    ck_assert_uint_eq(sample.layout->series[0]->id, series_id);
    expect(&sample, USED("/a"), 25600);
    expect(&sample, USED("/b"), 51200);
    collect_free(collect);
}
END_TEST

START_TEST(a_missing_series_is_absent_and_leaves_after_ten_rounds)
{
    struct collect *collect = new_collect(tree, "paging");
    struct spool_scrape sample;
    uint32_t layout_id;

    write_swaps(AREA_A AREA_B);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    layout_id = sample.layout->id;

    write_swaps("heading\n" AREA_B);
    for (int i = 1; i < COLLECT_MISSING_ROUNDS; i++) {
        ck_assert_int_eq(collect_run(collect, &sample), 0);
        ck_assert_uint_eq(sample.layout->id, layout_id);
        ck_assert_uint_eq(sample.n_absent, 4);
        ck_assert(is_absent(&sample, USED("/a")));
        expect(&sample, USED("/b"), 51200);
    }
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_uint_ne(sample.layout->id, layout_id);
    ck_assert_uint_eq(sample.layout->n_series, 4);
    ck_assert_uint_eq(sample.n_absent, 0);
    expect(&sample, USED("/b"), 51200);

    /* It comes back as a series that is new to the process, in its own place. */
    write_swaps(AREA_A AREA_B);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_uint_eq(sample.layout->n_series, 8);
    expect(&sample, USED("/a"), 25600);
    expect(&sample, USED("/b"), 51200);
    collect_free(collect);
}
END_TEST

START_TEST(series_over_the_limit_are_refused_and_counted)
{
    struct collect_options options = {
        .root = PLAIN,
        .max_series = 5,
        .statvfs_timeout_us = 5000000,
        .deadline_us = 5000000,
        .statvfs = fake_statvfs,
    };
    struct collect_totals totals;
    struct spool_scrape sample;
    struct collect *collect = NULL;

    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_uint_eq(sample.layout->n_series, 5);
    collect_get_totals(collect, &totals);
    ck_assert_uint_gt(totals.refused_series, 10);
    collect_free(collect);
}
END_TEST

START_TEST(a_sample_that_was_spooled_outlives_its_layout)
{
    struct collect *collect = new_collect(tree, "paging");
    struct spool_layout *layout;
    struct spool_scrape sample;

    write_swaps(AREA_A);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    layout = spool_layout_ref(sample.layout);
    collect_free(collect);
    ck_assert_str_eq(layout->series[0]->name, "system.paging.usage");
    ck_assert_str_eq(layout->series[0]->unit, "By");
    (void) spool_layout_unref(layout);
}
END_TEST

/* ---- the host ---- */

static const char *attribute(const struct collect_host *host, const char *key)
{
    for (size_t i = 0; i < host->n_attributes; i++)
        if (strcmp(host->attributes[i].key, key) == 0)
            return host->attributes[i].value;
    return "";
}

START_TEST(a_host_has_facts_and_a_fingerprint)
{
    struct collect_host host, bare;

    collect_read_host(PLAIN, &host);
    ck_assert_str_eq(attribute(&host, "host.name"), "web-1");
    ck_assert_str_eq(attribute(&host, "os.type"), "linux");
    ck_assert_str_eq(attribute(&host, "os.name"), "debian");
    ck_assert_str_eq(attribute(&host, "os.version"), "12");
    ck_assert_str_eq(attribute(&host, "os.description"), "Debian GNU/Linux 12 (bookworm)");
    for (size_t i = 0; i < IDENTITY_N_SOURCES; i++)
        ck_assert(host.fingerprint.has[i]);

    collect_read_host(BROKEN, &bare);
    ck_assert_str_eq(attribute(&bare, "os.name"), "");
    ck_assert(!bare.fingerprint.has[IDENTITY_MACHINE_ID]);
}
END_TEST

/* test_collect_machine.c, _rounds.c, _services.c, _custom.c */
void add_custom_cases(Suite *s);
void add_service_cases(Suite *s);
void add_machine_cases(Suite *s);
void add_nvme_cases(Suite *s);
void add_round_cases(Suite *s);

Suite *suite(void)
{
    rig_statvfs = fake_statvfs;
    Suite *s = suite_create("agent/collect");
    TCase *collectors = tcase_create("collectors");
    TCase *filesystems = tcase_create("file systems");
    TCase *errors = tcase_create("errors");
    TCase *layouts = tcase_create("layouts");
    TCase *host = tcase_create("host");

    tcase_add_test(collectors, cpu_time_is_in_seconds_by_mode_and_cpu);
    tcase_add_test(collectors, load_has_three_averages);
    tcase_add_test(collectors, memory_states_add_up_to_the_limit);
    tcase_add_test(collectors, paging_tells_areas_faults_and_operations);
    tcase_add_test(collectors, disk_leaves_out_loops_memory_and_partitions);
    tcase_add_test(collectors, network_reads_numbers_glued_to_the_name);
    tcase_add_test(collectors, processes_are_counted_by_state_whatever_they_are_called);
    tcase_add_test(collectors, pressure_is_stall_time_in_seconds);
    tcase_add_test(collectors, uptime_and_file_handles_are_read);
    tcase_add_test(collectors, self_tells_use_and_ledger);
    suite_add_tcase(s, collectors);
    tcase_add_test(filesystems, filesystems_are_told_once_and_pseudo_ones_not);
    tcase_add_test(filesystems, below_another_root_the_machine_is_told_of_and_not_the_container);
    tcase_add_test(filesystems, a_mount_that_hangs_is_left_out_until_it_comes_back);
    suite_add_tcase(s, filesystems);
    tcase_add_test(errors, nonsense_is_counted_and_not_told);
    tcase_add_test(errors, an_empty_machine_has_no_errors);
    tcase_add_test(errors, unknown_names_are_refused);
    suite_add_tcase(s, errors);
    tcase_add_checked_fixture(layouts, tree_make, tree_remove);
    tcase_add_test(layouts, a_layout_stays_while_the_series_stay);
    tcase_add_test(layouts, a_new_series_makes_a_new_layout_and_keeps_old_ids);
    tcase_add_test(layouts, a_missing_series_is_absent_and_leaves_after_ten_rounds);
    tcase_add_test(layouts, series_over_the_limit_are_refused_and_counted);
    tcase_add_test(layouts, a_sample_that_was_spooled_outlives_its_layout);
    suite_add_tcase(s, layouts);
    tcase_add_test(host, a_host_has_facts_and_a_fingerprint);
    suite_add_tcase(s, host);
    add_machine_cases(s);
    add_nvme_cases(s);
    add_round_cases(s);
    add_service_cases(s);
    add_custom_cases(s);
    return s;
}
