// SPDX-License-Identifier: GPL-2.0-or-later
// A machine that runs the engine on a world's disks: it executes what the engine asks for, one I/O
// at a time in an order of its choice, and plays the users of origins and snapshots.
#ifndef COWSNAP_TESTS_SIM_MACHINE_HPP
#define COWSNAP_TESTS_SIM_MACHINE_HPP

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core.hpp"
#include "random.hpp"
#include "world.hpp"

namespace sim {

enum class IoKind { origin_read, batch, summary, table, control, origin_write, snapshot_read };

// An I/O under way.
struct Io {
    IoKind kind;
    std::uint64_t number = 0;  // in the order of issue
    std::uint64_t block = 0;   // of the store, when data is not empty
    Bytes data;                // a write to the store
    std::function<void(int error)> done;
};

struct Options {
    std::uint32_t max_extents = 64;
    // How many of a log's writes without room before the oldest snapshot is dropped; false: wait.
    bool drop_when_full = true;
    // Whether other I/Os end while control context waits for one of its own.
    bool busy_control = false;
};

class Machine {
public:
    // Called whenever the power could fail with a new outcome.
    using CrashPoint = std::function<void(Machine&)>;

    Machine(World& world, std::uint64_t seed, Options options = {});
    ~Machine();
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    CrashPoint crash_point;
    // Whether this write to the store fails (and leaves some of its sectors); none does when empty.
    std::function<bool(IoKind)> fails;
    // Whether this read fails: of an origin, of the store for a snapshot, of control context.
    std::function<bool(IoKind)> read_fails;
    // Whether this write to an origin fails (and leaves some of its blocks).
    std::function<bool()> origin_write_fails;
    // Called before each write of control context completes; sees it in flight.
    CrashPoint control_crash_point;
    // Called in a create when the origins are drained and nothing is committed yet: what else the
    // engine, or somebody with another message, does then.
    std::function<void()> before_commit;

    World& world() { return world_; }
    cow_store& store() { return store_; }
    Random& random() { return random_; }
    const std::string& why() const { return why_; }
    bool is_open() const { return open_; }
    std::uint64_t ios() const { return next_io_; }
    // From here on all choices are another seed's.
    void reseed(std::uint64_t seed) { random_ = Random(seed); }

    // Writes an empty store whose first region has so many segments of so many blocks.
    void format(std::uint32_t segment_blocks, std::uint64_t segments);
    // Probe and activate: 0 or what the engine refused it with.
    int open();
    // Everything in flight ends, then the engine is let go.
    void close();

    void register_origin(std::uint32_t id);
    int forget_origin(std::uint32_t id);
    // A user's write of whole blocks; it ends in some later step.
    void write(std::uint32_t origin, std::uint64_t block, std::uint64_t length);
    void flush(std::uint32_t origin);
    using Members = std::vector<std::pair<std::uint32_t, std::uint32_t>>;  // snapshot, origin
    int create(const Members& members);
    /// The origin's device has become smaller: its snapshots are stale. Not while it is rolled
    /// back.
    void spoil(std::uint32_t id);
    int remove(const std::vector<std::uint32_t>& snapshots, bool dropped = false);
    // A user's write to a snapshot; inside one window.
    void overlay_write(std::uint32_t snapshot, std::uint64_t block, std::uint64_t length);
    // A user's read of a snapshot: what it returns is checked when it ends.
    void read(std::uint32_t snapshot, std::uint64_t block, std::uint64_t length);
    int extend(std::uint64_t device_blocks);
    // Rolls the origin back: 0 when it shows "target", whose former contents are in "undo".
    int roll_back(std::uint32_t origin, std::uint32_t target, std::uint32_t undo);
    int schedule(std::uint32_t origin, std::uint32_t target, std::uint32_t undo);
    // Of a rollback that is scheduled, or runs.
    int cancel(std::uint32_t origin);
    // What is scheduled begins; what has begun goes on with drain() and copy().
    void begin_scheduled();
    // The model's rollback of that origin is this.
    void become(const RollbackChange& change);
    // A step of copying back. False: there is nothing to do now.
    bool copy();
    bool copy(std::uint32_t origin);
    // Copying ends for now, what is under way is waited for.
    void stop_copying();
    // A user's read of a block of an origin; what it returns is checked when it ends.
    void read_origin(std::uint32_t origin, std::uint64_t block);
    // Every block of the origin is as the view has it; with "learn", after a power cut.
    void check_view(std::uint32_t origin, bool learn);
    // Ask every idle log for a mark.
    void mark();

    const std::list<Io>& pending() const { return pending_; }
    // End this I/O.
    void complete(std::list<Io>::iterator io);
    using Choice = std::function<std::list<Io>::iterator(std::list<Io>&)>;
    // End the I/O that "choice" names. False when nothing is in flight.
    bool step(const Choice& choice);
    bool step();
    // Step until nothing is to be done. Sweeping included, and rollbacks unless they are stopped.
    void drain(bool roll_back = true);
    bool sweep_step(std::uint32_t budget);
    std::size_t writers() const { return writes_.size() + overlay_writes_.size(); }

    // The world after a power cut now. Variant 0: nothing that was in flight is there; 1: all of
    // it; others: some.
    World crash(unsigned variant);
    // Writes to the store that are in flight, and the world after a power cut now with those of
    // them that have a bit in "present" (the oldest: bit 0), whole, and no other.
    std::size_t writes_in_flight() const;
    World crash_with(std::uint64_t present, OriginDisk::Loss loss);
    // The world after a power cut now with those sectors of these writes that "present" names; the
    // oldest write is 0.
    World crash_sectors(const std::function<bool(std::size_t write, std::size_t sector)>& present);
    // The write that control context waits for: its first block, its sectors, and the world after a
    // power cut now with those of them that "present" names, and nothing else of what is in flight.
    std::uint64_t control_block() const { return control_in_flight_->first; }
    std::size_t control_sectors() const { return control_in_flight_->second.size() / kSector; }
    World crash_torn(const std::function<bool(std::size_t sector)>& present);

    // Compares a block of a snapshot, as it would be read now, with the model; with "learn" an
    // overlay block whose write was not acknowledged becomes what is found.
    void check_block(std::uint32_t snapshot, std::uint64_t block, bool learn);

private:
    struct Extent : cow_extent {
        Bytes data;
    };
    struct Write {
        cow_waiter waiter;
        std::uint32_t origin;
        std::uint64_t block, length;
        std::uint32_t version;
        bool shown = false;           // it came during a rollback
        std::uint64_t under_way = 0;  // blocks on their way to the overlay of that
        // What is copied back: contents, and what is told that it has ended.
        std::vector<Versions> copied;
        std::function<void(bool failed)> ended;
        bool failed = false;
        bool counted = false;  // it is under way past a guard
        const Versions& versions(std::uint64_t at) const { return copied[at - block]; }
    };
    // Copies back what a rollback has to; see machine_rollback.cpp.
    struct Copier {
        enum class Phase { marker, zeros, open, settle, write, pass, first, last, finish, stuck };
        Phase phase = Phase::marker;
        unsigned under_way = 0;
        bool failed = false;
        bool first = false;  // the first blocks
        std::map<std::uint64_t, Versions> blocks;
        std::set<std::uint64_t> unreadable;
    };
    struct OverlayWrite {
        cow_waiter waiter;
        std::uint32_t snapshot;
        std::uint64_t block, length;
        std::uint32_t version;
        std::uint64_t under_way;  // blocks of the extent that is this write's own
        cow_snapshot* target;
    };
    struct Read {
        cow_snapshot* target;
        std::uint32_t snapshot;
        SnapshotModel model;
        std::uint64_t block;
        std::uint64_t length;
    };

    static Machine& of(cow_store* store) { return *static_cast<Machine*>(store->shell); }
    static const cow_ops& ops();

    using Done = std::function<void(int error)>;
    void issue(IoKind kind, Done done);
    void issue_store(IoKind kind, std::uint64_t block, Bytes data, Done done);
    void check_overlap(std::uint64_t block, const Bytes& data) const;
    void check_claimed(const cow_batch& batch);
    void extent_read(Extent* extent);
    void batch_write(cow_batch* batch);
    void table_write(cow_table_block* table, std::uint64_t block);
    int control_read(std::uint64_t block, std::uint32_t blocks, void* buffer);
    int control_write(std::uint64_t block, std::uint32_t blocks, const void* buffer);

    void broken(const std::string& what);
    void engine();  // run it, and those whose wait is over
    void run_engine();
    void point();
    void advance(Write& write);
    void send(Write& write);
    void let_go(Write& write);
    bool advance_shown(Write& write);
    void add_write(std::uint32_t origin, std::uint64_t block, std::uint64_t length,
                   std::uint32_t version, bool shown);
    void copy_back(std::uint32_t origin, std::uint64_t block, std::vector<Versions> contents);
    void read_for_copying(std::uint32_t origin, std::uint64_t block);
    void copy_first(std::uint32_t origin);
    bool collect(std::uint32_t origin);
    bool write_all(std::uint32_t origin, std::uint64_t from, std::uint64_t to);
    bool passed(std::uint32_t origin, int r);
    void give_back(std::uint32_t origin);
    bool extend_for_rollback();
    bool help(std::uint32_t origin);
    int create_members(std::vector<cow_member> list);
    RollbackChange now(std::uint32_t origin) const;
    Contents contents_of(std::uint32_t snapshot) const;
    int enter(cow_origin* origin);
    int enter_all();
    void leave_all();
    struct Guard;
    void change_fronts();
    void change_front(std::uint32_t id, Guard& guard);
    void watch_more(std::uint32_t id);
    bool guarded(const Write& write) const;
    void advance(OverlayWrite& write);
    void end(OverlayWrite& write);
    void start_read(const std::shared_ptr<Read>& read);
    void read_from_store(const std::shared_ptr<Read>& read, std::uint64_t location,
                         std::uint32_t n);
    void read_from_origin(const std::shared_ptr<Read>& read, std::uint32_t n);
    void end_read(const std::shared_ptr<Read>& read);
    void put_user(cow_snapshot* snapshot);
    enum class Answer { error, right, other };
    Answer look(cow_snapshot* snapshot, std::uint64_t block, const Versions* sampled,
                const std::vector<Versions>& expected, std::size_t& which);
    bool drop_for_room();
    void lose(Loss loss);
    void record_loss();
    void busy();

    World& world_;
    Random random_;
    Options options_;
    cow_store store_{};
    std::string why_;
    bool open_ = false;
    int engine_depth_ = 0, view_depth_ = 0, control_depth_ = 0;
    std::uint64_t next_io_ = 0;
    std::uint32_t extents_ = 0;
    std::list<Io> pending_;
    std::optional<std::pair<std::uint64_t, Bytes>> control_in_flight_;
    std::map<const cow_waiter*, std::unique_ptr<Write>> writes_;
    std::map<const cow_waiter*, std::unique_ptr<OverlayWrite>> overlay_writes_;
    std::vector<const cow_waiter*> ready_;
    std::vector<cow_log*> full_;
    // Writes to the first block of an origin and to those with a place that is watched: one at a
    // time, once what it makes of them is recorded.
    struct Guard {
        std::list<const cow_waiter*> waiting;
        unsigned under_way = 0;
        std::vector<std::uint64_t> watched;  // blocks
        bool again = false;                  // there are more than are recorded
        bool vague = false;                  // what is recorded is that they may be anything
    };
    std::map<std::uint32_t, Guard> guards_;
    std::map<std::uint32_t, Copier> copiers_;  // by origin
    std::set<std::uint32_t> entered_;          // origins
    std::string failure_;
    bool store_failed_ = false;  // and that is not recorded yet
};

}  // namespace sim

#endif
