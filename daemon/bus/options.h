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

inline constexpr const char* kRequestIdOption = "request-id";
inline constexpr const char* kBackgroundOption = "background";
inline constexpr const char* kDryRunOption = "dry_run";

/// Options that are the service's affair, not that of the methods.
struct CommonOptions {
    std::optional<std::string> request_id;
    bool background = false;
    bool dry_run = false;
};

class Options {
public:
    explicit Options(Message& call) : values_(call.readDictionary()) {
        values_.erase(kRequestIdOption);
        values_.erase(kBackgroundOption);
        dry_run_ = take<bool>(kDryRunOption).value_or(false);
    }

    /// For a method that has an answer of its own to a dry run.
    bool dryRun() const { return dry_run_; }

    /// The common options of a call. What is to be read of the call afterwards is as before.
    static CommonOptions commonOf(Message& call) {
        constexpr std::string_view options = "a{sv}";
        std::string types = call.signature();
        if (!types.ends_with(options))
            return {};
        types.resize(types.size() - options.size());
        call.skip(types);
        Options all;
        all.values_ = call.readDictionary();
        call.rewind();
        return {all.take<std::string>(kRequestIdOption),
                all.take<bool>(kBackgroundOption).value_or(false),
                all.take<bool>(kDryRunOption).value_or(false)};
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
    Options() = default;

    Dictionary values_;
    bool dry_run_ = false;
};

}  // namespace cowsnap

#endif
