/* SPDX-License-Identifier: Apache-2.0 */
/* Collectors of hardware and kernel tables, each on a tree that the test writes. */
#include "suite.h"

#include <stdio.h>
#include <sys/timex.h>
#include <unistd.h>

#include "collect_rig.h"

void add_machine_cases(Suite *s);

START_TEST(frequency_is_told_by_cpu_or_as_a_mean)
{
    struct collect_options options = rig_options(tree, "cpufreq");
    struct collect *collect = NULL;
    struct spool_scrape sample;

    tree_write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2000000\n");
    tree_write("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "3000000\n");
    EXPECT_ALL_OF(tree, "cpufreq", { "system.cpu.frequency{cpu.logical_number=0}", 2e9 },
                  { "system.cpu.frequency{cpu.logical_number=1}", 3e9 });
    options.numbers.per_cpu = false;
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "system.cpu.frequency", 2.5e9);
    collect_free(collect);
}
END_TEST

START_TEST(frequency_comes_from_cpuinfo_where_nothing_scales)
{
    tree_write("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2100.5\n\nprocessor\t: 1\n"
                               "cpu MHz\t\t: 2100.0\n");
    EXPECT_ALL_OF(tree, "cpufreq", { "system.cpu.frequency{cpu.logical_number=0}", 2100.5e6 },
                  { "system.cpu.frequency{cpu.logical_number=1}", 2100e6 });
}
END_TEST

#define HUGE "system.memory.linux.hugepages."

START_TEST(hugepages_are_told_with_their_size)
{
    struct collect *collect = new_collect(tree, "memory");
    struct spool_scrape sample;

    tree_write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nCached: 100 kB\n"
                               "Dirty: 8 kB\nHugePages_Total: 10\nHugePages_Free: 4\n"
                               "HugePages_Rsvd: 2\nHugePages_Surp: 1\nHugepagesize: 2048 kB\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, HUGE "limit", 10);
    expect(&sample, HUGE "reserved", 2);
    expect(&sample, HUGE "surplus", 1);
    expect(&sample, HUGE "page_size", 2097152);
    expect(&sample, HUGE "usage{system.memory.linux.hugepages.state=used}", 6);
    expect(&sample, HUGE "usage{system.memory.linux.hugepages.state=free}", 4);
    expect(&sample, HUGE "utilization{system.memory.linux.hugepages.state=used}", 0.6);
    expect(&sample, "system.linux.memory.dirty", 8192);
    collect_free(collect);
}
END_TEST

#define NODE(n) "sys/devices/system/node/node" n

START_TEST(numa_is_told_of_two_nodes_and_not_of_one)
{
    struct collect *collect = new_collect(tree, "numa");
    struct spool_scrape sample;

    tree_write(NODE("0/meminfo"), "Node 0 MemTotal: 1000 kB\nNode 0 MemFree: 250 kB\n");
    tree_write(NODE("0/numastat"), "numa_hit 5\nnuma_miss 6\nother_node 7\n");
    tree_write("sys/devices/system/node/possible", "0\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_uint_eq(sample.layout->n_series, 0);

    tree_write(NODE("1/meminfo"), "Node 1 MemTotal: 2000 kB\nNode 1 MemFree: 2000 kB\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "system.linux.numa.memory.limit{system.linux.numa.node=0}", 1024000);
    expect(&sample,
           "system.linux.numa.memory.usage{system.linux.numa.node=0,system.memory.state=used}",
           768000);
    expect(&sample,
           "system.linux.numa.memory.usage{system.linux.numa.node=1,system.memory.state=used}", 0);
    expect(&sample,
           "system.linux.numa.allocations{system.linux.numa.node=0,"
           "system.linux.numa.allocation.type=miss}",
           6);
    collect_free(collect);
}
END_TEST

#define STATE(state) \
    "system.network.connection.count{network.connection.state=" state ",network.transport=tcp}"
#define TCP_EVENT(event) "system.linux.tcp.events{system.linux.network.event=" event "}"

START_TEST(connections_are_counted_by_state_with_the_kernels_own_totals)
{
    struct collect *collect = new_collect(tree, "sockets");
    struct spool_scrape sample;

    tree_write("proc/net/sockstat", "sockets: used 290\n"
                                    "TCP: inuse 14 orphan 2 tw 250 alloc 20 mem 3\n"
                                    "UDP: inuse 3 mem 1\n");
    tree_write("proc/net/sockstat6", "TCP6: inuse 1\nUDP6: inuse 2\n");
    tree_write("proc/net/snmp", "Ip: Forwarding\nIp: 1\n"
                                "Tcp: MaxConn ActiveOpens RetransSegs CurrEstab\nTcp: -1 77 9 12\n"
                                "UdpLite: InErrors\nUdpLite: 4\nUdp: InErrors\nUdp: 5\n");
    tree_write("proc/net/netstat", "TcpExt: ListenOverflows Other\nTcpExt: 8 1\n");
    tree_write("proc/net/tcp", "  sl  local_address rem_address   st ...\n"
                               "   0: 0100007F:1F92 00000000:0000 0A 0\n"
                               "   1: 0100007F:1F93 0100007F:0001 01 0\n"
                               "   2: 0100007F:1F94 0100007F:0001 08 0\n"
                               "   3: 0100007F:1F95 0100007F:0001 06 0\n");
    tree_write("proc/net/tcp6", "  sl  local_address rem_address   st ...\n"
                                "   0: 00:1F92 00:0000 0A 0\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, STATE("established"), 11); /* CurrEstab without the one in close_wait */
    expect(&sample, STATE("close_wait"), 1);
    expect(&sample, STATE("time_wait"), 250);
    expect(&sample, STATE("listen"), 2);
    expect(&sample, STATE("syn_sent"), 0);
    expect(&sample, "system.network.connection.count{network.transport=udp}", 5);
    expect(&sample, "system.linux.socket.count", 290);
    expect(&sample, "system.linux.tcp.orphan.count", 2);
    expect(&sample, "system.linux.socket.memory{network.transport=tcp}",
           3.0 * (double) sysconf(_SC_PAGESIZE));
    expect(&sample, TCP_EVENT("active_open"), 77);
    expect(&sample, TCP_EVENT("retransmitted_segment"), 9);
    expect(&sample, TCP_EVENT("listen_overflow"), 8);
    expect(&sample, "system.linux.udp.events{system.linux.network.event=receive_error}", 5);
    collect_free(collect);
}
END_TEST

START_TEST(the_kernel_is_asked_for_the_states_that_are_few)
{
    struct collect *collect = new_collect("/", "sockets");
    struct spool_scrape sample;

    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_int_ge(find(&sample, STATE("listen")), 0);
    ck_assert_int_ge(find(&sample, STATE("established")), 0);
    collect_free(collect);
}
END_TEST

START_TEST(softnet_columns_are_hexadecimal)
{
    tree_write("proc/net/softnet_stat",
               "0000000a 00000002 00000001 0 0\n000000f0 00000000 00000003 0 0\n");
    EXPECT_ALL_OF(tree, "softnet", { "system.linux.softnet.processed", 250 },
                  { "system.linux.softnet.dropped", 2 }, { "system.linux.softnet.squeezed", 4 },
                  { "system.linux.softnet.processed{cpu.logical_number=0}", 10 },
                  { "system.linux.softnet.processed{cpu.logical_number=1}", 240 },
                  { "system.linux.softnet.dropped{cpu.logical_number=0}", 2 },
                  { "system.linux.softnet.dropped{cpu.logical_number=1}", 0 },
                  { "system.linux.softnet.squeezed{cpu.logical_number=0}", 1 },
                  { "system.linux.softnet.squeezed{cpu.logical_number=1}", 3 });
}
END_TEST

#define TRACKED(event) "system.linux.conntrack.events{system.linux.conntrack.event=" event "}"

START_TEST(conntrack_has_use_limit_and_what_failed)
{
    tree_write("proc/sys/net/netfilter/nf_conntrack_count", "17\n");
    tree_write("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
    tree_write("proc/net/stat/nf_conntrack", "entries invalid insert_failed drop early_drop\n"
                                             "00000011 00000001 00000002 0000000a 00000000\n"
                                             "00000011 00000001 00000000 00000001 00000000\n");
    EXPECT_ALL_OF(tree, "conntrack", { "system.linux.conntrack.count", 17 },
                  { "system.linux.conntrack.limit", 262144 }, { TRACKED("insert_failed"), 2 },
                  { TRACKED("drop"), 11 }, { TRACKED("early_drop"), 0 }, { TRACKED("invalid"), 2 });
}
END_TEST

START_TEST(the_clock_is_as_the_kernel_says)
{
    struct collect *collect = new_collect(tree, "clock");
    struct timex now = { 0 };
    struct spool_scrape sample;
    int state = adjtimex(&now);

    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "system.linux.clock.synchronized",
           state != TIME_ERROR && !(now.status & STA_UNSYNC));
    expect(&sample, "system.linux.clock.tai_offset", now.tai);
    ck_assert_uint_eq(sample.layout->n_series, 6);
    collect_free(collect);
}
END_TEST

START_TEST(entropy_is_in_bits)
{
    tree_write("proc/sys/kernel/random/entropy_avail", "200\n");
    tree_write("proc/sys/kernel/random/poolsize", "256\n");
    EXPECT_ALL_OF(tree, "entropy", { "system.linux.entropy.available", 200 },
                  { "system.linux.entropy.limit", 256 });
}
END_TEST

#define SENSOR(id, name, chip) "{hw.id=" id ",hw.name=" name ",hw.parent=" chip

START_TEST(sensors_have_labels_scales_and_limits)
{
    char link[128];

    tree_write("sys/devices/coretemp.0/x", "");
    tree_write("sys/class/hwmon/hwmon3/name", "coretemp\n");
    snprintf(link, sizeof(link), "%s/sys/class/hwmon/hwmon3/device", tree);
    ck_assert_int_eq(symlink("../../../devices/coretemp.0", link), 0);
    tree_write("sys/class/hwmon/hwmon3/temp1_input", "41500\n");
    tree_write("sys/class/hwmon/hwmon3/temp1_label", "Package id 0\n");
    tree_write("sys/class/hwmon/hwmon3/temp1_crit", "100000\n");
    tree_write("sys/class/hwmon/hwmon3/temp1_crit_alarm", "0\n");
    tree_write("sys/class/hwmon/hwmon4/name", "nct6775\n");
    tree_write("sys/class/hwmon/hwmon4/fan2_input", "1200\n");
    tree_write("sys/class/hwmon/hwmon4/in0_input", "1104\n");
    tree_write("sys/class/hwmon/hwmon4/power1_input", "15000000\n");
    EXPECT_ALL_OF(
        tree, "hwmon",
        { "hw.temperature" SENSOR("coretemp.0/temp1", "Package id 0", "coretemp") "}", 41.5 },
        { "hw.temperature.limit" SENSOR("coretemp.0/temp1", "Package id 0",
                                        "coretemp") ",hw.limit_type=high.critical}",
          100 },
        { "hw.fan.speed" SENSOR("nct6775/fan2", "fan2", "nct6775") "}", 1200 },
        { "hw.voltage" SENSOR("nct6775/in0", "in0", "nct6775") "}", 1104 * 1e-3 },
        { "hw.power" SENSOR("nct6775/power1", "power1", "nct6775") "}", 15000000 * 1e-6 });
}
END_TEST

START_TEST(thermal_zones_and_cooling_are_told)
{
    tree_write("sys/class/thermal/thermal_zone0/type", "acpitz\n");
    tree_write("sys/class/thermal/thermal_zone0/temp", "27800\n");
    tree_write("sys/class/thermal/cooling_device1/type", "Processor\n");
    tree_write("sys/class/thermal/cooling_device1/cur_state", "2\n");
    tree_write("sys/class/thermal/cooling_device1/max_state", "10\n");
    EXPECT_ALL_OF(
        tree, "thermal", { "hw.temperature{hw.id=thermal_zone0,hw.name=acpitz}", 27800 * 1e-3 },
        { "system.linux.cooling_device.state{hw.id=cooling_device1,hw.name=Processor}", 2 },
        { "system.linux.cooling_device.limit{hw.id=cooling_device1,hw.name=Processor}", 10 });
}
END_TEST

#define RAPL "sys/class/powercap/intel-rapl:0/"
#define PACKAGE "hw.energy{hw.id=intel-rapl:0,hw.name=package-0}"

START_TEST(energy_goes_on_when_its_counter_goes_round)
{
    struct collect *collect = new_collect(tree, "power");
    struct spool_scrape sample;

    tree_write(RAPL "name", "package-0\n");
    tree_write(RAPL "max_energy_range_uj", "10000000\n");
    tree_write(RAPL "energy_uj", "9000000\n");
    tree_write("sys/class/powercap/intel-rapl/enabled", "1\n");
    tree_write("sys/class/power_supply/BAT0/capacity", "87\n");
    tree_write("sys/class/power_supply/AC/online", "1\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, PACKAGE, 9);
    expect(&sample, "hw.battery.charge{hw.id=BAT0}", 0.87);
    expect(&sample, "system.linux.power_supply.online{hw.id=AC}", 1);
    tree_write(RAPL "energy_uj", "500000\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, PACKAGE, 10.5);
    ck_assert_uint_eq(sample.layout->n_series, 3);
    collect_free(collect);
}
END_TEST

#define MD(metric, rest) "system.linux.md." metric "{system.device=md0" rest "}"
#define MD_DISKS(state) MD("disk.count", ",system.linux.md.state=" state)

START_TEST(a_degraded_array_is_told_with_its_recovery)
{
    tree_write("proc/mdstat",
               "Personalities : [raid1] [raid0]\n"
               "md0 : active raid1 sdb1[1] sda1[0](F) sdc1[2](S)\n"
               "      104320 blocks super 1.2 [2/1] [U_]\n"
               "      [==>..................]  recovery = 12.5% (37/292) finish=127.5min\n"
               "\n"
               "md1 : inactive sdd1[0]\n"
               "      104320 blocks\n"
               "\nunused devices: <none>\n");
    EXPECT_ALL_OF(
        tree, "mdadm", { MD("active", ""), 1 }, { MD_DISKS("active"), 1 },
        { MD_DISKS("failed"), 1 }, { MD_DISKS("spare"), 1 }, { MD("disk.limit", ""), 2 },
        { MD("disk.missing", ""), 1 },
        { MD("sync.progress", ",system.linux.md.sync.action=recovery"), 0.125 },
        { "system.linux.md.active{system.device=md1}", 0 },
        { "system.linux.md.disk.count{system.device=md1,system.linux.md.state=active}", 1 },
        { "system.linux.md.disk.count{system.device=md1,system.linux.md.state=failed}", 0 },
        { "system.linux.md.disk.count{system.device=md1,system.linux.md.state=spare}", 0 });
}
END_TEST

#define DRIVE(state) \
    "hw.status{hw.id=nvme0,hw.name=Fast 1TB,hw.state=" state ",hw.type=physical_disk}"

START_TEST(a_drive_that_is_not_live_has_failed)
{
    tree_write("sys/class/nvme/nvme0/state", "live\n");
    tree_write("sys/class/nvme/nvme0/model", "Fast 1TB    \n");
    EXPECT_ALL_OF(tree, "nvme", { DRIVE("ok"), 1 }, { DRIVE("failed"), 0 });
    tree_write("sys/class/nvme/nvme0/state", "dead\n");
    EXPECT_ALL_OF(tree, "nvme", { DRIVE("ok"), 0 }, { DRIVE("failed"), 1 });
}
END_TEST

START_TEST(zfs_has_its_cache_and_its_pools)
{
    tree_write("proc/spl/kstat/zfs/arcstats",
               "13 1 0x01 96 26112 1 2\nname type data\n"
               "hits 4 100\nmisses 4 5\nc_max 4 4096\nsize 4 1024\n");
    tree_write("proc/spl/kstat/zfs/tank/state", "DEGRADED\n");
    EXPECT_ALL_OF(tree, "zfs", { "system.linux.zfs.arc.usage", 1024 },
                  { "system.linux.zfs.arc.limit", 4096 },
                  { "system.linux.zfs.arc.operations{system.linux.zfs.arc.result=hit}", 100 },
                  { "system.linux.zfs.arc.operations{system.linux.zfs.arc.result=miss}", 5 },
                  { "system.linux.zfs.pool.online{system.linux.zfs.pool=tank,"
                    "system.linux.zfs.pool.state=DEGRADED}",
                    0 });
}
END_TEST

#define BOND(state)                                                      \
    "system.linux.bonding.interface.count{network.interface.name=bond0," \
    "system.linux.bonding.state=" state "}"

START_TEST(a_bond_counts_interfaces_that_are_down)
{
    tree_write("sys/class/net/bonding_masters", "bond0\n");
    tree_write("sys/class/net/bond0/bonding/slaves", "eth0 eth1\n");
    tree_write("sys/class/net/bond0/lower_eth0/bonding_slave/mii_status", "up\n");
    tree_write("sys/class/net/bond0/lower_eth1/bonding_slave/mii_status", "down\n");
    EXPECT_ALL_OF(tree, "bonding",
                  { "system.linux.bonding.interface.limit{network.interface.name=bond0}", 2 },
                  { BOND("up"), 1 }, { BOND("down"), 1 });
}
END_TEST

#define LINK(metric) metric "{hw.id=eth0,network.interface.name=eth0}"

START_TEST(a_link_has_a_carrier_and_a_speed)
{
    struct collect *collect = new_collect(tree, "network");
    struct spool_scrape sample;

    tree_write("proc/net/dev", "Inter-| Receive\n face |bytes\n"
                               "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n");
    tree_write("sys/class/net/eth0/carrier_changes", "3\n");
    tree_write("sys/class/net/eth0/carrier", "1\n");
    tree_write("sys/class/net/eth0/speed", "10000\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, LINK("hw.network.up"), 1);
    expect(&sample, LINK("hw.network.bandwidth.limit"), 1.25e9);
    expect(&sample, "system.linux.network.carrier.changes{network.interface.name=eth0}", 3);
    tree_write("sys/class/net/eth0/carrier", "0\n");
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, LINK("hw.network.up"), 0);
    ck_assert(is_absent(&sample, LINK("hw.network.bandwidth.limit")));
    collect_free(collect);
}
END_TEST

/* ---- processes ---- */

static void write_process(const char *pid, const char *name, unsigned ticks, unsigned pages)
{
    char path[64], text[256];

    snprintf(path, sizeof(path), "proc/%s/stat", pid);
    snprintf(text, sizeof(text), "%s (%s) S 1 1 1 0 -1 0 0 0 0 0 %u 0 0 0 20 0 3 0 777 4096 %u 0\n",
             pid, name, ticks, pages);
    tree_write(path, text);
}

#define OF(metric, pid, name) metric "{process.pid=" pid ",process.executable.name=" name

START_TEST(processes_are_told_of_while_they_are_in_the_top)
{
    struct collect_options options = rig_options(tree, "processes");
    double hz = (double) sysconf(_SC_CLK_TCK), page = (double) sysconf(_SC_PAGESIZE);
    struct collect *collect = NULL;
    struct spool_scrape sample;

    options.numbers.n_top_processes = 1;
    write_process("10", "busy", 100, 1);
    write_process("11", "large) x", 1, 900);
    write_process("12", "idle", 0, 2);
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, OF("process.cpu.time", "10", "busy") ",cpu.mode=user}", 100 / hz);
    expect(&sample, OF("process.memory.usage", "11", "large) x") "}", 900 * page);
    expect(&sample, OF("process.thread.count", "11", "large) x") "}", 3);
    ck_assert_int_lt(find(&sample, OF("process.memory.usage", "12", "idle") "}"), 0);
    expect(&sample, "system.linux.thread.count", 9);

    /* Not who used most in its life, but since the last scan; scans are a share of the time apart.
     */
    write_process("12", "idle", 50, 2);
    do
        ck_assert_int_eq(collect_run(collect, &sample), 0);
    while (is_absent(&sample, OF("process.memory.usage", "12", "idle") "}"));
    ck_assert(is_absent(&sample, OF("process.memory.usage", "10", "busy") "}"));
    expect(&sample, OF("process.cpu.time", "12", "idle") ",cpu.mode=user}", 50 / hz);
    collect_free(collect);
}
END_TEST

START_TEST(a_process_of_the_top_stays_while_it_is_near)
{
    struct collect_options options = rig_options(tree, "processes");
    double hz = (double) sysconf(_SC_CLK_TCK);
    struct collect *collect = NULL;
    struct spool_scrape sample;

    options.numbers.n_top_processes = 1;
    write_process("10", "first", 100, 0);
    write_process("12", "second", 50, 0);
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    write_process("10", "first", 110, 0);
    write_process("12", "second", 90, 0);
    do
        ck_assert_int_eq(collect_run(collect, &sample), 0);
    while (sample.values[find(&sample, OF("process.cpu.time", "10", "first") ",cpu.mode=user}")] !=
           110 / hz);
    ck_assert_int_lt(find(&sample, OF("process.memory.usage", "12", "second") "}"), 0);
    collect_free(collect);
}
END_TEST

START_TEST(a_process_has_no_name_before_it_has_some_age)
{
    struct collect_options options = rig_options(tree, "processes");
    struct collect *collect = NULL;
    struct spool_scrape sample;
    char text[64];

    snprintf(text, sizeof(text), "%.2f 1\n", 777.0 / (double) sysconf(_SC_CLK_TCK) + 50);
    tree_write("proc/uptime", text);
    write_process("10", "young", 100, 7);
    options.numbers.top_min_age_us = 60000000;
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "system.linux.thread.count", 3);
    ck_assert_int_lt(find(&sample, OF("process.memory.usage", "10", "young") "}"), 0);
    collect_free(collect);

    options.numbers.top_min_age_us = 40000000;
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_int_ge(find(&sample, OF("process.memory.usage", "10", "young") "}"), 0);
    collect_free(collect);
}
END_TEST

void add_machine_cases(Suite *s)
{
    TCase *machine = tcase_create("machine");

    tcase_add_checked_fixture(machine, tree_make, tree_remove);
    tcase_add_test(machine, frequency_is_told_by_cpu_or_as_a_mean);
    tcase_add_test(machine, frequency_comes_from_cpuinfo_where_nothing_scales);
    tcase_add_test(machine, hugepages_are_told_with_their_size);
    tcase_add_test(machine, numa_is_told_of_two_nodes_and_not_of_one);
    tcase_add_test(machine, connections_are_counted_by_state_with_the_kernels_own_totals);
    tcase_add_test(machine, the_kernel_is_asked_for_the_states_that_are_few);
    tcase_add_test(machine, softnet_columns_are_hexadecimal);
    tcase_add_test(machine, conntrack_has_use_limit_and_what_failed);
    tcase_add_test(machine, the_clock_is_as_the_kernel_says);
    tcase_add_test(machine, entropy_is_in_bits);
    tcase_add_test(machine, sensors_have_labels_scales_and_limits);
    tcase_add_test(machine, thermal_zones_and_cooling_are_told);
    tcase_add_test(machine, energy_goes_on_when_its_counter_goes_round);
    tcase_add_test(machine, a_degraded_array_is_told_with_its_recovery);
    tcase_add_test(machine, a_drive_that_is_not_live_has_failed);
    tcase_add_test(machine, zfs_has_its_cache_and_its_pools);
    tcase_add_test(machine, a_bond_counts_interfaces_that_are_down);
    tcase_add_test(machine, a_link_has_a_carrier_and_a_speed);
    tcase_add_test(machine, processes_are_told_of_while_they_are_in_the_top);
    tcase_add_test(machine, a_process_of_the_top_stays_while_it_is_near);
    tcase_add_test(machine, a_process_has_no_name_before_it_has_some_age);
    suite_add_tcase(s, machine);
}
