// SPDX-License-Identifier: GPL-2.0-or-later
// Random calls of the daemon on a private bus: right ones, wrong ones, and what is hardly a call at
// all. All choices come from one seed. Meanwhile and afterwards the daemon must answer, and what it
// says of itself must agree.
#ifndef COWSNAP_TESTS_CALL_FUZZER_H
#define COWSNAP_TESTS_CALL_FUZZER_H

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace cowsnap::test {

struct FuzzFigures {
    std::uint64_t calls = 0;                      ///< messages sent
    std::uint64_t succeeded = 0;                  ///< calls that were answered
    std::map<std::string, std::uint64_t> errors;  ///< those that were refused, by name
    std::uint64_t unheard = 0;                    ///< nobody waited for an answer
    std::uint64_t unmakeable = 0;  ///< sd-bus does not let anybody make such a message
    std::uint64_t hung_up = 0;     ///< connections that the bus closed because of what they sent
    std::uint64_t checks = 0;      ///< how often all was compared
    std::uint64_t most_snapshots = 0;
};

class CallFuzzer {
public:
    explicit CallFuzzer(std::uint64_t seed);
    ~CallFuzzer();
    CallFuzzer(const CallFuzzer&) = delete;
    CallFuzzer& operator=(const CallFuzzer&) = delete;

    /// Throws std::runtime_error with what is wrong, as soon as something is.
    FuzzFigures run(std::uint64_t calls);

private:
    class World;
    std::unique_ptr<World> world_;
};

}  // namespace cowsnap::test

#endif
