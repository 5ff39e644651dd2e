// SPDX-License-Identifier: GPL-2.0-or-later
// The a{sv} that ends every method call: typed access, and an error for what is
// left over.
#ifndef COWSNAP_DAEMON_BUS_OPTIONS_H
#define COWSNAP_DAEMON_BUS_OPTIONS_H

#include <optional>
#include <string>

#include "base/error.h"
#include "bus/message.h"

namespace cowsnap {

/// Every method has it; the service has looked at it before.
inline constexpr const char* kRequestIdOption = "request-id";

class Options {
public:
    explicit Options(Message& call) : values_(call.readDictionary()) {
        values_.erase(kRequestIdOption);
    }

    /// Takes an option out; nothing if it is not given. InvalidArgument if it has another type.
    template <typename Type>
    std::optional<Type> take(const std::string& name) {
        const auto found = values_.find(name);
        if (found == values_.end())
            return std::nullopt;
        const Type* const value = std::get_if<Type>(&found->second);
        if (value == nullptr)
            fail(ErrorKind::InvalidArgument, "the option \"{}\" has the type {}, expected {}", name,
                 signatureOf(found->second), signatureOf(Value(Type())));
        Type result = *value;
        values_.erase(found);
        return result;
    }

    /// InvalidArgument if an option is left that nobody took.
    void finish() const {
        if (!values_.empty())
            fail(ErrorKind::InvalidArgument, "the option \"{}\" is unknown to this method",
                 values_.begin()->first);
    }

private:
    Dictionary values_;
};

}  // namespace cowsnap

#endif
