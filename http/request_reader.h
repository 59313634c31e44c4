// SPDX-License-Identifier: Apache-2.0
//
// RequestReader: the bytes of a connection to requests, one at a time (RFC 9112). The API's server reads its clients
// with it, the metadata service its guest. What it refuses, it refuses in the words of Firecracker's HTTP server.
// ARCHITECTURE.md lists where it is stricter than that server, and where it takes more.
//
// Its bytes come from a client or a guest that may be hostile. It holds at most one request, within its limits, and its
// work is linear in the bytes that it is given. However the bytes are cut into pieces, they mean the same.
//
// Threads: its owner's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/request.h"

namespace wisp::http {

/// Bounds of one request, in bytes.
struct Limits {
    size_t request_line;  ///< with its line end
    size_t head;          ///< request line, headers and trailers, with their line ends
    size_t body;
};

/// Why a request was refused.
struct Refusal {
    enum class Kind : uint8_t {
        kMalformed,
        kTooLong,  ///< the request line or the head is over its limit
    };

    Kind kind = Kind::kMalformed;
    std::string reason;  ///< a sentence
};

class RequestReader {
public:
    enum class Step : uint8_t {
        kMore,      ///< all bytes were read, and the request is not whole yet
        kContinue,  ///< as kMore, and the client waits for "100 Continue" before it sends its body
        kRequest,   ///< take_request() has a request
        kRefused,   ///< refusal() says why; the connection cannot be used any longer
    };

    explicit RequestReader(const Limits& limits) : limits_(limits) {}

    /// Reads from `bytes`, and removes from its front what it has read: at most to the end of one request.
    Step read(std::string_view& bytes);

    /// True between the first byte of a request and take_request().
    bool in_request() const { return head_size_ > 0 || state_ != State::kRequestLine; }

    /// The request of Step::kRequest. The next read() begins another one.
    Request take_request();
    const Refusal& refusal() const { return refusal_; }

private:
    enum class State : uint8_t {
        kRequestLine,
        kHeaders,
        kBody,
        kChunkSize,
        kChunkData,
        kChunkEnd,
        kTrailers,
        kWhole,
        kRefused,
    };

    Step ask_for_more();
    void read_line(std::string_view& bytes);
    void take_line(std::string_view line);
    void read_data(std::string_view& bytes);
    size_t line_limit() const;
    bool in_head() const;

    void take_request_line(std::string_view line);
    void take_header(std::string_view line);
    void take_content_length(const Header& header);
    void take_transfer_encoding(const Header& header);
    void take_accept_encoding(const Header& header);
    void take_connection(std::string_view value);
    void end_headers();
    void take_chunk_size(std::string_view line);

    void refuse(std::string reason, Refusal::Kind kind = Refusal::Kind::kMalformed);
    void refuse_header(const char* reason, const Header& header);

    Limits limits_;
    State state_ = State::kRequestLine;
    Request request_;
    Refusal refusal_;
    std::string line_;        // the line at hand, as far as it has come
    size_t head_size_ = 0;    // bytes of lines in the head and the trailers
    uint64_t data_left_ = 0;  // bytes of the body, or of the chunk, that are still to come
    std::optional<uint32_t> content_length_;
    bool http_1_0_ = false;
    bool chunked_ = false;
    bool wants_continue_ = false;
};

}  // namespace wisp::http
