// SPDX-License-Identifier: GPL-2.0-or-later
// Turns at the engine's state. One thread at a time is in the engine; while it waits for the
// kernel or for a device it steps out, and others come in. Each has a turn at some stores, and no
// two at the same one: so a store that takes long holds up nobody but those who want that store.
// Knows nothing of what is done in a turn.
#ifndef COWSNAP_MODEL_TURNS_H
#define COWSNAP_MODEL_TURNS_H

#include <exception>
#include <mutex>
#include <set>
#include <utility>

#include "base/uuid.h"
#include "model/progress.h"

namespace cowsnap {

/// The stores that a turn is at.
using StoreSet = std::set<Uuid>;

/// In a StoreSet: the stores that are not known yet, of who makes or opens one.
inline const Uuid kUnknownStores{};
/// In a StoreSet: no store; of who only looks at what is known of them.
inline const Uuid kNoStore{Uuid::Bytes{0xff}};
/// In a StoreSet: what is done at a store without a turn at it, by one at a time. No store has it.
Uuid besides(const Uuid& store);

/// The turn is not at this store. Nothing has changed; with a turn that is, the same can be tried
/// again. No Error: it is for who gives turns, not for people.
class OutOfTurn : public std::exception {
public:
    explicit OutOfTurn(const Uuid& store) : store_(store) {}
    const char* what() const noexcept override { return "work at a store out of turn"; }
    const Uuid& store() const { return store_; }

private:
    Uuid store_;
};

/// All is checked, and nothing is to be done: the turn is for checking only. Nothing has changed.
/// No Error: it is what such a turn is for.
class OnlyChecked : public std::exception {
public:
    const char* what() const noexcept override { return "checked, and not done"; }
};

class Turn;

class Turns {
public:
    /// Of the thread that is in. Null where no turns are taken, as in tests with one thread: then
    /// all stores are free.
    Turn* current() const { return current_; }
    /// OutOfTurn if the current turn is not at the store.
    void require(const Uuid& store) const;
    /// A new store is added to the current turn: nobody can have a turn at it yet.
    void addNew(const Uuid& store) const;
    /// Where an operation has checked all that it checks, before anything changes. OnlyChecked if
    /// the turn is for checking only.
    void checked() const;
    /// Before a step of an operation, also the first one. Cancelled if it is not to be done.
    void step(const Amount& amount) const;

private:
    friend class Turn;
    friend class StepOut;

    std::mutex mutex_;
    Turn* current_ = nullptr;  ///< guarded by mutex_
};

/// Waits until nobody is in, then is in until it is destroyed. Who makes it sees to it that no two
/// turns are at one store at the same time.
class Turn {
public:
    /// Whoever progress is for is told of steps; nobody if it is null.
    Turn(Turns& turns, StoreSet stores, Progress* progress = nullptr);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    const StoreSet& stores() const { return stores_; }
    void onlyCheck() { only_checks_ = true; }

private:
    friend class Turns;

    Turns& turns_;
    StoreSet stores_;
    Progress* progress_;
    bool only_checks_ = false;
    std::unique_lock<std::mutex> lock_;
};

/// While it exists, others may be in. What the current turn is not at may have changed afterwards.
class StepOut {
public:
    explicit StepOut(Turns& turns) : turns_(turns), turn_(std::exchange(turns.current_, nullptr)) {
        if (turn_ != nullptr)
            turns_.mutex_.unlock();
    }
    ~StepOut() {
        if (turn_ == nullptr)
            return;
        turns_.mutex_.lock();
        turns_.current_ = turn_;
    }
    StepOut(const StepOut&) = delete;
    StepOut& operator=(const StepOut&) = delete;

private:
    Turns& turns_;
    Turn* turn_;
};

}  // namespace cowsnap

#endif
