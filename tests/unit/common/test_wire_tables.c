/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "common/wire/wire.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "suite.h"

#define ARENA_BYTES ((size_t) 4 * 1024 * 1024)

START_TEST(methods_are_sorted_and_found)
{
    ck_assert_uint_gt(wire_n_methods, 40);
    for (size_t i = 0; i < wire_n_methods; i++) {
        const struct wire_method *m = &wire_methods[i];
        char path[256];

        if (i > 0)
            ck_assert_int_lt(strcmp(m[-1].path, m->path), 0);
        snprintf(path, sizeof(path), "/%s/%s", m->service, m->name);
        ck_assert_str_eq(m->path, path);
        ck_assert_ptr_eq(wire_find_method(path), m);
        ck_assert_int_ge(m->role, WIRE_ROLE_ANYONE);
        ck_assert_int_le(m->role, WIRE_ROLE_EXPORTER);
        ck_assert_uint_eq(m->request->magic, PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC);
        ck_assert_uint_eq(m->response->magic, PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC);
    }
    ck_assert_ptr_null(wire_find_method(""));
    ck_assert_ptr_null(wire_find_method("/sentinel.query.v1.QueryService"));
    ck_assert_ptr_null(wire_find_method("/sentinel.query.v1.QueryService/ListAgent"));
    ck_assert_ptr_null(wire_find_method("/zzz"));
}
END_TEST

static const struct {
    const char *path;
    const char *request, *response;
    bool client_streams, server_streams;
    enum wire_role role;
} methods[] = {
    { "/sentinel.query.v1.QueryService/ListAgents", "sentinel.query.v1.ListAgentsRequest",
      "sentinel.query.v1.ListAgentsResponse", false, false, WIRE_ROLE_VIEWER },
    { "/sentinel.query.v1.QueryService/TailLogs", "sentinel.query.v1.TailLogsRequest",
      "sentinel.query.v1.TailLogsResponse", false, true, WIRE_ROLE_VIEWER },
    { "/sentinel.telemetry.v1.TelemetryService/StreamMetrics",
      "sentinel.telemetry.v1.StreamMetricsRequest", "sentinel.telemetry.v1.StreamMetricsResponse",
      true, true, WIRE_ROLE_AGENT },
    { "/sentinel.telemetry.v1.TelemetryService/UploadInventory",
      "sentinel.telemetry.v1.UploadInventoryRequest",
      "sentinel.telemetry.v1.UploadInventoryResponse", true, false, WIRE_ROLE_AGENT },
    { "/sentinel.enrollment.v1.EnrollmentService/Enroll", "sentinel.enrollment.v1.EnrollRequest",
      "sentinel.enrollment.v1.EnrollResponse", false, false, WIRE_ROLE_ANYONE },
    { "/sentinel.admin.v1.AdminService/RotateCa", "sentinel.admin.v1.RotateCaRequest",
      "sentinel.admin.v1.RotateCaResponse", false, false, WIRE_ROLE_ADMIN },
    { "/sentinel.control.v1.ControlService/RunCommand", "sentinel.control.v1.RunCommandRequest",
      "sentinel.control.v1.RunCommandResponse", false, true, WIRE_ROLE_OPERATOR },
    { "/grpc.health.v1.Health/Watch", "grpc.health.v1.HealthCheckRequest",
      "grpc.health.v1.HealthCheckResponse", false, true, WIRE_ROLE_ANYONE },
    { "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      "grpc.reflection.v1alpha.ServerReflectionRequest",
      "grpc.reflection.v1alpha.ServerReflectionResponse", true, true, WIRE_ROLE_KNOWN },
};

START_TEST(methods_say_what_the_protos_say)
{
    const struct wire_method *m = wire_find_method(methods[_i].path);

    ck_assert_ptr_nonnull(m);
    ck_assert_str_eq(m->request->name, methods[_i].request);
    ck_assert_str_eq(m->response->name, methods[_i].response);
    ck_assert_int_eq(m->client_streams, methods[_i].client_streams);
    ck_assert_int_eq(m->server_streams, methods[_i].server_streams);
    ck_assert_int_eq(m->role, methods[_i].role);
}
END_TEST

START_TEST(files_are_descriptors_with_their_imports)
{
    ck_assert_uint_ge(wire_n_files, 15);
    for (size_t i = 0; i < wire_n_files; i++) {
        const struct wire_file *file = &wire_files[i];
        const Google__Protobuf__FileDescriptorProto *proto;
        CLEANUP(arena_deinit) struct arena arena;
        ProtobufCMessage *message;

        arena_init(&arena, ARENA_BYTES);
        ck_assert_ptr_eq(wire_find_file(file->name), file);
        ck_assert_int_eq(wire_unpack(&google__protobuf__file_descriptor_proto__descriptor,
                                     file->descriptor, &arena, &message, NULL),
                         WIRE_OK);
        proto = (const Google__Protobuf__FileDescriptorProto *) message;
        ck_assert_str_eq(proto->name, file->name);
        ck_assert_ptr_null(proto->source_code_info);
        ck_assert_uint_eq(proto->n_dependency, file->n_imports);
        for (size_t j = 0; j < file->n_imports; j++) {
            ck_assert_uint_lt(file->imports[j], wire_n_files);
            ck_assert_str_eq(wire_files[file->imports[j]].name, proto->dependency[j]);
        }
    }
    ck_assert_ptr_null(wire_find_file("sentinel/query/v1/query"));
}
END_TEST

static const struct {
    const char *name;
    const char *file; /* NULL: not found */
} symbols[] = {
    { "sentinel.query.v1.QueryService", "sentinel/query/v1/query.proto" },
    { "sentinel.query.v1.QueryService.ListAgents", "sentinel/query/v1/query.proto" },
    { "sentinel.telemetry.v1.MetricBatch", "sentinel/telemetry/v1/telemetry.proto" },
    { "sentinel.query.v1.AgentSelector.LabelsEntry", "sentinel/query/v1/query.proto" },
    { "grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc/health/v1/health.proto" },
    { "grpc.health.v1.HealthCheckResponse.SERVING", "grpc/health/v1/health.proto" },
    { "sentinel.options.v1.Role", "sentinel/options/v1/options.proto" },
    { "sentinel.options.v1.ROLE_ANYONE", "sentinel/options/v1/options.proto" },
    { "sentinel.telemetry.v1.MetricBatch.series", "sentinel/telemetry/v1/telemetry.proto" },
    { "sentinel.telemetry.v1.StreamMetricsRequest.message",
      "sentinel/telemetry/v1/telemetry.proto" },
    { "sentinel.options.v1.role", "sentinel/options/v1/options.proto" },
    { "google.rpc.BadRequest.FieldViolation", "google/rpc/error_details.proto" },
    { "google.protobuf.FieldDescriptorProto.TYPE_DOUBLE", "google/protobuf/descriptor.proto" },
    { "sentinel.options.v1.Role.ROLE_ANYONE", NULL },
    { "grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING", NULL },
    { "sentinel.query.v1", NULL },
    { ".sentinel.query.v1.QueryService", NULL },
    { "", NULL },
};

START_TEST(symbols_lead_to_their_file)
{
    const struct wire_file *file = wire_find_symbol(symbols[_i].name);

    if (!symbols[_i].file) {
        ck_assert_ptr_null(file);
        return;
    }
    ck_assert_ptr_nonnull(file);
    ck_assert_str_eq(file->name, symbols[_i].file);
}
END_TEST

START_TEST(extensions_are_found_by_type_and_number)
{
    int32_t numbers[4] = { 0 };
    const struct wire_file *file = wire_find_extension("google.protobuf.MethodOptions", 50817);

    ck_assert_ptr_nonnull(file);
    ck_assert_str_eq(file->name, "sentinel/options/v1/options.proto");
    ck_assert_ptr_null(wire_find_extension("google.protobuf.MethodOptions", 50816));
    ck_assert_ptr_null(wire_find_extension("google.protobuf.FieldOptions", 50817));
    ck_assert_uint_eq(wire_extension_numbers("google.protobuf.MethodOptions", numbers, 4), 1);
    ck_assert_int_eq(numbers[0], 50817);
    ck_assert_uint_eq(wire_extension_numbers("google.protobuf.MethodOptions", numbers, 0), 0);
    ck_assert_uint_eq(wire_extension_numbers("sentinel.query.v1.Agent", numbers, 4), 0);
}
END_TEST

#define ROWS(table) ((int) (sizeof(table) / sizeof((table)[0])))

Suite *suite(void)
{
    Suite *s = suite_create("common/wire/tables");
    TCase *tc;

    tc = tcase_create("methods");
    suite_add_tcase(s, tc);
    tcase_add_test(tc, methods_are_sorted_and_found);
    tcase_add_loop_test(tc, methods_say_what_the_protos_say, 0, ROWS(methods));

    tc = tcase_create("reflection");
    suite_add_tcase(s, tc);
    tcase_add_test(tc, files_are_descriptors_with_their_imports);
    tcase_add_loop_test(tc, symbols_lead_to_their_file, 0, ROWS(symbols));
    tcase_add_test(tc, extensions_are_found_by_type_and_number);
    return s;
}
