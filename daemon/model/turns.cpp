// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/turns.h"

namespace cowsnap {

Uuid besides(const Uuid& store) {
    Uuid::Bytes bytes = store.bytes();
    // Also of the version, so that it is none of a store.
    for (auto& byte : bytes)
        byte = static_cast<std::uint8_t>(~byte);
    return Uuid(bytes);
}

void Turns::require(const Uuid& store) const {
    if (current_ != nullptr && !current_->stores_.contains(store))
        throw OutOfTurn(store);
}

void Turns::addNew(const Uuid& store) const {
    if (current_ != nullptr)
        current_->stores_.insert(store);
}

void Turns::checked() const {
    if (current_ != nullptr && current_->only_checks_)
        throw OnlyChecked();
}

void Turns::step(const Amount& amount) const {
    if (current_ != nullptr && current_->progress_ != nullptr)
        current_->progress_->step(amount);
}

Turn::Turn(Turns& turns, StoreSet stores, Progress* progress)
    : turns_(turns), stores_(std::move(stores)), progress_(progress), lock_(turns.mutex_) {
    turns_.current_ = this;
}

Turn::~Turn() {
    turns_.current_ = nullptr;
}

}  // namespace cowsnap
