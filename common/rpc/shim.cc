/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/shim.h"

#include <atomic>
#include <string>

#include <absl/base/log_severity.h>
#include <absl/log/globals.h>
#include <absl/log/internal/globals.h>
#include <absl/log/log_sink.h>
#include <absl/log/log_sink_registry.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>

/* Of core's own header src/core/lib/experiments/config.h, which is not installed. */
namespace grpc_core
{
void ForceEnableExperiment(absl::string_view experiment, bool enable);
}

namespace
{

class Catcher : public absl::LogSink
{
  public:
    void Send(const absl::LogEntry &entry) override
    {
        rpc_shim_log_fn *fn = fn_.load(std::memory_order_acquire);

        if (!fn)
            return;
        const std::string file(entry.source_basename());
        const std::string text(entry.text_message());
        fn(static_cast<rpc_shim_severity>(entry.log_severity()), file.c_str(), entry.source_line(),
           text.c_str());
    }

    std::atomic<rpc_shim_log_fn *> fn_{ nullptr };
};

} // namespace

void rpc_shim_catch_log(rpc_shim_log_fn *fn)
{
    /* Never destroyed: core's threads may log while the process ends. */
    static Catcher *catcher = nullptr;

    if (!catcher) {
        catcher = new Catcher;
        catcher->fn_.store(fn, std::memory_order_release);
        /* What absl::InitializeLog() does; the build of core leaves that one file out. Before it
         * all lines go to stderr. */
        absl::log_internal::SetTimeZone(absl::UTCTimeZone());
        absl::log_internal::SetInitialized();
        absl::AddLogSink(catcher);
    }
    catcher->fn_.store(fn, std::memory_order_release);
    /* Lines about failed handshakes are of severity info; stderr gets nothing of its own. */
    absl::SetMinLogLevel(absl::LogSeverityAtLeast::kInfo);
    absl::SetStderrThreshold(absl::LogSeverityAtLeast::kInfinity);
}

void rpc_shim_tune(void)
{
    static bool is_tuned = false;

    /* Core takes this only before its first start. */
    if (is_tuned)
        return;
    is_tuned = true;
    grpc_core::ForceEnableExperiment("use_call_event_engine_in_completion_queue", true);
}
