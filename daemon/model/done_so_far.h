// SPDX-License-Identifier: GPL-2.0-or-later
// What an operation of several steps has done, for the error of the step that fails: nobody is to
// read that nothing happened when a part did. Knows no steps.
#ifndef COWSNAP_MODEL_DONE_SO_FAR_H
#define COWSNAP_MODEL_DONE_SO_FAR_H

#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"

namespace cowsnap {

/// The names of snapshots, "a, b and 7 more": an error is to be read, however many there are.
template <typename Records>
std::string namesOf(const Records& records) {
    constexpr std::size_t named = 10;
    std::vector<std::string> names;
    for (const auto& record : records) {
        if (names.size() == named)
            break;
        names.push_back(record.name);
    }
    const std::size_t others = records.size() - names.size();
    return fmt::format("{}{}", fmt::join(names, ", "),
                       others == 0 ? std::string() : fmt::format(" and {} more", others));
}

class DoneSoFar {
public:
    /// Such as "deleted of the store main: a, b".
    void add(std::string what) { done_.push_back(std::move(what)); }
    std::size_t size() const { return done_.size(); }

    /// Throws the error that ended it: as it is with nothing done, else as PartlyDone, with what
    /// was done before.
    [[noreturn]] void rethrow(const Error& error) const {
        if (done_.empty())
            throw error;
        fail(ErrorKind::PartlyDone, "{}; but then: {}", fmt::join(done_, "; "), error.what());
    }

private:
    std::vector<std::string> done_;
};

}  // namespace cowsnap

#endif
