/* SPDX-License-Identifier: Apache-2.0 */

/*
 * grpc.reflection.v1 and .v1alpha: the descriptors that are built in. Both versions have the same
 * messages, field for field, so the types of v1 serve both. An error is an answer here: the stream
 * stays open.
 */

#include "grpc/reflection/v1/reflection.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/front/inside.h"

#define MAX_EXTENSIONS 256

typedef Grpc__Reflection__V1__ServerReflectionRequest request_message;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_message;

struct reflection {
    struct front *front;
    struct front_watched watched;
    bool *is_sent;     /* beside wire_files: files need to be sent once in a stream */
    struct buf unsent; /* an answer that found the queue full */
};

static void say_error(struct arena *arena, response_message *to, int code, const char *message)
{
    Grpc__Reflection__V1__ErrorResponse *error = arena_alloc(arena, sizeof(*error));

    if (!error)
        return;
    grpc__reflection__v1__error_response__init(error);
    error->error_code = code;
    error->error_message = front_borrow(message);
    to->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    to->error_response = error;
}

/* The file itself, always, then what it needs and this stream does not have yet. */
static void say_file(struct reflection *reflection,
                     struct arena *arena,
                     const struct wire_file *file,
                     response_message *to)
{
    Grpc__Reflection__V1__FileDescriptorResponse *files = arena_alloc(arena, sizeof(*files));
    uint16_t *queue = arena_alloc_array(arena, wire_n_files, sizeof(*queue));
    bool *is_queued = arena_alloc_array(arena, wire_n_files, sizeof(*is_queued));
    size_t n = 0;

    if (!file) {
        say_error(arena, to, RPC_NOT_FOUND,
                  "no file, symbol or extension of that name is served here");
        return;
    }
    if (!files || !queue || !is_queued)
        return;
    grpc__reflection__v1__file_descriptor_response__init(files);
    files->file_descriptor_proto =
        arena_alloc_array(arena, wire_n_files, sizeof(*files->file_descriptor_proto));
    if (!files->file_descriptor_proto)
        return;
    queue[n++] = (uint16_t) (file - wire_files);
    is_queued[queue[0]] = true;
    for (size_t i = 0; i < n; i++) {
        const struct wire_file *next = &wire_files[queue[i]];

        files->file_descriptor_proto[i] = (ProtobufCBinaryData){
            .len = next->descriptor.len,
            .data = (uint8_t *) (uintptr_t) next->descriptor.data,
        };
        reflection->is_sent[queue[i]] = true;
        for (size_t k = 0; k < next->n_imports; k++) {
            if (is_queued[next->imports[k]] || reflection->is_sent[next->imports[k]])
                continue;
            is_queued[next->imports[k]] = true;
            queue[n++] = next->imports[k];
        }
    }
    files->n_file_descriptor_proto = n;
    to->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    to->file_descriptor_response = files;
}

static void
say_services(const struct reflection *reflection, struct arena *arena, response_message *to)
{
    Grpc__Reflection__V1__ListServiceResponse *list = arena_alloc(arena, sizeof(*list));
    Grpc__Reflection__V1__ServiceResponse *rows =
        arena_alloc_array(arena, wire_n_methods, sizeof(*rows));
    const char *last = "";

    if (!list || !rows)
        return;
    grpc__reflection__v1__list_service_response__init(list);
    list->service = arena_alloc_array(arena, wire_n_methods, sizeof(*list->service));
    if (!list->service)
        return;
    for (size_t i = 0; i < wire_n_methods; i++) {
        const char *service = wire_methods[i].service;
        Grpc__Reflection__V1__ServiceResponse *row = &rows[list->n_service];

        if (strcmp(service, last) == 0 || !front_handles_service(reflection->front, service))
            continue;
        last = service;
        grpc__reflection__v1__service_response__init(row);
        row->name = front_borrow(service);
        list->service[list->n_service++] = row;
    }
    to->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    to->list_services_response = list;
}

static void say_extensions(struct arena *arena, const char *type, response_message *to)
{
    Grpc__Reflection__V1__ExtensionNumberResponse *numbers = arena_alloc(arena, sizeof(*numbers));

    if (!wire_find_symbol(type)) {
        say_error(arena, to, RPC_NOT_FOUND, "no type of that name is served here");
        return;
    }
    if (!numbers)
        return;
    grpc__reflection__v1__extension_number_response__init(numbers);
    numbers->base_type_name = front_borrow(type);
    numbers->extension_number = arena_alloc_array(arena, MAX_EXTENSIONS, sizeof(int32_t));
    if (!numbers->extension_number)
        return;
    numbers->n_extension_number =
        wire_extension_numbers(type, numbers->extension_number, MAX_EXTENSIONS);
    if (numbers->n_extension_number > MAX_EXTENSIONS)
        numbers->n_extension_number = MAX_EXTENSIONS;
    to->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE;
    to->all_extension_numbers_response = numbers;
}

static void answer(struct reflection *reflection,
                   struct arena *arena,
                   request_message *request,
                   response_message *to)
{
    grpc__reflection__v1__server_reflection_response__init(to);
    to->valid_host = request->host;
    to->original_request = request;
    /* As an int: the generated enum has a member that only keeps its size. */
    switch ((int) request->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        say_file(reflection, arena, wire_find_file(request->file_by_filename), to);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        say_file(reflection, arena, wire_find_symbol(request->file_containing_symbol), to);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
        say_file(reflection, arena,
                 wire_find_extension(request->file_containing_extension->containing_type,
                                     request->file_containing_extension->extension_number),
                 to);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        say_extensions(arena, request->all_extension_numbers_of_type, to);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        say_services(reflection, arena, to);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__NOT_SET:
    default:
        say_error(arena, to, RPC_INVALID_ARGUMENT,
                  "the request asks for nothing that is known here");
        break;
    }
}

static void reflection_free(struct reflection *reflection)
{
    buf_deinit(&reflection->unsent);
    free(reflection->is_sent);
    free(reflection);
}

static void on_ended(struct front_watched *watched)
{
    reflection_free(container_of(watched, struct reflection, watched));
}

static void on_open(struct rpc_call *call)
{
    struct front_caller caller;
    struct reflection *reflection;

    if (!front_authorise(call, &caller))
        return;
    reflection = calloc(1, sizeof(*reflection));
    if (reflection)
        reflection->is_sent = calloc(wire_n_files, sizeof(*reflection->is_sent));
    if (!reflection || !reflection->is_sent) {
        free(reflection);
        front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a call"));
        return;
    }
    reflection->front = rpc_call_ctx(call);
    reflection->watched = (struct front_watched){
        .call = call, .caller = caller, .due = { INT64_MAX }, .ended = on_ended
    };
    rpc_call_set_state(call, reflection);
    front_watch_begin(reflection->front, &reflection->watched);
    rpc_call_read(call);
}

/* The next request is read only when this answer is on its way. */
static void send_answer(struct rpc_call *call, struct reflection *reflection)
{
    if (reflection->unsent.len == 0 ||
        rpc_call_send(call, buf_span(&reflection->unsent)) != RPC_DONE)
        return;
    buf_clear(&reflection->unsent);
    rpc_call_read(call);
}

static void on_message(struct rpc_call *call, struct span message)
{
    struct reflection *reflection = rpc_call_state(call);
    struct wire_problem problem = { 0 };
    struct front_detail detail = { 0 };
    ProtobufCMessage *request = NULL;
    response_message response;
    struct arena arena;
    int r;

    ensure(reflection->unsent.len == 0);
    arena_init(&arena,
               wire_arena_limit(0) + 16 * wire_n_methods * sizeof(void *) + wire_n_files * 64);
    r = wire_unpack(&grpc__reflection__v1__server_reflection_request__descriptor, message, &arena,
                    &request, &problem);
    if (r != WIRE_OK) {
        front_fail(call, front_failure_of_wire(r, &problem, &detail), &detail, r);
    } else {
        answer(reflection, &arena, (request_message *) request, &response);
        r = wire_pack(&response.base, &reflection->unsent);
        if (r < 0)
            front_fail(call, FAIL_FAULT, NULL, r);
        else if (arena.is_exhausted)
            front_fail(call, FAIL_TOO_BIG, NULL, 0);
        else
            send_answer(call, reflection);
    }
    arena_deinit(&arena);
}

static void on_half_close(struct rpc_call *call)
{
    if (rpc_call_state(call))
        front_finish_ok(call);
}

static void on_writable(struct rpc_call *call)
{
    send_answer(call, rpc_call_state(call));
}

static void on_drain(struct rpc_call *call)
{
    front_fail(call, FAIL_STOPPING, NULL, 0);
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct reflection *reflection = rpc_call_state(call);

    (void) was_cancelled;
    if (reflection)
        front_watch_end(&reflection->watched);
}

const struct rpc_handler svc_reflection = {
    .on_open = on_open,
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_writable = on_writable,
    .on_drain = on_drain,
    .on_closed = on_closed,
};
