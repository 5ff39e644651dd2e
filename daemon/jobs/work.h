// SPDX-License-Identifier: GPL-2.0-or-later
// Work for the engine, and what it gives. Knows neither calls nor queues.
#ifndef COWSNAP_DAEMON_JOBS_WORK_H
#define COWSNAP_DAEMON_JOBS_WORK_H

#include <functional>
#include <optional>
#include <variant>
#include <vector>

#include "bus/value.h"
#include "model/engine.h"

namespace cowsnap {

/// One value, or a list of dictionaries.
using Answer = std::variant<Value, std::vector<Dictionary>>;

/// Runs in a turn at the engine; returns what a method answers, if anything.
using Work = std::function<std::optional<Answer>(Engine&)>;

}  // namespace cowsnap

#endif
