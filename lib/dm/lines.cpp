// SPDX-License-Identifier: GPL-2.0-or-later
// Parsers and writers of the device-mapper grammar. No state, no I/O.
#include "dm/lines.h"

#include <charconv>
#include <tuple>

#include "base/error.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace {

/// Takes one word after the other from a line and says what is wrong with it.
class Words {
public:
    Words(std::string_view what, std::string_view line) : what_(what), line_(line), rest_(line) {
        while (!rest_.empty() && rest_.back() == ' ')
            rest_.remove_suffix(1);
    }

    bool more() const { return !rest_.empty(); }

    std::string_view word(std::string_view name) {
        if (rest_.empty())
            bad(name, "is missing");
        const auto end = rest_.find(' ');
        const std::string_view result = rest_.substr(0, end);
        if (result.empty())
            bad(name, "is empty");
        rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
        return result;
    }

    std::uint64_t number(std::string_view name) { return toNumber(name, word(name)); }

    std::uint32_t id(std::string_view name) {
        const std::uint64_t value = number(name);
        if (value == 0 || value > COWSNAP_ID_MAX)
            bad(name, "is out of range");
        return static_cast<std::uint32_t>(value);
    }

    /// An id, or 0 for none.
    std::uint32_t idOrNone(std::string_view name) {
        const std::uint64_t value = number(name);
        if (value > COWSNAP_ID_MAX)
            bad(name, "is out of range");
        return static_cast<std::uint32_t>(value);
    }

    bool flag(std::string_view name) {
        const std::string_view text = word(name);
        if (text != "0" && text != "1")
            bad(name, "is neither 0 nor 1");
        return text == "1";
    }

    std::string oneOf(std::string_view name, std::initializer_list<std::string_view> allowed) {
        const std::string_view text = word(name);
        for (const auto candidate : allowed)
            if (candidate == text)
                return std::string(text);
        bad(name, "has an unknown value");
    }

    /// "<part>/<whole>"
    std::pair<std::uint64_t, std::uint64_t> fraction(std::string_view name) {
        const std::string_view text = word(name);
        const auto slash = text.find('/');
        if (slash == std::string_view::npos)
            bad(name, "is not <part>/<whole>");
        const std::uint64_t part = toNumber(name, text.substr(0, slash));
        const std::uint64_t whole = toNumber(name, text.substr(slash + 1));
        if (part > whole)
            bad(name, "is more than there is");
        return {part, whole};
    }

    void end() const {
        if (more())
            bad("end", "has more words in front of it");
    }

    std::uint64_t toNumber(std::string_view name, std::string_view text) const {
        std::uint64_t value = 0;
        const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (code == std::errc::result_out_of_range)
            bad(name, "is too large a number");
        if (code != std::errc() || stop != text.data() + text.size())
            bad(name, "is not a number");
        return value;
    }

    [[noreturn]] void bad(std::string_view name, std::string_view why) const {
        fail(ErrorKind::Failed, "cannot understand the {} \"{}\" of the kernel module: its {} {}",
             what_, line_, name, why);
    }

private:
    std::string_view what_;
    std::string_view line_;
    std::string_view rest_;
};

/// Calls parse with the Words of each line of answer.
template <typename Line, typename Parse>
std::vector<Line> parseAnswer(std::string_view what, std::string_view answer, Parse parse) {
    std::vector<Line> lines;
    while (!answer.empty()) {
        const auto end = answer.find('\n');
        const std::string_view text = answer.substr(0, end);
        answer = end == std::string_view::npos ? std::string_view() : answer.substr(end + 1);
        if (text.empty())
            continue;
        Words words(what, text);
        lines.push_back(parse(words));
        words.end();
    }
    return lines;
}

/// Reads "[<#features> <feature>...]"; feature is called with each feature's name
/// and takes what belongs to it from words.
template <typename Feature>
void parseFeatures(Words& words, Feature feature) {
    if (!words.more())
        return;
    const std::uint64_t count = words.number("number of features");
    std::uint64_t seen = 0;
    const auto take = [&](std::string_view name) {
        ++seen;
        return words.word(name);
    };
    while (seen < count)
        feature(take("feature"), take);
    if (seen != count)
        words.bad("number of features", "does not match the features");
    words.end();
}

std::string snapshotState(Words& words) {
    return words.oneOf("state", {COWSNAP_STATE_ACTIVE, COWSNAP_STATE_DAMAGED, COWSNAP_STATE_STALE,
                                 COWSNAP_STATE_LOST});
}

}  // namespace

StoreStatus parseStoreStatus(std::string_view line) {
    Words words("status of a cow-store", line);
    StoreStatus status;
    const auto uuid = Uuid::parse(words.word("uuid"));
    if (!uuid)
        words.bad("uuid", "is not a UUID");
    status.uuid = *uuid;
    status.state =
        words.oneOf("state", {COWSNAP_STORE_ACTIVE, COWSNAP_STORE_FULL, COWSNAP_STORE_FAILED});
    status.segment_sectors = words.number("segment size");
    std::tie(status.free_segments, status.total_segments) = words.fraction("number of segments");
    status.slot_sectors = words.number("slot size");
    status.origins = words.number("number of origins");
    status.snapshots = words.number("number of snapshots");
    status.last_event = words.number("last event");
    status.damaged_blocks = words.number("damaged blocks");
    return status;
}

OriginStatus parseOriginStatus(std::string_view line) {
    Words words("status of a cow-origin", line);
    OriginStatus status;
    status.id = words.id("origin id");
    status.snapshots = words.number("number of snapshots");
    status.preserved_blocks = words.number("preserved blocks");
    status.waiting_bios = words.number("waiting bios");
    status.read_blocks = words.number("read blocks");
    if (!words.more())
        return status;
    status.rollback = words.oneOf("rollback", {COWSNAP_ROLLBACK_NONE, COWSNAP_ROLLBACK_SCHEDULED,
                                               COWSNAP_ROLLBACK_RUNNING, COWSNAP_ROLLBACK_WAITING});
    status.target = words.idOrNone("target");
    status.undo = words.idOrNone("undo");
    std::tie(status.done_blocks, status.blocks) = words.fraction("done blocks");
    return status;
}

SnapStatus parseSnapStatus(std::string_view line) {
    Words words("status of a cow-snap", line);
    SnapStatus status;
    status.state = snapshotState(words);
    status.origin = words.id("origin id");
    status.read_only = words.oneOf("mode", {"ro", "rw"}) == "ro";
    status.overlay_blocks = words.number("overlay blocks");
    return status;
}

StoreTable parseStoreTable(std::string_view line) {
    Words words("table of a cow-store", line);
    StoreTable table;
    table.device = words.word("device");
    table.low_water_segments = words.number("low water");
    parseFeatures(words, [&](std::string_view feature, const auto& take) {
        if (feature == COWSNAP_FEATURE_FULL_WAIT_MS)
            table.full_wait_ms = words.toNumber("full_wait_ms", take("full_wait_ms"));
        else if (feature == COWSNAP_FEATURE_LOSS_WAIT_MS)
            table.loss_wait_ms = words.toNumber("loss_wait_ms", take("loss_wait_ms"));
        else if (feature == COWSNAP_FEATURE_SEGMENT_SECTORS)
            table.segment_sectors = words.toNumber("segment_sectors", take("segment_sectors"));
        else
            words.bad("feature", "is unknown");
    });
    return table;
}

std::string formatTable(const StoreTable& table) {
    std::string features;
    int count = 0;
    const auto add = [&](std::string_view name, const std::optional<std::uint64_t>& value) {
        if (!value)
            return;
        features += fmt::format(" {} {}", name, *value);
        count += 2;
    };
    add(COWSNAP_FEATURE_FULL_WAIT_MS, table.full_wait_ms);
    add(COWSNAP_FEATURE_LOSS_WAIT_MS, table.loss_wait_ms);
    add(COWSNAP_FEATURE_SEGMENT_SECTORS, table.segment_sectors);
    const std::string arguments = fmt::format("{} {}", table.device, table.low_water_segments);
    return count == 0 ? arguments : fmt::format("{} {}{}", arguments, count, features);
}

OriginTable parseOriginTable(std::string_view line) {
    Words words("table of a cow-origin", line);
    OriginTable table;
    table.store = words.word("store");
    table.id = words.id("origin id");
    table.device = words.word("origin device");
    parseFeatures(words, [&](std::string_view feature, const auto&) {
        if (feature != COWSNAP_FEATURE_INTERPOSE)
            words.bad("feature", "is unknown");
        table.interpose = true;
    });
    return table;
}

std::string formatTable(const OriginTable& table) {
    const std::string arguments = fmt::format("{} {} {}", table.store, table.id, table.device);
    return table.interpose ? fmt::format("{} 1 {}", arguments, COWSNAP_FEATURE_INTERPOSE)
                           : arguments;
}

SnapTable parseSnapTable(std::string_view line) {
    Words words("table of a cow-snap", line);
    SnapTable table;
    table.store = words.word("store");
    table.id = words.id("snapshot id");
    parseFeatures(words, [&](std::string_view feature, const auto&) {
        if (feature != COWSNAP_FEATURE_READ_ONLY)
            words.bad("feature", "is unknown");
        table.read_only = true;
    });
    return table;
}

std::string formatTable(const SnapTable& table) {
    const std::string arguments = fmt::format("{} {}", table.store, table.id);
    return table.read_only ? fmt::format("{} 1 {}", arguments, COWSNAP_FEATURE_READ_ONLY)
                           : arguments;
}

std::vector<OriginLine> parseOriginsAnswer(std::string_view answer) {
    return parseAnswer<OriginLine>("answer to \"origins\"", answer, [](Words& words) {
        OriginLine line;
        line.id = words.id("origin id");
        line.size_sectors = words.number("size");
        line.attached = words.flag("attached flag");
        line.snapshots = words.number("number of snapshots");
        return line;
    });
}

std::vector<SnapshotLine> parseSnapshotsAnswer(std::string_view answer) {
    return parseAnswer<SnapshotLine>("answer to \"snapshots\"", answer, [](Words& words) {
        SnapshotLine line;
        line.id = words.id("snapshot id");
        line.origin = words.id("origin id");
        line.created = words.number("time of creation");
        line.set = words.number("set");
        line.state = snapshotState(words);
        line.open = words.flag("open flag");
        line.blocks = words.number("blocks");
        line.overlay_blocks = words.number("overlay blocks");
        return line;
    });
}

std::vector<EventLine> parseEventsAnswer(std::string_view answer) {
    return parseAnswer<EventLine>("answer to \"events\"", answer, [](Words& words) {
        EventLine line;
        line.number = words.number("number");
        line.event = words.word("event");
        line.id = words.number("id");
        return line;
    });
}

std::string createMessage(
    std::span<const std::pair<std::uint32_t, std::uint32_t>> snapshots_of_origins) {
    std::string message = COWSNAP_MESSAGE_CREATE;
    for (const auto& [snapshot, origin] : snapshots_of_origins)
        message += fmt::format(" {} {}", snapshot, origin);
    return message;
}

std::string watchMessage(std::uint32_t origin,
                         std::span<const std::pair<std::uint64_t, bool>> places) {
    std::string message = fmt::format("{} {}", COWSNAP_MESSAGE_WATCH, origin);
    for (const auto& [sector, encrypted] : places)
        message += fmt::format(" {}{}", sector, encrypted ? COWSNAP_WATCH_RAW : "");
    return message;
}

std::string deleteMessage(std::span<const std::uint32_t> snapshots) {
    std::string message = COWSNAP_MESSAGE_DELETE;
    for (const std::uint32_t snapshot : snapshots)
        message += fmt::format(" {}", snapshot);
    return message;
}

std::string briefMessage(std::string_view message) {
    constexpr std::size_t shown_bytes = 60;
    if (message.size() <= shown_bytes)
        return std::string(message);
    const auto space = message.rfind(' ', shown_bytes);
    const auto shown = message.substr(0, space == message.npos ? shown_bytes : space);
    const std::string_view rest = message.substr(shown.size());
    return fmt::format("{} ... ({} words more)", shown, std::count(rest.begin(), rest.end(), ' '));
}

std::string rollbackMessage(std::uint32_t origin, std::uint32_t target, std::uint32_t undo,
                            bool force, bool schedule) {
    std::string message =
        fmt::format("{} {} {} {}", COWSNAP_MESSAGE_ROLLBACK, origin, target, undo);
    for (const auto& [wanted, word] :
         {std::pair(force, COWSNAP_ROLLBACK_FORCE), std::pair(schedule, COWSNAP_ROLLBACK_SCHEDULE)})
        if (wanted)
            message += fmt::format(" {}", word);
    return message;
}

std::string cancelMessage(std::uint32_t origin) {
    return fmt::format("{} {}", COWSNAP_MESSAGE_CANCEL, origin);
}

std::string forgetMessage(std::uint32_t origin) {
    return fmt::format("{} {}", COWSNAP_MESSAGE_FORGET, origin);
}

std::string lostMessage(std::uint64_t last_set) {
    return fmt::format("{} {}", COWSNAP_MESSAGE_LOST, last_set);
}

}  // namespace cowsnap
