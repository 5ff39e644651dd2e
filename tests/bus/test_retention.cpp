// SPDX-License-Identifier: GPL-2.0-or-later
// Retention: the rules hold for any snapshots, in any time zone, and where clocks jump; and pruning
// does what they say.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <map>
#include <random>
#include <set>

#include "cowsnap_dm.h"
#include "engine_bed.h"
#include "model/retention.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

constexpr std::uint64_t kHour = 3600;
constexpr std::uint64_t kDay = 24 * kHour;

/// The time zone of the process, as long as this exists.
class TimeZone {
public:
    explicit TimeZone(const std::string& name) {
        if (const char* const before = std::getenv("TZ"))
            before_ = before;
        ::setenv("TZ", name.c_str(), 1);
        ::tzset();
    }
    ~TimeZone() {
        if (before_)
            ::setenv("TZ", before_->c_str(), 1);
        else
            ::unsetenv("TZ");
        ::tzset();
    }
    TimeZone(const TimeZone&) = delete;
    TimeZone& operator=(const TimeZone&) = delete;

private:
    std::optional<std::string> before_;
};

/// As POSIX writes zones, so that no database of them is needed.
const char* const kBerlin = "CET-1CEST,M3.5.0,M10.5.0/3";
const char* const kZones[] = {"UTC", kBerlin, "NPT-5:45", "PST8PDT,M3.2.0,M11.1.0",
                              "LHST-10:30LHDT-11,M10.1.0,M4.1.0"};

std::uint64_t utc(int year, int month, int day, int hour = 0, int minute = 0) {
    std::tm fields{};
    fields.tm_year = year - 1900;
    fields.tm_mon = month - 1;
    fields.tm_mday = day;
    fields.tm_hour = hour;
    fields.tm_min = minute;
    return static_cast<std::uint64_t>(::timegm(&fields));
}

const Uuid kOrigin = Uuid::random();

RetentionCandidate madeAt(std::uint64_t created, std::uint32_t id = 1) {
    RetentionCandidate candidate;
    candidate.snapshot = Uuid::random();
    candidate.origin = kOrigin;
    candidate.id = id;
    candidate.created = created;
    return candidate;
}

/// The times of those that stay, newest first.
std::vector<std::uint64_t> staying(const RetentionRules& rules,
                                   const std::vector<std::uint64_t>& times) {
    std::vector<RetentionCandidate> candidates;
    for (const auto time : times)
        candidates.push_back(madeAt(time, static_cast<std::uint32_t>(candidates.size() + 1)));
    std::vector<std::uint64_t> result;
    const auto verdicts = evaluateRetention(rules, candidates, utc(2100, 1, 1));
    for (std::size_t i = 0; i < times.size(); ++i)
        if (!verdicts[i].goes)
            result.push_back(times[i]);
    std::sort(result.rbegin(), result.rend());
    return result;
}

using Times = std::vector<std::uint64_t>;

std::map<Uuid, RetentionVerdict> bySnapshot(const std::vector<RetentionVerdict>& verdicts) {
    std::map<Uuid, RetentionVerdict> result;
    for (const auto& verdict : verdicts)
        result.emplace(verdict.snapshot, verdict);
    return result;
}

/// Random snapshots of three origins over some years, some in sets, held, open, stale, lost or with
/// a time of expiry.
class Population {
public:
    explicit Population(unsigned seed) : random_(seed) {}

    std::uint64_t upTo(std::uint64_t most) {
        return std::uniform_int_distribution<std::uint64_t>(0, most)(random_);
    }
    bool oneIn(std::uint64_t many) { return upTo(many - 1) == 0; }

    std::uint64_t now() const { return utc(2026, 11, 26); }

    std::vector<RetentionCandidate> make() {
        const std::uint64_t span =
            std::vector<std::uint64_t>{2 * kDay, 60 * kDay, 1500 * kDay}[upTo(2)];
        std::vector<Uuid> origins{Uuid::random(), Uuid::random(), Uuid::random()};
        std::vector<RetentionCandidate> candidates;
        const std::uint64_t creations = upTo(80);
        for (std::uint64_t set = 1; set <= creations; ++set) {
            const std::uint64_t created = now() - upTo(span);
            const std::size_t members = oneIn(4) ? origins.size() : 1;
            std::shuffle(origins.begin(), origins.end(), random_);
            for (std::size_t i = 0; i < members; ++i) {
                auto candidate = madeAt(created, static_cast<std::uint32_t>(candidates.size() + 1));
                candidate.origin = origins[i];
                candidate.set = set;
                candidate.held = oneIn(10);
                candidate.open = oneIn(10);
                candidate.in_rollback = oneIn(20);
                candidate.sound = !oneIn(10);
                candidate.lost = oneIn(20);
                if (oneIn(10))
                    candidate.expires = now() - 10 * kDay + upTo(20 * kDay);
                candidates.push_back(candidate);
            }
        }
        std::shuffle(candidates.begin(), candidates.end(), random_);
        return candidates;
    }

    RetentionRules rules() {
        RetentionRules rules;
        for (auto count :
             {&RetentionRules::last, &RetentionRules::hourly, &RetentionRules::daily,
              &RetentionRules::weekly, &RetentionRules::monthly, &RetentionRules::yearly})
            if (oneIn(2))
                rules.*count = upTo(12);
        return rules;
    }

private:
    std::mt19937 random_;
};

/// The period of local time that a rule goes by, as strftime() writes it: another way to the same
/// periods than that of the program.
std::string periodOf(std::uint64_t RetentionRules::*rule, std::uint64_t time) {
    static const std::map<int, const char*> formats{
        {1, "%Y-%m-%d %H %z"}, {2, "%Y-%m-%d"}, {3, "%G-%V"}, {4, "%Y-%m"}, {5, "%Y"}};
    const int number = rule == &RetentionRules::hourly    ? 1
                       : rule == &RetentionRules::daily   ? 2
                       : rule == &RetentionRules::weekly  ? 3
                       : rule == &RetentionRules::monthly ? 4
                                                          : 5;
    const auto seconds = static_cast<std::time_t>(time);
    std::tm fields{};
    ::localtime_r(&seconds, &fields);
    char text[64];
    const std::size_t length = std::strftime(text, sizeof(text), formats.at(number), &fields);
    return {text, length};
}

bool better(const RetentionCandidate& one, const RetentionCandidate& other) {
    return std::tuple(one.sound, one.created, one.id) >
           std::tuple(other.sound, other.created, other.id);
}

/// Whether a rule keeps a candidate, by counting what is in front of it.
bool ruleKeeps(std::uint64_t RetentionRules::*rule, std::uint64_t count,
               const RetentionCandidate& candidate, const std::vector<RetentionCandidate>& all) {
    if (candidate.expires != 0 || candidate.lost)
        return false;
    std::uint64_t before = 0;
    std::map<std::string, std::uint64_t> newer_periods;
    const std::string own =
        rule == &RetentionRules::last ? std::string() : periodOf(rule, candidate.created);
    for (const auto& other : all) {
        if (other.origin != candidate.origin || other.expires != 0 || other.lost)
            continue;
        if (rule == &RetentionRules::last) {
            before += better(other, candidate) ? 1 : 0;
            continue;
        }
        const std::string period = periodOf(rule, other.created);
        if (period == own && better(other, candidate))
            return false;
        if (period != own && other.created > candidate.created)
            newer_periods[period] = 1;
    }
    return (rule == &RetentionRules::last ? before : newer_periods.size()) < count;
}

}  // namespace

TEST_CASE("of each hour, day, week, month and year the newest snapshot is kept, local time") {
    const TimeZone zone(kBerlin);
    const std::uint64_t noon = utc(2026, 7, 15, 10);  // a Wednesday
    RetentionRules rules;
    SECTION("last") {
        rules.last = 2;
        CHECK(staying(rules, {noon, noon + 1, noon - kDay}) == Times{noon + 1, noon});
    }
    SECTION("hours") {
        rules.hourly = 2;
        CHECK(staying(rules, {noon, noon + 59 * 60, noon - 1, noon - kHour, noon - kHour - 1}) ==
              Times{noon + 59 * 60, noon - 1});
    }
    SECTION("days, which end at midnight of the place") {
        rules.daily = 2;
        const std::uint64_t midnight = utc(2026, 7, 14, 22);
        CHECK(staying(rules, {midnight, midnight + kHour, midnight - 1, midnight - kDay}) ==
              Times{midnight + kHour, midnight - 1});
        const TimeZone elsewhere("UTC");
        CHECK(staying(rules, {midnight, midnight + kHour, midnight - 1, midnight - kDay}) ==
              Times{midnight + kHour, midnight - kDay});
    }
    SECTION("weeks, from Monday") {
        rules.weekly = 2;
        const std::uint64_t monday = utc(2026, 7, 12, 22);
        CHECK(staying(rules, {noon, monday, monday - 1, monday - 7 * kDay}) ==
              Times{noon, monday - 1});
    }
    SECTION("months and years") {
        const std::uint64_t new_year = utc(2025, 12, 31, 23);
        rules.monthly = 2;
        CHECK(staying(rules, {new_year, new_year - 1, new_year - kDay}) ==
              Times{new_year, new_year - 1});
        rules.monthly = 0;
        rules.yearly = 3;
        CHECK(staying(rules, {noon, new_year, new_year - 1, utc(2019, 5, 5), utc(2018, 5, 5)}) ==
              Times{noon, new_year - 1, utc(2019, 5, 5)});
    }
    SECTION("a period without a snapshot does not count") {
        rules.daily = 2;
        CHECK(staying(rules, {noon, noon - 300 * kDay, noon - 400 * kDay}) ==
              Times{noon, noon - 300 * kDay});
    }
    SECTION("what one rule keeps is kept") {
        rules.daily = 1;
        rules.monthly = 2;
        CHECK(staying(rules, {noon, noon - 3 * kDay, noon - 20 * kDay, noon - 21 * kDay}) ==
              Times{noon, noon - 20 * kDay});
    }
}

TEST_CASE("hours and days are right where the clocks jump") {
    const TimeZone zone(kBerlin);
    RetentionRules rules;
    SECTION("back: the hour that comes twice is two hours, the day is one") {
        // October 25, 2026, 3:00 becomes 2:00, at 1:00 UTC.
        const Times half_past{utc(2026, 10, 24, 23, 30), utc(2026, 10, 25, 0, 30),
                              utc(2026, 10, 25, 1, 30), utc(2026, 10, 25, 2, 30)};
        rules.hourly = 24;
        CHECK(staying(rules, half_past).size() == 4);
        rules.hourly = 3;
        CHECK(staying(rules, half_past) == Times{half_past[3], half_past[2], half_past[1]});
        rules.hourly = 0;
        rules.daily = 9;
        // 25 hours of one day, and the midnights around it
        CHECK(staying(rules, {utc(2026, 10, 24, 22), utc(2026, 10, 25, 22, 59)}) ==
              Times{utc(2026, 10, 25, 22, 59)});
        CHECK(staying(rules, {utc(2026, 10, 24, 21, 59), utc(2026, 10, 24, 22)}).size() == 2);
        CHECK(staying(rules, {utc(2026, 10, 25, 22, 59), utc(2026, 10, 25, 23)}).size() == 2);
    }
    SECTION("forth: the day of 23 hours is one day") {
        rules.daily = 9;
        CHECK(staying(rules, {utc(2026, 3, 28, 23), utc(2026, 3, 29, 21, 59)}).size() == 1);
        CHECK(staying(rules, {utc(2026, 3, 29, 21, 59), utc(2026, 3, 29, 22)}).size() == 2);
        rules.daily = 0;
        rules.hourly = 9;
        CHECK(staying(rules, {utc(2026, 3, 29, 0, 59), utc(2026, 3, 29, 1)}).size() == 2);
    }
}

TEST_CASE("for any snapshots: what goes is what no rule keeps, and pruning again changes nothing") {
    for (const char* const zone_name : kZones) {
        const TimeZone zone(zone_name);
        for (unsigned seed = 1; seed <= 60; ++seed) {
            INFO("zone " << zone_name << ", seed " << seed);
            Population population(seed);
            const auto candidates = population.make();
            const RetentionRules rules = population.rules();
            const bool has_rules = rules != RetentionRules();
            const auto verdicts = evaluateRetention(rules, candidates, population.now());
            REQUIRE(verdicts.size() == candidates.size());

            std::set<std::uint64_t> kept_sets;
            std::vector<bool> kept(candidates.size());
            for (std::size_t i = 0; i < candidates.size(); ++i) {
                for (auto rule :
                     {&RetentionRules::last, &RetentionRules::hourly, &RetentionRules::daily,
                      &RetentionRules::weekly, &RetentionRules::monthly, &RetentionRules::yearly})
                    kept[i] = kept[i] || ruleKeeps(rule, rules.*rule, candidates[i], candidates);
                if (kept[i])
                    kept_sets.insert(candidates[i].set);
            }
            bool as_expected = true;
            for (std::size_t i = 0; i < candidates.size(); ++i) {
                const auto& candidate = candidates[i];
                bool goes =
                    has_rules && !kept[i] && (candidate.lost || !kept_sets.contains(candidate.set));
                if (candidate.expires != 0)
                    goes = candidate.expires <= population.now();
                if (candidate.held || candidate.open || candidate.in_rollback)
                    goes = false;
                as_expected = as_expected && verdicts[i].snapshot == candidate.snapshot &&
                              verdicts[i].goes == goes && !verdicts[i].reason.empty();
            }
            CHECK(as_expected);

            std::vector<RetentionCandidate> remaining;
            for (std::size_t i = 0; i < candidates.size(); ++i)
                if (!verdicts[i].goes)
                    remaining.push_back(candidates[i]);
            const auto again = evaluateRetention(rules, remaining, population.now());
            CHECK(std::none_of(again.begin(), again.end(),
                               [](const auto& verdict) { return verdict.goes; }));

            // A rule more, or a greater number, never makes anything go.
            if (has_rules) {
                RetentionRules wider = rules;
                wider.daily += 1 + population.upTo(5);
                wider.yearly += population.upTo(2);
                const auto fewer =
                    bySnapshot(evaluateRetention(wider, candidates, population.now()));
                CHECK(std::all_of(verdicts.begin(), verdicts.end(), [&](const auto& verdict) {
                    return verdict.goes || !fewer.at(verdict.snapshot).goes;
                }));
            }

            auto shuffled = candidates;
            std::reverse(shuffled.begin(), shuffled.end());
            const auto other = bySnapshot(evaluateRetention(rules, shuffled, population.now()));
            CHECK(std::all_of(verdicts.begin(), verdicts.end(), [&](const auto& verdict) {
                return other.at(verdict.snapshot).goes == verdict.goes;
            }));
        }
    }
}

TEST_CASE("the reasons tell why a snapshot stays or goes") {
    const TimeZone zone("UTC");
    const std::uint64_t now = utc(2026, 6, 1);
    RetentionRules rules;
    rules.last = 1;
    rules.daily = 1;
    auto newest = madeAt(now - 1, 9);
    auto mate = madeAt(now - 1, 8);
    auto older = madeAt(now - 2 * kDay, 7);
    auto held = madeAt(now - 2 * kDay, 6);
    auto open = madeAt(now - 2 * kDay, 5);
    auto in_rollback = madeAt(now - 2 * kDay, 2);
    auto expired = madeAt(now - kHour, 4);
    auto expires = madeAt(now - 9 * kDay, 3);
    auto lost = madeAt(now, 10);
    auto stale = madeAt(now, 11);
    newest.set = 5;
    mate.set = 5;
    mate.origin = Uuid::random();
    auto mate_newer = madeAt(now, 12);
    mate_newer.origin = mate.origin;
    held.held = true;
    open.open = true;
    in_rollback.in_rollback = true;
    expired.expires = now;
    expires.expires = now + 1;
    lost.lost = true;
    lost.sound = false;
    stale.sound = false;
    const auto verdicts = bySnapshot(evaluateRetention(
        rules,
        {newest, mate, mate_newer, older, held, open, in_rollback, expired, expires, lost, stale},
        now));
    const auto checkVerdict = [&](const RetentionCandidate& candidate, bool goes,
                                  const std::string& reason) {
        CHECK(verdicts.at(candidate.snapshot).goes == goes);
        CHECK(verdicts.at(candidate.snapshot).reason == reason);
    };
    checkVerdict(newest, false, "last");
    checkVerdict(mate, false, "set");
    checkVerdict(mate_newer, false, "last, daily");
    checkVerdict(older, true, "no rule keeps it");
    checkVerdict(held, false, "held");
    checkVerdict(open, false, "open");
    checkVerdict(in_rollback, false, "rollback");
    checkVerdict(expired, true, "expired");
    checkVerdict(expires, false, "not expired");
    checkVerdict(lost, true, "lost");
    checkVerdict(stale, false, "daily");  // there is no better one of that day
    const auto without = evaluateRetention({}, {older, expired, lost}, now);
    CHECK(without[0].reason == "no rules");
    CHECK(without[1].goes);
    CHECK_FALSE(without[2].goes);
}

TEST_CASE("pruning deletes what retention says, of the origins that are named") {
    using Action = PruneResult::Action;
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const Uuid two = bed.engine->attach("/dev/two", store, "");
    const auto create = [&](const Uuid& origin, const std::string& name,
                            const SnapshotOptions& options = {}) {
        return bed.engine->createSnapshots({{origin, name}}, options).front();
    };
    SnapshotOptions held;
    held.holds = {"backup"};
    SnapshotOptions expired;
    expired.expires = 1;
    SnapshotOptions tagged;
    tagged.tags = {"auto", "x"};
    const Uuid in_use = create(one, "open");
    create(one, "held", held);
    create(one, "expired", expired);
    create(one, "tagged", tagged);
    create(one, "old");
    create(one, "new");
    create(two, "far old");
    create(two, "far new");
    bed.machine.setOpen(bed.engine->activate(in_use, true), true);
    const auto deletedBy = [&](const std::vector<Uuid>& origins, const PruneOptions& options) {
        std::set<std::string> names;
        for (const auto& result : bed.engine->prune(origins, options))
            if (result.action != Action::Keep)
                names.insert(result.name);
        return names;
    };
    using Names = std::set<std::string>;
    PruneOptions options;
    options.now = 2000000000;
    options.dry_run = true;
    CHECK(deletedBy({}, options) == Names{"expired"});
    options.rules.last = 1;
    CHECK(deletedBy({one}, options) == Names{"expired", "old", "tagged"});
    CHECK(deletedBy({}, options) == Names{"expired", "far old", "old", "tagged"});
    options.tags = {"auto"};
    options.rules = {};
    options.rules.daily = 1;
    CHECK(deletedBy({}, options).empty());  // the one with the tag is the newest with the tag
    options.tags = {};
    checkRefused(bed, ErrorKind::NotFound, "no origin", [&] {
        bed.engine->prune({one, Uuid::random()}, options);
    });
    CHECK(bed.machine.snapshotIds().size() == 8);

    options.rules = {};
    options.rules.last = 1;
    options.dry_run = false;
    CHECK(deletedBy({one}, options) == Names{"expired", "old", "tagged"});
    bed.restart();
    CHECK(bed.machine.snapshotIds().size() == 5);
    CHECK(bed.snapshotNamed("held"));
    CHECK(bed.snapshotNamed("open"));
    CHECK(bed.snapshotNamed("far old"));

    // What fails is said, and nothing of that store has gone.
    bed.machine.plan(Accident::Fail, 1);
    const auto results = bed.engine->prune({two}, options);
    REQUIRE(results.size() == 2);
    CHECK(results[0].action == Action::Failed);
    CHECK_THAT(results[0].reason, Contains("planned"));
    CHECK(results[1].action == Action::Keep);
    CHECK(bed.snapshotNamed("far old"));
}

TEST_CASE("a store that cannot be used is among the results, and the others are pruned") {
    using Action = PruneResult::Action;
    EngineBed bed;
    bed.engine->createStore({"/dev/spare"}, "broken", {});
    const Uuid one =
        bed.engine->attach("/dev/one", bed.engine->createStore({"/dev/store"}, "main", {}), "");
    SnapshotOptions expired;
    expired.expires = 1;
    bed.engine->createSnapshots({{one, "old"}}, expired);
    bed.engine.reset();
    bed.machine.reboot();
    bed.machine.removeDisk("/dev/spare");
    bed.restart();
    PruneOptions options;
    options.now = 2;
    const auto results = bed.engine->prune({}, options);
    REQUIRE(results.size() == 2);
    for (const auto& result : results) {
        INFO(result.name << ": " << result.reason);
        CHECK(result.action == (result.snapshot ? Action::Delete : Action::Failed));
        CHECK(result.name == (result.snapshot ? "old" : "broken"));
        if (!result.snapshot)
            CHECK_THAT(result.reason, Contains("cannot be used: "));
    }
    // Of origins that are named it is none.
    CHECK(bed.engine->prune({one}, options).empty());
}
