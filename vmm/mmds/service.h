// SPDX-License-Identifier: Apache-2.0
//
// The metadata service: HTTP requests of the guest to answers. A pure function of the request, the data, the set-up and
// the time; how bytes get here and back is the business of tcp_endpoint.h.
//
// Everything in a request comes from the guest. Texts are Firecracker's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/config/resources.h"
#include "vmm/mmds/data_store.h"
#include "vmm/mmds/token.h"

namespace wisp::mmds {

class Service {
public:
    Service(const DataStore& data, TokenAuthority tokens) : data_(data), tokens_(std::move(tokens)) {}

    void configure(const config::MmdsConfig& config) {
        version_ = config.version;
        imds_compat_ = config.imds_compat;
    }

    /// Length of the first request in `bytes`, head and body, or 0 if it is not whole yet. A body is never longer than
    /// what fits in the receive buffer, so an endless one is never whole.
    static size_t request_length(std::string_view bytes);

    /// Answers one whole request: bytes of an HTTP answer.
    std::string answer(std::string_view request, uint64_t now_ms);

    // What metrics count.
    struct Counters {
        uint64_t no_token = 0;
        uint64_t invalid_token = 0;
    };
    const Counters& counters() const { return counters_; }

private:
    struct GuestRequest;
    struct Answer;

    Answer respond(const GuestRequest& request, uint64_t now_ms);
    Answer get(const GuestRequest& request, uint64_t now_ms);
    Answer put_token(const GuestRequest& request, uint64_t now_ms);

    const DataStore& data_;
    TokenAuthority tokens_;
    config::MmdsVersion version_ = config::MmdsVersion::kV1;
    bool imds_compat_ = false;
    Counters counters_;
};

}  // namespace wisp::mmds
