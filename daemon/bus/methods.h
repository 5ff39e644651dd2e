// SPDX-License-Identifier: GPL-2.0-or-later
// From a method call on the bus to work for the engine: reads and checks the
// arguments. Knows the engine's operations, not how they are run or answered.
#ifndef COWSNAP_DAEMON_BUS_METHODS_H
#define COWSNAP_DAEMON_BUS_METHODS_H

#include <optional>
#include <string>
#include <vector>

#include "bus/message.h"
#include "jobs/work.h"

namespace cowsnap {

/// Kinds of job that others must know.
inline constexpr const char* kRollback = "rollback";
inline constexpr const char* kCancelRollback = "cancel-rollback";

/// What a call asks for.
struct Operation {
    /// Which stores it needs for itself.
    enum class About {
        Objects,        ///< those of its objects
        UnknownStores,  ///< one that it makes or opens
        AllStores,
        NoStore,  ///< none: it only looks
        // These are no work for the engine.
        Refresh,   ///< all stores that are free are to be read again
        ListJobs,  ///< those of the request with the id that subject has, or all
        ListSnapshots,
        GetMetrics,
        CancelJob,    ///< the one of its objects
        Reload,       ///< the configuration is to be read again
        SetLogLevel,  ///< to what subject says
    };
    About about = About::Objects;
    std::vector<ObjectPath> objects;
    Work work;
    std::string subject{};    ///< what it is about, if that is not its objects
    bool only_looks = false;  ///< it changes nothing, although others of its method do
    bool only_check = false;  ///< nothing is done once all is checked
    /// The kind of job that it is, such as "create"; empty: it is none.
    std::string job{};
    /// What a caller gets who does not wait for the job.
    std::optional<Answer> answer_at_once{};
};

/// The operation that a call asks for; with dry_run one that changes nothing. Throws Error
/// (InvalidArgument) for wrong arguments.
Operation readCall(Message& call, bool dry_run);

}  // namespace cowsnap

#endif
