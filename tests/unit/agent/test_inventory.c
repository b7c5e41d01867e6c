/* SPDX-License-Identifier: Apache-2.0 */
#include "inventory_rig.h"

#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/inventory/inventory.h"
#include "agent/inventory/table.h"
#include "common/base/file.h"
#include "common/base/text.h"

/* ---- content and hash ---- */

START_TEST(rows_come_in_the_order_of_their_bytes_and_equal_content_has_one_hash)
{
    static const char *const texts[] = { "b:x:2:u\na:x:1:\nab:x:10:u,v\n",
                                         "ab:x:10:u,v\nb:x:2:u\na:x:1:\n" };
    uint8_t hashes[2][INVENTORY_HASH_BYTES];
    /* SHA-256 of what telemetry.proto says, made by another program. */
    static const char expected[] =
        "d7d49eee3ced2c88db2dfa6176746e42065599d9f3cf8f93e439b3d2c41e4aa7";
    char hex[2 * INVENTORY_HASH_BYTES + 1];

    for (size_t i = 0; i < 2; i++) {
        struct inventory_snapshot snapshot;

        put_file("etc/group", texts[i]);
        ck_assert_str_eq(rows_of("groups"), "1,a,;10,ab,u,v;2,b,u;");
        ck_assert_int_eq(
            inventory_read(&(struct inventory_options){ .root = root, .only = "groups" },
                           &snapshot),
            0);
        memcpy(hashes[i], snapshot.tables[0].sha256, sizeof(hashes[i]));
        inventory_snapshot_deinit(&snapshot);
    }
    ck_assert_mem_eq(hashes[0], hashes[1], sizeof(hashes[0]));
    ck_assert_str_eq(text_of_hex(hashes[0], sizeof(hashes[0]), hex), expected);
}
END_TEST

START_TEST(a_table_that_the_hub_has_comes_without_rows)
{
    struct inventory_known known = { .name = "groups" };
    struct inventory_options options = {
        .root = root, .only = "groups", .known = &known, .n_known = 1
    };
    struct inventory_snapshot snapshot;

    put_file("etc/group", "a:x:1:\n");
    ck_assert_int_eq(inventory_read(&options, &snapshot), 0);
    ck_assert(snapshot.tables[0].has_rows);
    memcpy(known.sha256, snapshot.tables[0].sha256, sizeof(known.sha256));
    inventory_snapshot_deinit(&snapshot);
    ck_assert_int_eq(inventory_read(&options, &snapshot), 0);
    ck_assert(!snapshot.tables[0].has_rows);
    ck_assert_uint_eq(snapshot.tables[0].n_rows, 1);
    inventory_snapshot_deinit(&snapshot);
}
END_TEST

START_TEST(a_table_that_cannot_be_read_keeps_what_the_hub_has)
{
    struct inventory_known known = { .name = "groups", .n_rows = 77, .sha256 = { 1, 2, 3 } };
    struct inventory_options options = {
        .root = root, .only = "groups", .known = &known, .n_known = 1
    };
    struct inventory_snapshot snapshot;
    char path[128];

    snprintf(path, sizeof(path), "%s/etc/group", root);
    put_file("etc/other", "");
    ck_assert_int_eq(mkdir(path, 0755), 0); /* reading a directory fails for everybody */
    ck_assert_int_eq(inventory_read(&options, &snapshot), 0);
    ck_assert(snapshot.tables[0].is_stale);
    ck_assert_mem_eq(snapshot.tables[0].sha256, known.sha256, sizeof(known.sha256));
    ck_assert_uint_eq(snapshot.tables[0].n_rows, 77);
    ck_assert_uint_eq(snapshot.n_stale, 1);
    ck_assert_ptr_nonnull(strstr(snapshot.tables[0].why, "etc/group"));
    inventory_snapshot_deinit(&snapshot);
}
END_TEST

/* The group of the socket's owner was another one at the last start. */
START_TEST(an_engine_that_may_not_be_asked_any_more_takes_nothing_away)
{
    const struct inventory_known known = { .name = "docker_containers", .n_rows = 7 };
    struct inventory_options options = { 0 };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const uid_t me = geteuid();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    put_file("run/other", "");
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/docker.sock", root);
    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    ck_assert_int_eq(chmod(address.sun_path, 0), 0);
    ck_assert_int_eq(chmod(root, 0755), 0);
    if (me == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    ck_assert_str_eq(rows_with(options, "docker_containers"), "none");
    ck_assert_str_eq(why_of(options, "docker_containers"), "");
    options.known = &known;
    options.n_known = 1;
    ck_assert_str_eq(rows_with(options, "docker_containers"), "");
    ck_assert_ptr_nonnull(strstr(why_of(options, "docker_containers"), "containers.conf"));
    ck_assert_int_eq(unlink(address.sun_path) == 0 || errno == EACCES, 1);
    ck_assert_int_eq(seteuid(me), 0);
    (void) unlink(address.sun_path);
    ck_assert_str_eq(rows_with(options, "docker_containers"), "none");
    close(fd);
}
END_TEST

static bool is_unwanted_soon(void *ctx)
{
    unsigned *n_asked = ctx;

    return ++*n_asked > 2;
}

START_TEST(an_engine_that_takes_nobody_does_not_hold_up_a_stop)
{
    unsigned n_asked = 0;
    const struct inventory_options options = { .is_unwanted = is_unwanted_soon,
                                               .ctx = &n_asked,
                                               .command_timeout_us = 2000000 };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), waiting[8] = { 0 };
    size_t n = 0;

    put_file("run/other", "");
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/docker.sock", root);
    ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 0), 0);
    do { /* until its queue is full */
        ck_assert_uint_lt(n, sizeof(waiting) / sizeof(waiting[0]));
        waiting[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    } while (connect(waiting[n++], (struct sockaddr *) &address, sizeof(address)) == 0);
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_ptr_nonnull(strstr(why_of(options, "docker_containers"), strerror(ECANCELED)));
    while (n > 0)
        close(waiting[--n]);
    close(listener);
}
END_TEST

START_TEST(what_the_hub_has_is_read_back_and_damage_is_nothing)
{
    struct inventory_known known[INVENTORY_MAX_TABLES] = {
        { .name = "groups", .sha256 = { 0, 0xff, 3 }, .n_rows = UINT64_MAX },
        { .name = "docker_containers" },
    };
    struct inventory_known back[INVENTORY_MAX_TABLES] = { 0 };
    CLEANUP(buf_deinit) struct buf file = { 0 };
    char path[128];

    snprintf(path, sizeof(path), "%s/known", root);
    ck_assert_uint_eq(inventory_known_load(path, back), 0);
    ck_assert_int_eq(inventory_known_save(path, known, 2), 0);
    ck_assert_uint_eq(inventory_known_load(path, back), 2);
    ck_assert_mem_eq(back, known, sizeof(known));
    ck_assert_int_eq(file_read(path, 1000, &file), 0);
    for (size_t len = 0; len < file.len; len += 13) {
        put_bytes("known", file.data, len);
        ck_assert_uint_eq(inventory_known_load(path, back), 0);
    }
    for (size_t i = 0; i < file.len; i += 13) {
        file.data[i] ^= 0x21;
        put_bytes("known", file.data, file.len);
        ck_assert_uint_eq(inventory_known_load(path, back), 0);
        file.data[i] ^= 0x21;
    }
    for (size_t i = 0; i < INVENTORY_MAX_TABLES; i++)
        memset(known[i].name, 'n', sizeof(known[i].name) - 1);
    ck_assert_int_eq(inventory_known_save(path, known, INVENTORY_MAX_TABLES), 0);
    ck_assert_uint_eq(inventory_known_load(path, back), INVENTORY_MAX_TABLES);
    ck_assert_mem_eq(back, known, sizeof(known));
    ck_assert_int_eq(inventory_known_save(path, known, 0), 0);
    ck_assert_uint_eq(inventory_known_load(path, back), 0);
}
END_TEST

START_TEST(more_rows_than_allowed_are_left_out_and_it_is_said)
{
    struct inventory_options options = { .root = root, .only = "groups", .max_rows = 2 };
    struct inventory_snapshot snapshot;

    put_file("etc/group", "a:x:1:\nb:x:2:\nc:x:3:\n");
    ck_assert_int_eq(inventory_read(&options, &snapshot), 0);
    ck_assert(snapshot.tables[0].is_cut);
    ck_assert_uint_eq(snapshot.tables[0].n_rows, 2);
    ck_assert_ptr_nonnull(strstr(snapshot.tables[0].why, "inventory.max_rows"));
    inventory_snapshot_deinit(&snapshot);
    ck_assert_str_eq(rows_with(options, "groups"), "1,a,;2,b,;");
}
END_TEST

START_TEST(what_is_not_utf8_becomes_the_replacement_character)
{
    put_file("etc/group", "a\xff\xc3:x:1:\n");
    ck_assert_str_eq(rows_of("groups"), "1,a\xef\xbf\xbd\xef\xbf\xbd,;");
}
END_TEST

/* The hub refuses an inventory with a longer value whole (inventory.value_size, 4 KiB). */
START_TEST(a_value_that_is_too_long_is_cut_and_it_is_said)
{
    const struct inventory_options options = { .root = root, .only = "groups" };
    struct inventory_snapshot snapshot;
    struct span value = { 0 };
    char text[6000];
    size_t at = 0;

    snprintf(text, sizeof(text), "a:x:1:%05900d\n", 7);
    memset(text + 6, '\xfc', 5900);
    put_file("etc/group", text);
    ck_assert_int_eq(inventory_read(&options, &snapshot), 0);
    for (int i = 0; i < 3; i++)
        ck_assert(inventory_next_value(&snapshot.tables[0], &at, &value));
    ck_assert_uint_le(value.len, 4096);
    ck_assert_uint_gt(value.len, 4080);
    ck_assert(text_is_utf8(value.data, value.len));
    ck_assert_int_eq(memcmp(value.data + value.len - 3, "\xe2\x80\xa6", 3), 0);
    ck_assert(snapshot.tables[0].is_cut);
    inventory_snapshot_deinit(&snapshot);
}
END_TEST

/* On the wire a value ends at its first. */
START_TEST(a_nul_in_a_value_is_no_end)
{
    struct inventory_table table = { .name = "x", .n_columns = 1 };
    struct table t = { .to = &table, .max_rows = 1, .max_bytes = 100 };
    struct span value;
    size_t at = 0;

    table_put_span(&t, span_of("a\0b", 3));
    table_end_row(&t);
    ck_assert(inventory_next_value(&table, &at, &value));
    ck_assert(span_equal(value, span_of_text("a\xef\xbf\xbd"
                                             "b")));
    buf_deinit(&table.values);
}
END_TEST

START_TEST(keys_in_a_file_that_is_too_long_do_not_hide)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    put_file("etc/passwd", "u:x:7:7::/home/u:/bin/sh\n");
    for (int i = 0; i < 200000; i++)
        buf_append_text(&text, "# comment\n");
    buf_append_text(&text, "ssh-ed25519 AAAA me\n");
    put_bytes("home/u/.ssh/authorized_keys", text.data, text.len);
    ck_assert_str_eq(rows_of("authorized_keys"),
                     "7,u,,,the file is too long to be read,,home/u/.ssh/authorized_keys;");
}
END_TEST

START_TEST(an_unknown_table_and_a_missing_root_are_outcomes)
{
    struct inventory_snapshot snapshot;

    ck_assert_int_eq(
        inventory_read(&(struct inventory_options){ .root = root, .only = "nothing" }, &snapshot),
        INVENTORY_UNKNOWN);
    ck_assert_int_eq(
        inventory_read(&(struct inventory_options){ .root = "/nowhere/at/all" }, &snapshot),
        INVENTORY_NO_ROOT);
}
END_TEST

START_TEST(all_tables_are_read_from_an_empty_machine)
{
    struct inventory_snapshot snapshot;
    size_t n;
    const struct inventory_kind *kinds = inventory_kinds(&n);
    const char *names[INVENTORY_MAX_TABLES];

    for (size_t i = 0; i < n; i++)
        names[i] = kinds[i].name;
    ck_assert_int_eq(
        inventory_read(&(struct inventory_options){ .root = root, .enable = names, .n_enable = n },
                       &snapshot),
        0);
    ck_assert_ptr_null(inventory_find(&snapshot, "deb_packages"));
    ck_assert_ptr_nonnull(inventory_find(&snapshot, "system_info"));
    inventory_snapshot_deinit(&snapshot);
}
END_TEST

/* ---- single tables ---- */

START_TEST(packages_of_dpkg_are_paragraphs)
{
    put_file("var/lib/dpkg/status",
             "Package: libc6\nStatus: install ok installed\nPriority: optional\nSection: libs\n"
             "Installed-Size: 13\nMaintainer: GNU <g@example.org>\nArchitecture: amd64\n"
             "Source: glibc\nVersion: 2.36-9\nDescription: GNU C Library\n Version: not a field\n"
             "\nPackage: vim\nVersion: 1\nStatus: deinstall ok config-files\n");
    ck_assert_str_eq(rows_of("deb_packages"),
                     "libc6,2.36-9,glibc,13312,amd64,install ok installed,GNU "
                     "<g@example.org>,libs,optional;"
                     "vim,1,,,,deinstall ok config-files,,,;");
}
END_TEST

START_TEST(packages_of_python_are_found_once_each)
{
    put_file("usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA",
             "Metadata-Version: 2.1\nName: six\nVersion: 1.16.0\nSummary: Two and three\n"
             "Author: B\nLicense: MIT\n\nName: not the head\n");
    put_file("usr/lib/python3/dist-packages/old-1.egg-info", "Name: old\nVersion: 1\n");
    put_file("usr/lib/python3/dist-packages/six.py", "");
    ck_assert_str_eq(rows_of("python_packages"),
                     "old,1,,,,/usr/lib/python3/dist-packages;"
                     "six,1.16.0,Two and three,B,MIT,/usr/lib/python3/dist-packages;");
}
END_TEST

START_TEST(jobs_of_cron_have_their_user)
{
    put_file("etc/crontab", "SHELL=/bin/sh\n# m h\n17 *\t* * *\troot  cd / && run-parts\n");
    put_file("etc/cron.d/backup", "@daily backup /usr/bin/backup --all\n");
    put_file("var/spool/cron/crontabs/anna", "*/5 1 2 3 4 date\nbroken 1 2\n");
    ck_assert_str_eq(rows_of("crontab"),
                     ",*/5,1,2,3,4,anna,date,/var/spool/cron/crontabs/anna;"
                     ",17,*,*,*,*,root,cd / && run-parts,/etc/crontab;"
                     "@daily,,,,,,backup,/usr/bin/backup --all,/etc/cron.d/backup;");
}
END_TEST

START_TEST(keys_that_may_log_in_have_their_options)
{
    put_file("etc/passwd", "anna:x:1000:1000:Anna:/home/anna:/bin/sh\n");
    put_file(
        "home/anna/.ssh/authorized_keys",
        "# mine\nssh-ed25519 AAAA anna@laptop\n"
        "from=\"10.0.0.1\",command=\"echo \\\"hi you\\\"\" ssh-rsa BBBB two words\nnonsense\n");
    ck_assert_str_eq(
        rows_of("authorized_keys"),
        "1000,anna,ssh-ed25519,AAAA,,anna@laptop,home/anna/.ssh/authorized_keys;"
        "1000,anna,ssh-rsa,BBBB,from=\"10.0.0.1\",command=\"echo \\\"hi you\\\"\",two words,home/"
        "anna/.ssh/authorized_keys;");
}
END_TEST

START_TEST(rules_of_sudo_follow_what_they_include)
{
    put_file("etc/sudoers", "# no\nDefaults env_reset, \\\n  mail_badpass\nroot ALL=(ALL:ALL) ALL\n"
                            "@includedir /etc/sudoers.d\n");
    put_file("etc/sudoers.d/web", "%web ALL=NOPASSWD: /bin/systemctl\n@include /etc/sudoers\n");
    put_file("etc/sudoers.d/README.txt", "nobody ALL=ALL\n");
    ck_assert_ptr_nonnull(
        strstr(rows_of("sudoers"), "/etc/sudoers.d/web,%web,ALL=NOPASSWD: /bin/systemctl;"));
    ck_assert_ptr_null(strstr(rows_of("sudoers"), "nobody"));
    ck_assert_ptr_nonnull(
        strstr(rows_of("sudoers"), "/etc/sudoers,Defaults,env_reset,   mail_badpass;"));
}
END_TEST

START_TEST(units_say_whether_they_are_enabled)
{
    put_file("lib/systemd/system/a.service", "[Unit]\nDescription=The A\n[Install]\nWantedBy=x\n");
    put_file("lib/systemd/system/b.service", "[Unit]\nDescription = B\n[Install]\n");
    put_file("lib/systemd/system/c.timer", "[Unit]\n");
    put_file("lib/systemd/system/d.service", "[Install]\n");
    put_link("etc/systemd/system/d.service", "/dev/null");
    put_link("etc/systemd/system/multi-user.target.wants/a.service",
             "/lib/systemd/system/a.service");
    ck_assert_str_eq(rows_of("systemd_units"),
                     "a.service,The A,enabled,/lib/systemd/system/a.service;"
                     "b.service,B,disabled,/lib/systemd/system/b.service;"
                     "c.timer,,static,/lib/systemd/system/c.timer;"
                     "d.service,,masked,/etc/systemd/system/d.service;");
}
END_TEST

START_TEST(ports_know_their_process)
{
    put_file(
        "proc/net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
        "timeout inode\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000     "
        "   0 4242 1\n"
        "   1: 0100007F:1F91 0200007F:0016 01 00000000:00000000 00:00000000 00000000  1000     "
        "   0 4243 1\n");
    put_file(
        "proc/net/udp6",
        "  sl  local_address                         remote_address                        st\n"
        "  1: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 "
        "00000000:00000000 00:00000000 00000000     0        0 77 2 0 0\n");
    put_file("proc/77/comm", "nginx\n");
    put_link("proc/77/fd/3", "socket:[4242]");
    ck_assert_str_eq(rows_of("listening_ports"),
                     "tcp,ipv4,127.0.0.1,8080,,1000,nginx;udp,ipv6,::,53,,0,;");
    ck_assert_str_eq(rows_of("process_open_sockets"),
                     ",,tcp,ipv4,127.0.0.1,8081,127.0.0.2,22,ESTABLISHED;"
                     ",,udp,ipv6,::,53,::,0,;"
                     "77,nginx,tcp,ipv4,127.0.0.1,8080,0.0.0.0,0,LISTEN;");
}
END_TEST

START_TEST(routes_are_read_of_both_families)
{
    put_file("proc/net/route",
             "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n"
             "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\n");
    put_file("proc/net/ipv6_route",
             "fd000000000000000000000000000000 08 00000000000000000000000000000000 00 "
             "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n");
    ck_assert_str_eq(rows_of("routes"), "0.0.0.0,0.0.0.0,192.168.0.1,eth0,3,100,ipv4;"
                                        "fd00::,8,::,eth0,1,256,ipv6;");
}
END_TEST

START_TEST(the_operating_system_is_unquoted)
{
    put_file("etc/os-release", "NAME=\"A \\\"B\\\" Linux\"\nVERSION_ID=\"12.5\"\nID=ab\n"
                               "VERSION='12 (x)'\nVERSION_CODENAME=x\n");
    ck_assert_ptr_eq(strstr(rows_of("os_version"), "A \"B\" Linux,12 (x),12,5,0,,ab,,x,"),
                     rows_of("os_version"));
}
END_TEST

START_TEST(partitions_have_their_disk)
{
    put_link("sys/class/block/sda", "../../devices/pci/block/sda");
    put_link("sys/class/block/sda1", "../../devices/pci/block/sda/sda1");
    put_file("sys/devices/pci/block/sda/size", "2000\n");
    put_file("sys/devices/pci/block/sda/device/model", "Disk  \n");
    put_file("sys/devices/pci/block/sda/queue/logical_block_size", "4096\n");
    put_file("sys/devices/pci/block/sda/sda1/size", "1000\n");
    ck_assert_str_eq(rows_of("block_devices"),
                     "/dev/sda,,,Disk,,1024000,4096,disk,0,0;"
                     "/dev/sda1,/dev/sda,,Disk,,512000,4096,partition,0,0;");
}
END_TEST

/* ---- the firmware's table ---- */

static const uint8_t module[] = {
    17,   0x22, 1,   0,                             /* type, length, handle */
    0,    0,    0,   0,   72,   0,    64,   0,      /* array, error, widths */
    0xff, 0x7f, 9,   0,   1,    2,    0x1a, 0,   0, /* size: see below; DIMM; texts 1, 2; DDR4 */
    0x80, 0x0c, 3,   4,   0,    5,    0,            /* 3200; maker 3, serial 4, no tag, part 5 */
    0,    0,    1,   0,   0x60, 0x09,               /* 65536 MiB, 2400 configured */
    'D',  'I',  'M', 'M', ' ',  '0',  0,    'B', 0, 'M', 0, 'S',
    0,    'P',  ' ', 0,   0,    127,  4,    2,   0, 0,   0,
};

START_TEST(memory_modules_come_out_of_the_table)
{
    put_bytes("sys/firmware/dmi/tables/DMI", module, sizeof(module));
    ck_assert_str_eq(rows_of("memory_devices"), "DIMM 0,B,M,S,P,,65536,2400,DIMM,DDR4,72,64;");
}
END_TEST

START_TEST(a_table_that_is_cut_off_anywhere_is_read_up_to_there)
{
    struct dmi_memory memory;

    for (size_t len = 0; len < sizeof(module); len++) {
        struct span rest = span_of(module, len);
        size_t n = 0;

        while (dmi_next_memory(&rest, &memory))
            n++;
        ck_assert_uint_eq(n, len >= sizeof(module) - 6 ? 1 : 0);
    }
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("agent/inventory");
    TCase *tcase = tcase_create("content");

    tcase_add_checked_fixture(tcase, make_root, remove_root);
    tcase_add_test(tcase, rows_come_in_the_order_of_their_bytes_and_equal_content_has_one_hash);
    tcase_add_test(tcase, a_table_that_the_hub_has_comes_without_rows);
    tcase_add_test(tcase, a_table_that_cannot_be_read_keeps_what_the_hub_has);
    tcase_add_test(tcase, an_engine_that_may_not_be_asked_any_more_takes_nothing_away);
    tcase_add_test(tcase, an_engine_that_takes_nobody_does_not_hold_up_a_stop);
    tcase_add_test(tcase, what_the_hub_has_is_read_back_and_damage_is_nothing);
    tcase_add_test(tcase, more_rows_than_allowed_are_left_out_and_it_is_said);
    tcase_add_test(tcase, what_is_not_utf8_becomes_the_replacement_character);
    tcase_add_test(tcase, a_value_that_is_too_long_is_cut_and_it_is_said);
    tcase_add_test(tcase, a_nul_in_a_value_is_no_end);
    tcase_add_test(tcase, keys_in_a_file_that_is_too_long_do_not_hide);
    tcase_add_test(tcase, an_unknown_table_and_a_missing_root_are_outcomes);
    tcase_add_test(tcase, all_tables_are_read_from_an_empty_machine);
    suite_add_tcase(s, tcase);
    tcase = tcase_create("tables");
    tcase_add_checked_fixture(tcase, make_root, remove_root);
    tcase_add_test(tcase, packages_of_dpkg_are_paragraphs);
    tcase_add_test(tcase, packages_of_python_are_found_once_each);
    tcase_add_test(tcase, jobs_of_cron_have_their_user);
    tcase_add_test(tcase, keys_that_may_log_in_have_their_options);
    tcase_add_test(tcase, rules_of_sudo_follow_what_they_include);
    tcase_add_test(tcase, units_say_whether_they_are_enabled);
    tcase_add_test(tcase, ports_know_their_process);
    tcase_add_test(tcase, routes_are_read_of_both_families);
    tcase_add_test(tcase, the_operating_system_is_unquoted);
    tcase_add_test(tcase, partitions_have_their_disk);
    tcase_add_test(tcase, memory_modules_come_out_of_the_table);
    tcase_add_test(tcase, a_table_that_is_cut_off_anywhere_is_read_up_to_there);
    suite_add_tcase(s, tcase);
    return s;
}
