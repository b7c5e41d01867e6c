/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A protoc plugin: protoc-gen-c for files with proto3 `optional`.
 *
 * No release of protobuf-c says FEATURE_PROTO3_OPTIONAL, so protoc refuses such files. An optional
 * field is a one-member oneof on the wire and in the descriptor, and that is what protoc-gen-c
 * makes of it once the flag `proto3_optional` is gone: this plugin clears the flag, lets
 * protoc-gen-c work, and adds the feature to its answer. Files without `optional` pass unchanged.
 *
 * Exit code: 0, or 1 with the reason on stderr (protoc prints that the plugin failed).
 */

#include <fcntl.h>
#include <google/protobuf/compiler/plugin.pb.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#ifndef PROTOC_GEN_C
#error "PROTOC_GEN_C is the path of the real plugin"
#endif

extern char **environ;

namespace
{

using google::protobuf::DescriptorProto;
using google::protobuf::compiler::CodeGeneratorRequest;
using google::protobuf::compiler::CodeGeneratorResponse;

bool complain(const char *what, int error)
{
    if (error)
        std::fprintf(stderr, "protoc-gen-c-optional: %s: %s\n", what, std::strerror(error));
    else
        std::fprintf(stderr, "protoc-gen-c-optional: %s\n", what);
    return false;
}

/* Reads once. Returns false on an error; *is_end says that there is no more. */
bool read_some(int fd, std::string *to, bool *is_end)
{
    char chunk[65536];
    ssize_t n;

    do {
        n = read(fd, chunk, sizeof(chunk));
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return false;
    to->append(chunk, static_cast<size_t>(n));
    *is_end = n == 0;
    return true;
}

bool read_all(int fd, std::string *to)
{
    bool is_end = false;

    while (!is_end) {
        if (!read_some(fd, to, &is_end))
            return complain("cannot read the request", errno);
    }
    return true;
}

bool write_all(int fd, const std::string &from)
{
    size_t done = 0;

    while (done < from.size()) {
        ssize_t n = write(fd, from.data() + done, from.size() - done);
        if (n >= 0)
            done += static_cast<size_t>(n);
        else if (errno != EINTR)
            return complain("cannot write the response", errno);
    }
    return true;
}

/*
 * Feeds the child and drains it at the same time: either pipe may fill up while the other waits.
 * Closes to_child. A child that stops reading early is judged by its exit code, not here.
 */
bool converse(int to_child, int from_child, const std::string &input, std::string *output)
{
    size_t done = 0;
    bool is_end = false;

    if (input.empty()) {
        close(to_child);
        to_child = -1;
    }
    while (!is_end) {
        struct pollfd fds[2] = { { from_child, POLLIN, 0 }, { to_child, POLLOUT, 0 } };

        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return complain("cannot poll", errno);
        }
        if (fds[1].revents) {
            ssize_t n = write(to_child, input.data() + done, input.size() - done);
            if (n >= 0)
                done += static_cast<size_t>(n);
            else if (errno != EINTR && errno != EAGAIN && errno != EPIPE)
                return complain("cannot write to " PROTOC_GEN_C, errno);
            if (done == input.size() || (n < 0 && errno == EPIPE)) {
                close(to_child);
                to_child = -1; /* poll() passes over negative ones */
            }
        }
        if (fds[0].revents && !read_some(from_child, output, &is_end))
            return complain("cannot read from " PROTOC_GEN_C, errno);
    }
    if (to_child >= 0)
        close(to_child);
    return true;
}

bool spawn_child(int child_in, int child_out, pid_t *ret)
{
    char name[] = PROTOC_GEN_C;
    char *argv[] = { name, nullptr };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t broken_pipe;
    int r;

    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, child_in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, child_out, STDOUT_FILENO);
    posix_spawnattr_setsigdefault(&attributes, &broken_pipe); /* we ignore it; the child does not */
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn(ret, PROTOC_GEN_C, &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return r == 0 || complain("cannot start " PROTOC_GEN_C, r);
}

bool wait_for(pid_t child)
{
    int status;
    pid_t r;

    do {
        r = waitpid(child, &status, 0);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return complain("cannot wait for " PROTOC_GEN_C, errno);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFEXITED(status))
        std::fprintf(stderr, "protoc-gen-c-optional: %s exited with %d\n", PROTOC_GEN_C,
                     WEXITSTATUS(status));
    else
        std::fprintf(stderr, "protoc-gen-c-optional: %s died of signal %d\n", PROTOC_GEN_C,
                     WTERMSIG(status));
    return false;
}

bool run_protoc_gen_c(const std::string &input, std::string *output)
{
    int down[2], up[2];
    pid_t child;
    bool is_good;

    if (pipe2(down, O_CLOEXEC) < 0 || pipe2(up, O_CLOEXEC) < 0)
        return complain("cannot make a pipe", errno);
    if (!spawn_child(down[0], up[1], &child))
        return false;
    close(down[0]);
    close(up[1]);
    is_good = fcntl(down[1], F_SETFL, O_NONBLOCK) == 0 || complain("cannot set O_NONBLOCK", errno);
    is_good = is_good && converse(down[1], up[0], input, output);
    close(up[0]); /* after a failure this, or our exit, ends the child */
    return is_good && wait_for(child);
}

void clear_optional(DescriptorProto *message)
{
    for (auto &field : *message->mutable_field())
        field.clear_proto3_optional();
    for (auto &extension : *message->mutable_extension())
        extension.clear_proto3_optional();
    for (auto &nested : *message->mutable_nested_type())
        clear_optional(&nested);
}

bool generate()
{
    CodeGeneratorRequest request;
    CodeGeneratorResponse response;
    std::string in, out;

    if (!read_all(STDIN_FILENO, &in))
        return false;
    if (!request.ParseFromString(in))
        return complain("stdin is not a CodeGeneratorRequest; protoc starts this program", 0);
    for (auto &file : *request.mutable_proto_file()) {
        for (auto &message : *file.mutable_message_type())
            clear_optional(&message);
        for (auto &extension : *file.mutable_extension())
            extension.clear_proto3_optional();
    }
    if (!request.SerializeToString(&in))
        return complain("cannot serialize the request", 0);
    if (!run_protoc_gen_c(in, &out))
        return false;
    if (!response.ParseFromString(out))
        return complain("the answer of " PROTOC_GEN_C " is not a CodeGeneratorResponse", 0);
    if (!response.has_error() && response.file_size() == 0 && request.file_to_generate_size() > 0)
        return complain(PROTOC_GEN_C " made nothing", 0);
    response.set_supported_features(response.supported_features() |
                                    CodeGeneratorResponse::FEATURE_PROTO3_OPTIONAL);
    if (!response.SerializeToString(&out))
        return complain("cannot serialize the response", 0);
    return write_all(STDOUT_FILENO, out);
}

} // namespace

int main()
{
    std::signal(SIGPIPE, SIG_IGN);
    return generate() ? 0 : 1;
}
