// SPDX-License-Identifier: GPL-2.0-or-later
// Snapshots into buckets of local time, and the best of each.
#include "model/retention.h"

#include <algorithm>
#include <compare>
#include <ctime>
#include <functional>
#include <map>
#include <set>

namespace cowsnap {

namespace {

/// An hour, day, week, month or year of local time. Orders as time does.
struct Bucket {
    std::int64_t number = 0;
    std::int64_t part = 0;
    auto operator<=>(const Bucket&) const = default;
};

std::int64_t dividedDown(std::int64_t value, std::int64_t by) {
    return value / by - (value % by < 0 ? 1 : 0);
}

struct LocalTime {
    std::int64_t seconds = 0;  ///< as if the local clock showed UTC
    std::int64_t offset = 0;   ///< of the local clock from UTC, in seconds
    std::int64_t year = 0;
    std::int64_t month = 0;
};

LocalTime localTime(std::uint64_t time) {
    const auto seconds = static_cast<std::time_t>(time);
    std::tm fields{};
    if (::localtime_r(&seconds, &fields) == nullptr)
        return {seconds, 0, 0, 0};  // beyond what a year can be: no rule needs to tell them apart
    return {seconds + fields.tm_gmtoff, fields.tm_gmtoff, fields.tm_year, fields.tm_mon};
}

constexpr std::int64_t kHourSeconds = 3600;
constexpr std::int64_t kDaySeconds = 24 * kHourSeconds;

Bucket hourOf(const LocalTime& time) {
    // When the clocks go back an hour comes twice; with the greater offset it is the first one.
    return {dividedDown(time.seconds, kHourSeconds), -time.offset};
}

Bucket dayOf(const LocalTime& time) {
    return {dividedDown(time.seconds, kDaySeconds), 0};
}

Bucket weekOf(const LocalTime& time) {
    constexpr std::int64_t days_from_monday = 3;  // day 0 was a Thursday
    return {dividedDown(dayOf(time).number + days_from_monday, 7), 0};
}

Bucket monthOf(const LocalTime& time) {
    return {time.year, time.month};
}

Bucket yearOf(const LocalTime& time) {
    return {time.year, 0};
}

struct Rule {
    const char* name;
    std::uint64_t RetentionRules::*count;
    Bucket (*bucket)(const LocalTime&);  ///< null: each snapshot by itself
};

constexpr Rule kRules[] = {
    {"last", &RetentionRules::last, nullptr},       {"hourly", &RetentionRules::hourly, hourOf},
    {"daily", &RetentionRules::daily, dayOf},       {"weekly", &RetentionRules::weekly, weekOf},
    {"monthly", &RetentionRules::monthly, monthOf}, {"yearly", &RetentionRules::yearly, yearOf},
};

bool newer(const RetentionCandidate& one, const RetentionCandidate& other) {
    return std::pair(one.created, one.id) > std::pair(other.created, other.id);
}

bool better(const RetentionCandidate& one, const RetentionCandidate& other) {
    return one.sound != other.sound ? one.sound : newer(one, other);
}

using Candidates = std::vector<const RetentionCandidate*>;

/// What one rule keeps of the snapshots of one origin.
Candidates keptBy(const Rule& rule, std::uint64_t count, Candidates candidates) {
    std::sort(candidates.begin(), candidates.end(),
              [](const auto* one, const auto* other) { return better(*one, *other); });
    if (rule.bucket == nullptr) {
        candidates.resize(std::min<std::uint64_t>(count, candidates.size()));
        return candidates;
    }
    // The first that falls into a bucket is the best one there.
    std::map<Bucket, const RetentionCandidate*, std::greater<>> best;
    for (const auto* candidate : candidates)
        best.emplace(rule.bucket(localTime(candidate->created)), candidate);
    Candidates kept;
    for (const auto& [bucket, candidate] : best) {
        if (kept.size() == count)
            break;
        kept.push_back(candidate);
    }
    return kept;
}

/// The names of the rules that keep a snapshot, by snapshot.
std::map<Uuid, std::string> keptByRules(const RetentionRules& rules,
                                        const std::vector<RetentionCandidate>& candidates) {
    std::map<Uuid, Candidates> by_origin;
    for (const auto& candidate : candidates)
        if (candidate.expires == 0 && !candidate.lost)
            by_origin[candidate.origin].push_back(&candidate);
    std::map<Uuid, std::string> kept;
    for (const auto& [origin, of_origin] : by_origin)
        for (const auto& rule : kRules)
            for (const auto* candidate : keptBy(rule, rules.*rule.count, of_origin)) {
                std::string& names = kept[candidate->snapshot];
                names += (names.empty() ? "" : ", ") + std::string(rule.name);
            }
    return kept;
}

}  // namespace

std::vector<RetentionVerdict> evaluateRetention(const RetentionRules& rules,
                                                const std::vector<RetentionCandidate>& candidates,
                                                std::uint64_t now) {
    ::tzset();  // localtime_r() does not look whether the time zone has been changed
    const bool has_rules = rules != RetentionRules();
    const auto kept = keptByRules(rules, candidates);
    std::set<std::uint64_t> kept_sets;
    for (const auto& candidate : candidates)
        if (candidate.set != 0 && kept.contains(candidate.snapshot))
            kept_sets.insert(candidate.set);
    const auto verdictOn = [&](const RetentionCandidate& candidate) -> RetentionVerdict {
        const auto keep = [&](const std::string& why) {
            return RetentionVerdict{candidate.snapshot, false, why};
        };
        std::string why_it_goes;
        if (candidate.expires != 0) {
            if (candidate.expires > now)
                return keep("not expired");
            why_it_goes = "expired";
        } else if (!has_rules) {
            return keep("no rules");
        } else if (candidate.lost) {
            why_it_goes = "lost";
        } else {
            if (const auto names = kept.find(candidate.snapshot); names != kept.end())
                return keep(names->second);
            if (kept_sets.contains(candidate.set))
                return keep("set");
            why_it_goes = "no rule keeps it";
        }
        if (candidate.held)
            return keep("held");
        if (candidate.open)
            return keep("open");
        if (candidate.replaced)
            return keep("changed");
        if (candidate.in_rollback)
            return keep("rollback");
        return {candidate.snapshot, true, why_it_goes};
    };
    std::vector<RetentionVerdict> verdicts;
    for (const auto& candidate : candidates)
        verdicts.push_back(verdictOn(candidate));
    return verdicts;
}

}  // namespace cowsnap
