// SPDX-License-Identifier: GPL-2.0-or-later
// From a method call on the bus to work for the engine: reads and checks the
// arguments. Knows the engine's operations, not how they are run or answered.
#ifndef COWSNAP_DAEMON_BUS_METHODS_H
#define COWSNAP_DAEMON_BUS_METHODS_H

#include <functional>
#include <optional>
#include <variant>
#include <vector>

#include "bus/message.h"
#include "model/engine.h"

namespace cowsnap {

/// What a method answers: one value, or a list of dictionaries.
using Answer = std::variant<Value, std::vector<Dictionary>>;

/// Runs in a turn at the engine; returns what the method answers, if anything.
using Work = std::function<std::optional<Answer>(Engine&)>;

/// What a call asks for.
struct Operation {
    /// Which stores it needs for itself.
    enum class About {
        Objects,        ///< those of its objects
        UnknownStores,  ///< one that it makes or opens
        AllStores,
        NoStore,  ///< none: it only looks
        Refresh,  ///< those that are free: all of them are to be read again, there is no work
    };
    About about = About::Objects;
    std::vector<ObjectPath> objects;
    Work work;
};

/// Whether a call changes nothing, so that everybody may make it, as everybody may read properties.
bool onlyReads(const Message& call);

/// The operation that a call asks for. Throws Error (InvalidArgument) for wrong arguments.
Operation readCall(Message& call);

}  // namespace cowsnap

#endif
