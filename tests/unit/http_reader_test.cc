// SPDX-License-Identifier: Apache-2.0
#include "http/request_reader.h"

#include <catch2/catch.hpp>

#include "api/message.h"
#include "base/limits.h"

using namespace wisp;
using http::Method;
using http::Request;
using http::RequestReader;

namespace {

constexpr http::Limits kLimits = {limits::kHttpRequestLine, limits::kHttpHead, 100};

/// Feeds `text` in pieces of `piece` bytes; the steps that were not kMore.
std::vector<RequestReader::Step> feed(RequestReader& reader, std::string_view text, size_t piece,
                                      std::vector<Request>& requests) {
    std::vector<RequestReader::Step> steps;
    while (!text.empty()) {
        std::string_view part = text.substr(0, piece);
        text.remove_prefix(part.size());
        while (!part.empty()) {
            const RequestReader::Step step = reader.read(part);
            if (step != RequestReader::Step::kMore) steps.push_back(step);
            if (step == RequestReader::Step::kRequest) requests.push_back(reader.take_request());
            if (step == RequestReader::Step::kRefused) return steps;
        }
    }
    return steps;
}

/// Why the text is refused, or "none". However it is cut, the reason is the same.
std::string refusal_of(const std::string& text) {
    std::string reason;
    for (const size_t piece : {text.size(), size_t{1}, size_t{7}}) {
        RequestReader reader(kLimits);
        std::vector<Request> requests;
        const auto steps = feed(reader, text, piece, requests);
        const bool refused = !steps.empty() && steps.back() == RequestReader::Step::kRefused;
        const std::string seen = refused ? reader.refusal().reason : "none";
        if (!reason.empty()) CHECK(seen == reason);
        reason = seen;
    }
    return reason;
}

Request only(const std::string& text) {
    RequestReader reader(kLimits);
    std::vector<Request> requests;
    feed(reader, text, text.size(), requests);
    REQUIRE(requests.size() == 1);
    return requests[0];
}

std::string with_header(const std::string& line) {
    return "PUT / HTTP/1.1\r\n" + line + "\r\n\r\n";
}

}  // namespace

TEST_CASE("requests come out whole and in order, however the bytes are cut") {
    const std::string text =
        "GET /version HTTP/1.1\r\n\r\n"
        "PUT /mmds HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"a\":1}"
        "PATCH http://localhost/vm HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\nA: "
        "b\r\n\r\n"
        "\r\nDELETE /drives/a HTTP/1.0\r\n\r\n";
    for (size_t piece = 1; piece <= text.size(); ++piece) {
        RequestReader reader(kLimits);
        std::vector<Request> requests;
        feed(reader, text, piece, requests);
        REQUIRE(requests.size() == 4);
        CHECK(requests[0].method == Method::kGet);
        CHECK(requests[0].path == "/version");
        CHECK(requests[0].keep_alive);
        CHECK(requests[1].body == "{\"a\":1}");
        CHECK(requests[1].find_header({"HOST"})->value == "x");
        CHECK_FALSE(requests[1].find_header({"accept"}));
        CHECK(requests[2].method == Method::kPatch);
        CHECK(requests[2].path == "/vm");
        CHECK(requests[2].body == "{}");
        CHECK(requests[3].method == Method::kDelete);
        CHECK_FALSE(requests[3].keep_alive);
        CHECK_FALSE(reader.in_request());
    }
}

TEST_CASE("a client that waits for 100 Continue is seen once, and only where a body is to come") {
    RequestReader reader(kLimits);
    std::vector<Request> requests;
    CHECK(feed(reader, "PUT /mmds HTTP/1.1\r\nExpect: 100-Continue\r\n", 1000, requests).empty());
    CHECK(feed(reader, "Content-Length: 2\r\n\r\n", 1000, requests) == std::vector{RequestReader::Step::kContinue});
    CHECK(feed(reader, "{}", 1000, requests) == std::vector{RequestReader::Step::kRequest});
    CHECK(feed(reader, "GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 1000, requests) ==
          std::vector{RequestReader::Step::kRequest});
    CHECK(feed(reader, "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", 1000, requests) ==
          std::vector{RequestReader::Step::kRequest});
}

TEST_CASE("bounds hold for path, head and body") {
    const std::string line = "GET / HTTP/1.1\r\n";
    CHECK(refusal_of("GET /" + std::string(limits::kHttpRequestLine - line.size(), 'a') + " HTTP/1.1\r\n\r\n") ==
          "none");
    CHECK(refusal_of("GET /" + std::string(limits::kHttpRequestLine - line.size() + 1, 'a') + " HTTP/1.1\r\n\r\n") ==
          "Invalid request.");
    CHECK(refusal_of(with_header("A: " + std::string(limits::kHttpHead, 'a'))) ==
          "Invalid header. Reason: The head is larger than 16384 bytes.");
    CHECK(refusal_of(with_header("Content-Length: 101")) ==
          "Request payload with size 101 is larger than the limit of 100 allowed by server.");
    CHECK(refusal_of(with_header("Content-Length: 100") + std::string(100, 'x')) == "none");
    const std::string chunked = with_header("Transfer-Encoding: chunked");
    CHECK(refusal_of(chunked + "64\r\n" + std::string(100, 'x') + "\r\n0\r\n\r\n") == "none");
    CHECK(refusal_of(chunked + "65\r\n").find("limit of 100") != std::string::npos);
    CHECK(refusal_of(chunked + "64\r\n" + std::string(100, 'x') + "\r\n1\r\n").find("limit of 100") !=
          std::string::npos);
    CHECK(refusal_of(chunked + std::string(limits::kHttpChunkLine + 1, '0') + "\r\n") == "Invalid request.");
}

TEST_CASE("what is malformed is refused in Firecracker's words") {
    CHECK(refusal_of("hello\r\n") == "Invalid request.");
    CHECK(refusal_of("hello there\r\n") == "Invalid request.");
    CHECK(refusal_of("h@ / HTTP/1.1\r\n") == "Invalid HTTP Method: Unsupported HTTP method.");
    CHECK(refusal_of("GET  HTTP/1.1\r\n") == "Invalid URI: Empty URI not allowed.");
    CHECK(refusal_of("GET /\xff HTTP/1.1\r\n") == "Invalid URI: Cannot parse URI as UTF-8.");
    CHECK(refusal_of("GET / HTTP/3.0\r\n") == "Invalid HTTP Version: Unsupported HTTP version.");
    CHECK(refusal_of("GET / http/1.1\r\n") == "Invalid HTTP Version: Unsupported HTTP version.");
    CHECK(refusal_of("GET / HTTP/1.1 \r\n") == "Invalid HTTP Version: Unsupported HTTP version.");
    CHECK(refusal_of(with_header("Foo")) == "Invalid header. Reason: Header is incorrectly formatted. Key: Foo");
    CHECK(refusal_of(with_header("Content-Length: abc")) ==
          "Invalid header. Reason: Invalid value. Key:Content-Length; Value: abc");
    CHECK(refusal_of(with_header("Content-Length: 4294967296")).starts_with("Invalid header. Reason: Invalid value."));
    CHECK(refusal_of(with_header("Content-Length: -1")).starts_with("Invalid header. Reason: Invalid value."));
    CHECK(refusal_of(with_header("A: \xff")) == "Invalid header. Reason: Header contains invalid characters.");
}

TEST_CASE("an encoding of the answer that cannot be given is refused as Firecracker does") {
    const std::string reason = "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:";
    CHECK(refusal_of(with_header("Accept-Encoding: identity;q=0")) == reason + "identity;q=0");
    CHECK(refusal_of(with_header("accept-encoding: gzip, identity;q=0")) == reason + " identity;q=0");
    CHECK(refusal_of(with_header("Accept-Encoding: *;q=0")) == reason + "*;q=0");
    CHECK(refusal_of(with_header("Accept-Encoding: *;q=0, identity")) == "none");
    CHECK(refusal_of(with_header("Accept-Encoding: gzip, deflate;q=0")) == "none");
    CHECK(refusal_of(with_header("Accept-Encoding:")) == "none");
}

TEST_CASE("what two readers could read differently is refused") {
    CHECK(refusal_of("GET / HTTP/1.1\n\n") == "Invalid request.");
    CHECK(refusal_of("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n") == "Invalid request.");
    CHECK(refusal_of("GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n") == "Invalid request.");
    CHECK(refusal_of("GET /\x01 HTTP/1.1\r\n") == "Invalid request.");
    CHECK(refusal_of(std::string("GET /\0", 6)) == "Invalid request.");
    CHECK(refusal_of(with_header("A: \x7f")) == "Invalid header. Reason: Header contains invalid characters.");
    CHECK(refusal_of(with_header("Content-Length : 1")).starts_with("Invalid header."));
    CHECK(refusal_of(with_header(" folded: x")).starts_with("Invalid header."));
    CHECK(refusal_of(with_header(": x")).starts_with("Invalid header."));
    CHECK(refusal_of(with_header("Content-Length: 5\r\nContent-Length: 6")).starts_with("Invalid header."));
    CHECK(refusal_of(with_header("Content-Length: 1\r\nContent-Length: 1") + "x") == "none");
    CHECK(refusal_of(with_header("Content-Length: 1\r\nTransfer-Encoding: chunked")) == "Invalid request.");
    CHECK(refusal_of(with_header("Transfer-Encoding: gzip")) ==
          "Invalid header. Reason: Unsupported value. Key:Transfer-Encoding; Value: gzip");
    CHECK(refusal_of("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").starts_with("Invalid header."));
    const std::string chunked = with_header("Transfer-Encoding: chunked");
    for (const char* size : {"zz", "", "-1", "0x1", "10000000000000000"})
        CHECK(refusal_of(chunked + size + "\r\n") == "Invalid request.");
    CHECK(refusal_of(chunked + "1\r\nxy\r\n") == "Invalid request.");
}

TEST_CASE("the path is that of the target, and empty where it has none") {
    const auto path = [](const std::string& target) { return only("GET " + target + " HTTP/1.1\r\n\r\n").path; };
    CHECK(path("/a?b") == "/a?b");
    CHECK(path("http://host:1/a") == "/a");
    CHECK(path("http://host").empty());
    CHECK(path("version").empty());
    CHECK(path("*").empty());
    CHECK(path("https://host/a").empty());
}

TEST_CASE("a method that nothing answers is a request all the same") {
    const Request request = only("POST /vm HTTP/1.1\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\n{}");
    CHECK(request.method == Method::kOther);
    CHECK(request.body == "{}");
    CHECK_FALSE(request.keep_alive);
    CHECK(only("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
}

TEST_CASE("answers have Firecracker's heads") {
    using api::Response;
    constexpr auto kKeepAlive = http::Connection::kKeepAlive;
    CHECK(serialize(Response::json("{}"), kKeepAlive) ==
          "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
          "Content-Length: 2\r\n\r\n{}");
    Response deprecated;
    deprecated.headers = "Deprecation: true\r\n";
    CHECK(serialize(deprecated, kKeepAlive) ==
          "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nDeprecation: true\r\n\r\n");
    CHECK(Response::fault("a \"b\"").body == R"({"fault_message":"a \"b\""})");
    CHECK(Response::protocol_error("Invalid request.").body ==
          "{ \"error\": \"Invalid request.\nAll previous unanswered requests will be dropped.\" }");
    CHECK(serialize(Response::too_many_connections(), http::Connection::kClose).starts_with("HTTP/1.1 503 \r\n"));
}
