// SPDX-License-Identifier: Apache-2.0
#include "api/request_reader.h"

#include <catch2/catch.hpp>

#include "api/limits.h"

using namespace wisp::api;

namespace {

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
            if (step == RequestReader::Step::kError) return steps;
        }
    }
    return steps;
}

std::string error_of(std::string_view text, size_t max_body = 100) {
    RequestReader reader(max_body);
    std::vector<Request> requests;
    const auto steps = feed(reader, text, text.size(), requests);
    REQUIRE_FALSE(steps.empty());
    if (steps.back() != RequestReader::Step::kError) return "none";
    return reader.error().body;
}

}  // namespace

TEST_CASE("requests come out whole and in order, however the bytes are cut") {
    const std::string text =
        "GET /version HTTP/1.1\r\n\r\n"
        "PUT /mmds HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"a\":1}"
        "PATCH http://localhost/vm HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        "DELETE /drives/a HTTP/1.0\r\n\r\n";
    for (size_t piece = 1; piece <= text.size(); ++piece) {
        RequestReader reader(100);
        std::vector<Request> requests;
        feed(reader, text, piece, requests);
        REQUIRE(requests.size() == 4);
        CHECK(requests[0].method == Method::kGet);
        CHECK(requests[0].path == "/version");
        CHECK(requests[0].keep_alive);
        CHECK(requests[1].body == "{\"a\":1}");
        CHECK(requests[2].method == Method::kPatch);
        CHECK(requests[2].path == "/vm");
        CHECK(requests[2].body == "{}");
        CHECK(requests[3].method == Method::kDelete);
        CHECK_FALSE(requests[3].keep_alive);
        CHECK_FALSE(reader.in_request());
    }
}

TEST_CASE("a client that waits for 100 Continue is seen once, and only where a body is to come") {
    RequestReader reader(100);
    std::vector<Request> requests;
    CHECK(feed(reader, "PUT /mmds HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n", 1000, requests) ==
          std::vector{RequestReader::Step::kContinue});
    CHECK(feed(reader, "{}", 1000, requests) == std::vector{RequestReader::Step::kRequest});
    CHECK(feed(reader, "GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 1000, requests) ==
          std::vector{RequestReader::Step::kRequest});
}

TEST_CASE("bounds hold for path, head and body") {
    CHECK(error_of("GET /" + std::string(kMaxPath, 'a') + " HTTP/1.1\r\n\r\n").find("Invalid request.") !=
          std::string::npos);
    CHECK(error_of("GET / HTTP/1.1\r\nA: " + std::string(kMaxHead, 'a') + "\r\n\r\n").find("head is larger") !=
          std::string::npos);
    CHECK(error_of("PUT / HTTP/1.1\r\nContent-Length: 101\r\n\r\n").find("size 101 is larger than the limit of 100") !=
          std::string::npos);
    CHECK(error_of("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + std::string(0x65, 'x'))
              .find("limit of 100") != std::string::npos);
    CHECK(error_of("PUT / HTTP/1.1\r\nContent-Length: 100\r\n\r\n" + std::string(100, 'x')) == "none");
}

TEST_CASE("what is not HTTP/1 is refused in Firecracker's form") {
    CHECK(error_of("hello there\r\n\r\n").starts_with("{ \"error\": \"Invalid"));
    CHECK(error_of("hello there\r\n\r\n").ends_with("\nAll previous unanswered requests will be dropped.\" }"));
    CHECK(error_of("GET / HTTP/3.0\r\n\r\n").find("Unsupported HTTP version.") != std::string::npos);
    CHECK(error_of("GET / HTTP/1.1\r\nA\r\n\r\n").find("Invalid header.") != std::string::npos);
    CHECK(error_of("PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").find("error") !=
          std::string::npos);
}

TEST_CASE("answers have Firecracker's heads") {
    CHECK(serialize(Response::json("{}"), true) ==
          "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
          "Content-Length: 2\r\n\r\n{}");
    Response deprecated;
    deprecated.deprecated = true;
    CHECK(serialize(deprecated, true) ==
          "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nDeprecation: true\r\n\r\n");
    CHECK(Response::fault("a \"b\"").body == R"({"fault_message":"a \"b\""})");
}
