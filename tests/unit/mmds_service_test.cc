// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/service.h"

#include <catch2/catch.hpp>

#include "vmm/config/json.h"

using namespace wisp;
using namespace wisp::mmds;

namespace {

struct Fixture {
    DataStore data{10000};
    Service service{data, TokenAuthority({1, 2})};
    uint64_t now_ms = 1'000'000;

    Fixture() {
        REQUIRE(data.put(*config::parse_json_strict(R"({"latest":{"meta-data":{"ami":"x","n":5,"tags":{"a":"b"}}}})")));
    }
    void use(config::MmdsVersion version, bool imds_compat = false) {
        config::MmdsConfig config;
        config.version = version;
        config.imds_compat = imds_compat;
        service.configure(config);
    }
    std::string ask_bytes(const std::string& text) {
        http::RequestReader reader({1000, 2000, 100});
        std::string_view bytes = text;
        if (reader.read(bytes) != http::RequestReader::Step::kRequest) return Service::refuse(reader.refusal());
        return service.answer(reader.take_request(), now_ms);
    }
    std::string ask(const std::string& line, const std::string& headers = "") {
        return ask_bytes(line + " HTTP/1.1\r\n" + headers + "\r\n");
    }
    std::string body(const std::string& line, const std::string& headers = "") {
        const std::string answer = ask(line, headers);
        return answer.substr(answer.find("\r\n\r\n") + 4);
    }
    int status(const std::string& line, const std::string& headers = "") {
        return atoi(ask(line, headers).c_str() + 9);
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "V1 answers plain GETs, as text or as JSON") {
    CHECK(body("GET /latest/meta-data") == "ami\nn\ntags/");
    CHECK(body("GET /latest/meta-data/ami") == "x");
    CHECK(body("GET http://169.254.169.254/latest/meta-data/ami") == "x");
    CHECK(body("GET /latest/meta-data", "Accept: application/json\r\n") == R"({"ami":"x","n":5,"tags":{"a":"b"}})");
    CHECK(ask("GET /latest/meta-data", "accept: application/json\r\n").find("Content-Type: application/json") !=
          std::string::npos);
    CHECK(status("GET /latest/meta-data/n") == 501);
    CHECK(body("GET /latest/meta-data/n", "Accept: application/json\r\n") == "5");
    CHECK(status("GET /nothing") == 404);
    CHECK(body("GET /nothing") == "Resource not found: /nothing.");
    use(config::MmdsVersion::kV1, true);
    CHECK(body("GET /latest/meta-data", "Accept: application/json\r\n") == "ami\nn\ntags/");
}

TEST_CASE_METHOD(Fixture, "V2 wants a token that it has given") {
    use(config::MmdsVersion::kV2);
    CHECK(status("GET /latest") == 401);
    CHECK(body("GET /latest").starts_with("No MMDS token provided."));
    const std::string token = body("PUT /latest/api/token", "X-metadata-token-ttl-seconds: 60\r\n");
    CHECK(token.size() <= kMaxTokenLength);
    CHECK(ask("PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n")
              .find("X-aws-ec2-metadata-token-ttl-seconds: 60\r\n") != std::string::npos);
    CHECK(body("GET /latest", "x-metadata-token: " + token + "\r\n") == "meta-data/");
    CHECK(body("GET /latest", "X-aws-ec2-metadata-token: " + token + "\r\n") == "meta-data/");
    CHECK(body("GET /latest", "X-metadata-token: " + token + "x\r\n") == "MMDS token not valid.");
    for (size_t i = 0; i < token.size(); ++i) {
        std::string forged = token;
        forged[i] = forged[i] == 'A' ? 'B' : 'A';
        CHECK(status("GET /latest", "X-metadata-token: " + forged + "\r\n") == 401);
    }
    now_ms += 60'000;
    CHECK(status("GET /latest", "X-metadata-token: " + token + "\r\n") == 401);
    CHECK(service.counters().no_token == 2);
    CHECK(service.counters().invalid_token == token.size() + 2);
}

TEST_CASE_METHOD(Fixture, "a request for a token can be wrong in many ways") {
    CHECK(status("PUT /latest/api/token") == 400);
    CHECK(body("PUT /latest/api/token").starts_with("Token time to live value not found."));
    for (const char* seconds : {"0", "21601"})
        CHECK(body("PUT /latest/api/token", std::string("X-metadata-token-ttl-seconds: ") + seconds + "\r\n")
                  .starts_with("Invalid time to live value provided for token: "));
    for (const std::string seconds : {"x", "-1", "", "99999999999"})
        CHECK(body("PUT /latest/api/token", "X-metadata-token-ttl-seconds: " + seconds + "\r\n") ==
              "Invalid header. Reason: Invalid value. Key:X-metadata-token-ttl-seconds; Value:" + seconds);
    CHECK(status("PUT //latest//api/token", "X-metadata-token-ttl-seconds: 60\r\n") == 200);
    CHECK(status("PUT /latest/api/token", "X-metadata-token-ttl-seconds: 21600\r\n") == 200);
    CHECK(status("PUT /latest/api/token", "X-metadata-token-ttl-seconds: 60\r\nX-Forwarded-For: 1.2.3.4\r\n") == 400);
    CHECK(status("PUT /other", "X-metadata-token-ttl-seconds: 60\r\n") == 404);
    CHECK(status("POST /latest") == 405);
    CHECK(ask("DELETE /latest").find("Allow: GET, PUT\r\n") != std::string::npos);
    CHECK(body("GET latest") == "Invalid URI.");
    CHECK(ask_bytes("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 \r\n"));
    CHECK(ask_bytes("nonsense\r\n\r\n").find("Connection: close\r\n") != std::string::npos);
    CHECK(ask("PUT /latest/api/token", "X-Forwarded-For: 1.2.3.4\r\n").ends_with("Key: X-Forwarded-For"));
}

TEST_CASE_METHOD(Fixture, "a path is a JSON pointer, and only a request that accepts JSON alone gets JSON") {
    REQUIRE(data.put(*config::parse_json_strict(R"({"a":{"x/y":"slash","t~u":"tilde","~1":"escape"}})")));
    CHECK(body("GET /a/x~1y") == "slash");
    CHECK(body("GET /a/t~0u") == "tilde");
    CHECK(body("GET /a/~01") == "escape");
    CHECK(status("GET /a/x/y") == 404);
    CHECK(body("GET /a", "Accept: application/json, */*\r\n") == "t~u\nx/y\n~1");
    CHECK(body("GET /a", "Accept: text/html\r\nAccept: application/json\r\n").starts_with("{"));
}

TEST_CASE("before a client has written metadata, the document is null, as Firecracker has it") {
    DataStore data{1000};
    Service service{data, TokenAuthority({1, 2})};
    const auto ask = [&](const char* path, const char* headers) {
        http::Request request;
        request.method = http::Method::kGet;
        request.path = path;
        request.headers = headers;
        return service.answer(request, 0);
    };
    CHECK(ask("/", "").starts_with("HTTP/1.1 501 "));
    CHECK(ask("/", "Accept: application/json\r\n").ends_with("\r\n\r\nnull"));
    CHECK(ask("/a", "").starts_with("HTTP/1.1 404 "));
    CHECK(data.to_json() == "{}");
}

TEST_CASE("the keyed hash is SipHash-2-4-128") {
    // First entries of the reference vectors: key 00..0f, inputs of 0 and 1 bytes (00).
    const TokenAuthority::Key key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    CHECK(siphash128(key, "") == std::array<uint64_t, 2>{0xe6a825ba047f81a3, 0x930255c71472f66d});
    CHECK(siphash128(key, std::string_view("\0", 1)) ==
          std::array<uint64_t, 2>{0x44af996bd8c187da, 0x45fc229b11597634});
}
