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

/// Runs on the worker; returns what the method answers, if anything.
using Work = std::function<std::optional<Answer>(Engine&)>;

/// Whether a call changes nothing, so that everybody may make it, as everybody may read properties.
bool onlyReads(const Message& call);

/// The work that a call asks for. Throws Error (InvalidArgument) for wrong arguments.
Work readCall(Message& call);

}  // namespace cowsnap

#endif
