/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/server/passive.h"

#include <unistd.h>

#include <memory>
#include <new>
#include <utility>

#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <grpc/event_engine/event_engine.h>
#include <grpc/event_engine/memory_allocator.h>
#include <grpc/passive_listener.h>

/*
 * What 1.85.1 has and does not install, word for word: the listener of chttp2_server.h, of which
 * only the size and the virtual functions matter here (core has their code and the destructor), and
 * the extension of supports_fd.h. tests/unit/common/test_rpc_accept.c would not get a byte through
 * if they differed.
 */
namespace grpc_core::experimental
{

class PassiveListenerImpl final : public PassiveListener
{
  public:
    PassiveListenerImpl() = default;
    ~PassiveListenerImpl() override;
    absl::Status AcceptConnectedEndpoint(
        std::unique_ptr<grpc_event_engine::experimental::EventEngine::Endpoint> endpoint) override;
    absl::Status AcceptConnectedFd(int fd) override;

  private:
    [[maybe_unused]] intptr_t mu_ = 0; /* absl::Mutex, unlocked */
    [[maybe_unused]] void *server_ = nullptr;
    [[maybe_unused]] void *listener_ = nullptr;
};

} // namespace grpc_core::experimental

namespace grpc_event_engine::experimental
{

class EventEngineSupportsFdExtension
{
  public:
    virtual ~EventEngineSupportsFdExtension() = default;
    virtual absl::StatusOr<std::unique_ptr<EventEngine::Endpoint>>
    CreatePosixEndpointFromFd(int fd,
                              const EndpointConfig &config,
                              MemoryAllocator memory_allocator) = 0;
    virtual absl::StatusOr<std::unique_ptr<EventEngine::Endpoint>>
    CreateEndpointFromFd(int fd, const EndpointConfig &config) = 0;
    virtual EventEngine::ConnectionHandle
    CreateEndpointFromUnconnectedFd(int fd,
                                    EventEngine::OnConnectCallback on_connect,
                                    const EventEngine::ResolvedAddress &addr,
                                    const EndpointConfig &config,
                                    MemoryAllocator memory_allocator,
                                    EventEngine::Duration timeout) = 0;
    using PosixAcceptCallback =
        absl::AnyInvocable<void(int listener_fd,
                                std::unique_ptr<EventEngine::Endpoint> endpoint,
                                bool is_external,
                                MemoryAllocator memory_allocator,
                                SliceBuffer *pending_data)>;
    virtual absl::StatusOr<std::unique_ptr<EventEngine::Listener>>
    CreatePosixListener(PosixAcceptCallback on_accept,
                        absl::AnyInvocable<void(absl::Status)> on_shutdown,
                        const EndpointConfig &config,
                        std::unique_ptr<MemoryAllocatorFactory> memory_allocator_factory) = 0;
};

} // namespace grpc_event_engine::experimental

namespace
{

using grpc_core::experimental::PassiveListenerImpl;
using grpc_event_engine::experimental::EndpointConfig;
using grpc_event_engine::experimental::EventEngine;
using grpc_event_engine::experimental::EventEngineSupportsFdExtension;
using grpc_event_engine::experimental::MemoryAllocator;
using grpc_event_engine::experimental::MemoryAllocatorFactory;
using grpc_event_engine::experimental::SliceBuffer;

constexpr absl::string_view kSupportsFd = "io.grpc.event_engine.extension.event_engine_supports_fd";
/* Of channel_args.h. */
constexpr const char *kEngineArg = "grpc.experimental.event_engine";

/* A reference to a handshake. */
class Handshake
{
  public:
    explicit Handshake(rpc_handshake *take) : it_(take)
    {
    }
    Handshake(const Handshake &other) : it_(other.it_)
    {
        if (it_)
            it_->events->ref(it_);
    }
    Handshake(Handshake &&other) noexcept : it_(std::exchange(other.it_, nullptr))
    {
    }
    Handshake &operator=(const Handshake &) = delete;
    Handshake &operator=(Handshake &&) = delete;
    ~Handshake()
    {
        if (it_)
            it_->events->unref(it_);
    }
    rpc_handshake *get() const
    {
        return it_;
    }
    bool is_over() const
    {
        return rpc_handshake_is_over(it_);
    }

  private:
    rpc_handshake *it_;
};

/* What runs inside speaks of this handshake. */
class Scope
{
  public:
    explicit Scope(const Handshake &handshake) : before_(rpc_handshake_enter(handshake.get()))
    {
    }
    Scope(const Scope &) = delete;
    Scope &operator=(const Scope &) = delete;
    ~Scope()
    {
        (void) rpc_handshake_enter(before_);
    }

  private:
    rpc_handshake *before_;
};

class Endpoint : public EventEngine::Endpoint
{
  public:
    Endpoint(std::unique_ptr<EventEngine::Endpoint> core,
             Handshake handshake,
             const EventEngine::ResolvedAddress &peer)
        : core_(std::move(core)), handshake_(std::move(handshake)), peer_(peer)
    {
    }
    ~Endpoint() override
    {
        /* First, while the socket still is this connection's. */
        handshake_.get()->events->on_gone(handshake_.get());
        core_.reset();
    }
    bool Read(absl::AnyInvocable<void(absl::Status)> on_read,
              SliceBuffer *buffer,
              ReadArgs args) override
    {
        if (handshake_.is_over())
            return core_->Read(std::move(on_read), buffer, args);
        return core_->Read(
            [handshake = handshake_, fn = std::move(on_read)](absl::Status status) mutable {
                Scope scope(handshake);
                if (!status.ok())
                    handshake.get()->events->on_broken(handshake.get());
                fn(std::move(status));
            },
            buffer, args);
    }
    bool Write(absl::AnyInvocable<void(absl::Status)> on_writable,
               SliceBuffer *data,
               WriteArgs args) override
    {
        if (handshake_.is_over())
            return core_->Write(std::move(on_writable), data, std::move(args));
        return core_->Write(
            [handshake = handshake_, fn = std::move(on_writable)](absl::Status status) mutable {
                Scope scope(handshake);
                fn(std::move(status));
            },
            data, std::move(args));
    }
    const EventEngine::ResolvedAddress &GetPeerAddress() const override
    {
        return peer_;
    }
    const EventEngine::ResolvedAddress &GetLocalAddress() const override
    {
        return core_->GetLocalAddress();
    }
    std::shared_ptr<TelemetryInfo> GetTelemetryInfo() const override
    {
        return core_->GetTelemetryInfo();
    }
    void *QueryExtension(absl::string_view id) override
    {
        return core_->QueryExtension(id);
    }

  private:
    std::unique_ptr<EventEngine::Endpoint> core_;
    Handshake handshake_;
    const EventEngine::ResolvedAddress peer_;
};

/* On its way from rpc_passive_take() to CreateEndpointFromFd(), which core calls in between. */
struct Arrival {
    const Handshake *handshake;
    const EventEngine::ResolvedAddress *peer;
    bool is_taken;
};
thread_local Arrival *arrival;

class Engine final : public EventEngine, public EventEngineSupportsFdExtension
{
  public:
    explicit Engine(std::shared_ptr<EventEngine> core)
        : core_(std::move(core)),
          fd_(static_cast<EventEngineSupportsFdExtension *>(core_->QueryExtension(kSupportsFd)))
    {
    }
    bool is_fit() const
    {
        return fd_ != nullptr;
    }

    /* ---- EventEngine ---- */

    absl::StatusOr<std::unique_ptr<Listener>>
    CreateListener(Listener::AcceptCallback on_accept,
                   absl::AnyInvocable<void(absl::Status)> on_shutdown,
                   const EndpointConfig &config,
                   std::unique_ptr<MemoryAllocatorFactory> memory_allocator_factory) override
    {
        return core_->CreateListener(std::move(on_accept), std::move(on_shutdown), config,
                                     std::move(memory_allocator_factory));
    }
    ConnectionHandle Connect(OnConnectCallback on_connect,
                             const ResolvedAddress &addr,
                             const EndpointConfig &args,
                             MemoryAllocator memory_allocator,
                             Duration timeout) override
    {
        return core_->Connect(std::move(on_connect), addr, args, std::move(memory_allocator),
                              timeout);
    }
    bool CancelConnect(ConnectionHandle handle) override
    {
        return core_->CancelConnect(handle);
    }
    bool IsWorkerThread() override
    {
        return core_->IsWorkerThread();
    }
    absl::StatusOr<std::unique_ptr<DNSResolver>>
    GetDNSResolver(const DNSResolver::ResolverOptions &options) override
    {
        return core_->GetDNSResolver(options);
    }
    void Run(Closure *closure) override
    {
        if (rpc_handshake_now())
            Run([closure] { closure->Run(); });
        else
            core_->Run(closure);
    }
    void Run(absl::AnyInvocable<void()> closure) override
    {
        rpc_handshake *now = rpc_handshake_now();

        if (!now || rpc_handshake_is_over(now)) {
            core_->Run(std::move(closure));
            return;
        }
        now->events->ref(now);
        core_->Run([handshake = Handshake(now), closure = std::move(closure)]() mutable {
            Scope scope(handshake);
            closure();
            closure = nullptr; /* what it holds goes within the scope */
        });
    }
    TaskHandle RunAfter(Duration when, Closure *closure) override
    {
        return core_->RunAfter(when, closure);
    }
    TaskHandle RunAfter(Duration when, absl::AnyInvocable<void()> closure) override
    {
        return core_->RunAfter(when, std::move(closure));
    }
    bool Cancel(TaskHandle handle) override
    {
        return core_->Cancel(handle);
    }
    void *QueryExtension(absl::string_view id) override
    {
        if (id == kSupportsFd)
            return static_cast<EventEngineSupportsFdExtension *>(this);
        return core_->QueryExtension(id);
    }

    /* ---- EventEngineSupportsFdExtension ---- */

    absl::StatusOr<std::unique_ptr<EventEngine::Endpoint>>
    CreatePosixEndpointFromFd(int fd,
                              const EndpointConfig &config,
                              MemoryAllocator memory_allocator) override
    {
        return fd_->CreatePosixEndpointFromFd(fd, config, std::move(memory_allocator));
    }
    absl::StatusOr<std::unique_ptr<EventEngine::Endpoint>>
    CreateEndpointFromFd(int fd, const EndpointConfig &config) override
    {
        auto made = fd_->CreateEndpointFromFd(fd, config);

        if (!made.ok() || !arrival)
            return made;
        arrival->is_taken = true;
        return std::make_unique<::Endpoint>(std::move(made).value(), *arrival->handshake,
                                            *arrival->peer);
    }
    ConnectionHandle CreateEndpointFromUnconnectedFd(int fd,
                                                     OnConnectCallback on_connect,
                                                     const ResolvedAddress &addr,
                                                     const EndpointConfig &config,
                                                     MemoryAllocator memory_allocator,
                                                     Duration timeout) override
    {
        return fd_->CreateEndpointFromUnconnectedFd(fd, std::move(on_connect), addr, config,
                                                    std::move(memory_allocator), timeout);
    }
    absl::StatusOr<std::unique_ptr<Listener>>
    CreatePosixListener(PosixAcceptCallback on_accept,
                        absl::AnyInvocable<void(absl::Status)> on_shutdown,
                        const EndpointConfig &config,
                        std::unique_ptr<MemoryAllocatorFactory> memory_allocator_factory) override
    {
        return fd_->CreatePosixListener(std::move(on_accept), std::move(on_shutdown), config,
                                        std::move(memory_allocator_factory));
    }

  private:
    std::shared_ptr<EventEngine> core_;
    EventEngineSupportsFdExtension *fd_;
};

/* On a thread of core. */
void accept(PassiveListenerImpl *listener,
            int take_fd,
            const Handshake &handshake,
            const EventEngine::ResolvedAddress &peer)
{
    Scope scope(handshake);
    Arrival here = { &handshake, &peer, false };
    Arrival *before = std::exchange(arrival, &here);
    absl::Status status = listener->AcceptConnectedFd(take_fd);

    arrival = before;
    /* An endpoint that was made has taken the socket, also where nobody wanted it any more. */
    if (!here.is_taken) {
        handshake.get()->events->on_gone(handshake.get());
        close(take_fd);
    }
}

/* What ChannelArgs does with a shared pointer. */
void *copy_engine(void *engine)
{
    return new std::shared_ptr<EventEngine>(*static_cast<std::shared_ptr<EventEngine> *>(engine));
}

void destroy_engine(void *engine)
{
    delete static_cast<std::shared_ptr<EventEngine> *>(engine);
}

int compare_engines(void *a, void *b)
{
    auto *left = static_cast<std::shared_ptr<EventEngine> *>(a)->get();
    auto *right = static_cast<std::shared_ptr<EventEngine> *>(b)->get();

    return left < right ? -1 : left > right;
}

const grpc_arg_pointer_vtable engine_vtable = { copy_engine, destroy_engine, compare_engines };

} // namespace

struct rpc_passive {
    std::shared_ptr<EventEngine> engine;
    std::shared_ptr<PassiveListenerImpl> listener;
};

struct rpc_passive *rpc_passive_new(void)
{
    auto engine =
        std::make_shared<Engine>(grpc_event_engine::experimental::GetDefaultEventEngine());

    if (!engine->is_fit())
        return nullptr;
    return new (std::nothrow) rpc_passive{ std::move(engine), std::shared_ptr<PassiveListenerImpl>(
                                                                  new PassiveListenerImpl) };
}

grpc_arg rpc_passive_arg(struct rpc_passive *passive)
{
    grpc_arg arg;

    arg.type = GRPC_ARG_POINTER;
    arg.key = const_cast<char *>(kEngineArg);
    arg.value.pointer.p = &passive->engine;
    arg.value.pointer.vtable = &engine_vtable;
    return arg;
}

bool rpc_passive_bind(struct rpc_passive *passive,
                      grpc_server *server,
                      grpc_server_credentials *credentials)
{
    return grpc_server_add_passive_listener(reinterpret_cast<grpc_core::Server *>(server),
                                            credentials, passive->listener)
        .ok();
}

void rpc_passive_take(struct rpc_passive *passive,
                      int take_fd,
                      const struct sockaddr *peer,
                      socklen_t peer_len,
                      struct rpc_handshake *take_handshake)
{
    passive->engine->Run([listener = passive->listener, take_fd,
                          handshake = Handshake(take_handshake),
                          address = EventEngine::ResolvedAddress(peer, peer_len)] {
        accept(listener.get(), take_fd, handshake, address);
    });
}

struct rpc_passive *rpc_passive_free(struct rpc_passive *passive)
{
    delete passive;
    return nullptr;
}
