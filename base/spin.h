// SPDX-License-Identifier: Apache-2.0
//
// Spin: how long to look for work before sleeping, which follows what has paid lately. Pure: times come in.
#pragma once

#include <algorithm>
#include <cstdint>

namespace wisp {

class Spin {
public:
    /// 0: not at all.
    uint64_t length_ns() const { return length_ns_; }

    /// A spin found something, after so long without.
    void found_after(uint64_t idle_ns) {
        ++found_;
        if (idle_ns > length_ns_ / 2) in_vain_ = 0;
    }
    void found_nothing() {
        if (length_ns_ > 0) ++in_vain_;
    }

    /// Something came in a sleep, when there had been nothing to do for so long: would a spin have spared it?
    void slept(uint64_t idle_ns, uint64_t most_ns) {
        const bool in_vain = in_vain_ >= kInVain;
        if (in_vain) {
            in_vain_ = 0;
            not_longer_for_ = kSleepsBeforeLonger;
        }
        if (in_vain || idle_ns >= most_ns)
            shorten();
        else if (not_longer_for_ == 0)
            length_ns_ = std::clamp(2 * length_ns_, std::min(kShortest_ns, most_ns), most_ns);
        else
            --not_longer_for_;
    }

private:
    // Not to nothing while it pays: whom we wait for may have been kept from its CPU for once.
    void shorten() {
        const uint64_t least_ns = found_ >= kPays ? kShortest_ns : 0;
        length_ns_ = length_ns_ / 2 < kShortest_ns ? least_ns : length_ns_ / 2;
        found_ = 0;
    }

    static constexpr uint64_t kShortest_ns = 6'000;
    // What we wait for may need the very CPU that we spin on: then a longer spin only delays it. So when this many
    // found nothing, and none needed more than half of its time to find something, half of it has to do for so many
    // sleeps.
    static constexpr unsigned kInVain = 4;
    static constexpr unsigned kSleepsBeforeLonger = 1000;
    static constexpr uint64_t kPays = 32;  // found something between two that did not

    uint64_t length_ns_ = 0;
    uint64_t found_ = 0;           // spins that found something since it became shorter
    unsigned in_vain_ = 0;         // spins that found nothing since one that found something late
    unsigned not_longer_for_ = 0;  // sleeps
};

}  // namespace wisp
