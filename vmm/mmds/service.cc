// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/service.h"

#include <charconv>
#include <optional>

namespace wisp::mmds {

namespace {

std::optional<uint32_t> number(std::string_view text) {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

http::Response text(int status, std::string body) {
    http::Response response;
    response.status = status;
    response.body = std::move(body);
    response.content_type = "text/plain";
    return response;
}

http::Response not_found(const std::string& path) {
    return text(404, "Resource not found: " + path + ".");
}

std::string without_empty_segments(std::string_view path) {
    std::string out;
    for (const char c : path)
        if (c != '/' || !out.ends_with('/')) out += c;
    return out;
}

}  // namespace

std::string Service::answer(const http::Request& request, uint64_t now_ms) {
    return http::serialize(respond(request, now_ms), http::Connection::kKeepAlive);
}

std::string Service::refuse(const http::Refusal& refusal) {
    return http::serialize(text(400, refusal.reason), http::Connection::kClose);
}

http::Response Service::respond(const http::Request& request, uint64_t now_ms) {
    if (request.path.empty()) return text(400, "Invalid URI.");
    if (request.method == http::Method::kGet) return get(request, now_ms);
    if (request.method == http::Method::kPut) return put_token(request, now_ms);
    http::Response response = text(405, "Not allowed HTTP method.");
    response.headers = "Allow: GET, PUT\r\n";
    return response;
}

http::Response Service::get(const http::Request& request, uint64_t now_ms) {
    const auto token = request.find_header({"x-metadata-token", "x-aws-ec2-metadata-token"});
    const bool valid = token && tokens_.valid(token->value, now_ms);
    if (!token)
        ++counters_.no_token;
    else if (!valid)
        ++counters_.invalid_token;
    if (version_ == config::MmdsVersion::kV2 && !token)
        return text(401,
                    "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify "
                    "the session token.");
    if (version_ == config::MmdsVersion::kV2 && !valid) return text(401, "MMDS token not valid.");
    return show(request);
}

/// The value that a request asks for. Before a client has written any metadata, the document is null.
http::Response Service::show(const http::Request& request) const {
    static const config::Value kNull;
    const auto document = data_.document();
    const config::Value* const value = find(document ? *document : kNull, request.path);
    if (!value) return not_found(request.path);
    const auto accept = request.find_header({"accept"});
    if (!imds_compat_ && accept && accept->value == "application/json") {
        http::Response response = text(200, config::to_json(*value));
        response.content_type = "application/json";
        return response;
    }
    std::optional<std::string> shown = to_imds_text(*value);
    if (!shown) return text(501, "Cannot retrieve value. The value has an unsupported type.");
    return text(200, *std::move(shown));
}

http::Response Service::put_token(const http::Request& request, uint64_t now_ms) {
    // A proxy in the guest must not fetch a token for another host.
    if (const auto forwarded = request.find_header({"x-forwarded-for"}))
        return text(400, "Invalid header. Reason: Unsupported header name. Key: " + std::string(forwarded->name));
    if (without_empty_segments(request.path) != "/latest/api/token") return not_found(request.path);
    const auto lifetime = request.find_header({"x-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token-ttl-seconds"});
    if (!lifetime)
        return text(400,
                    "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
                    "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.");
    const std::string name(lifetime->name), value(lifetime->value);
    const auto seconds = number(value);
    if (!seconds) return text(400, "Invalid header. Reason: Invalid value. Key:" + name + "; Value:" + value);
    if (*seconds < kMinTokenSeconds || *seconds > kMaxTokenSeconds)
        return text(400, "Invalid time to live value provided for token: " + value +
                             format(". Please provide a value between %u and %u.", kMinTokenSeconds, kMaxTokenSeconds));
    http::Response response = text(200, tokens_.issue(*seconds, now_ms));
    response.headers = name + format(": %u\r\n", *seconds);
    return response;
}

}  // namespace wisp::mmds
