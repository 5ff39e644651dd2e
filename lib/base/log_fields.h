// SPDX-License-Identifier: GPL-2.0-or-later
// What a thread is working at, for the log: fields that its messages have besides their text. A log
// that has fields, as systemd's journal, takes them from here. Knows no log.
#ifndef COWSNAP_BASE_LOG_FIELDS_H
#define COWSNAP_BASE_LOG_FIELDS_H

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace cowsnap {

/// Names of fields, as journalctl takes them: names of the user's, but for the UUID.
inline constexpr const char* kLogStore = "COWSNAP_STORE";
inline constexpr const char* kLogStoreUuid = "COWSNAP_STORE_UUID";
inline constexpr const char* kLogOrigin = "COWSNAP_ORIGIN";
inline constexpr const char* kLogSnapshot = "COWSNAP_SNAPSHOT";
/// Number, operation, and the user's id and the name on the bus of who asked for it.
inline constexpr const char* kLogJob = "COWSNAP_JOB";
inline constexpr const char* kLogOperation = "COWSNAP_OPERATION";
inline constexpr const char* kLogUserId = "COWSNAP_USER_ID";
inline constexpr const char* kLogSender = "COWSNAP_SENDER";

/// Messages of this thread have these fields until the object is destroyed.
class LogFields {
public:
    using Fields = std::vector<std::pair<std::string, std::string>>;

    explicit LogFields(Fields fields);
    ~LogFields();
    LogFields(const LogFields&) = delete;
    LogFields& operator=(const LogFields&) = delete;

    /// Those of this thread now, each once, outermost first.
    static Fields current();

private:
    std::size_t outer_;  ///< how many there were before
};

}  // namespace cowsnap

#endif
