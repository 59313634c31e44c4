// SPDX-License-Identifier: Apache-2.0
//
// Service: what the metadata service answers to a request of the guest. A pure function of the request, the data, the
// configuration and the time; tcp_endpoint.h carries the bytes.
//
// Everything in a request comes from the guest. Texts are Firecracker's.
//
// Threads: the loop's; counters() may be read by any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/counter.h"
#include "http/request_reader.h"
#include "http/response.h"
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

    /// The bytes of the answer to a request.
    std::string answer(const http::Request& request, uint64_t now_ms);
    /// The bytes of the answer to what is no request. The connection cannot be used after it.
    static std::string refuse(const http::Refusal& refusal);

    // What metrics count.
    struct Counters {
        Counter no_token;
        Counter invalid_token;
    };
    const Counters& counters() const { return counters_; }

private:
    http::Response respond(const http::Request& request, uint64_t now_ms);
    http::Response get(const http::Request& request, uint64_t now_ms);
    http::Response put_token(const http::Request& request, uint64_t now_ms);
    http::Response show(const http::Request& request) const;

    const DataStore& data_;
    TokenAuthority tokens_;
    config::MmdsVersion version_ = config::MmdsVersion::kV1;
    bool imds_compat_ = false;
    Counters counters_;
};

}  // namespace wisp::mmds
