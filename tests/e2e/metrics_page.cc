#include "tests/e2e/metrics_page.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status_macros.h"

namespace descant::e2e {
namespace {

// A whole HTTP exchange; the server closes the connection.
absl::StatusOr<std::string> Get(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
      0) {
    close(fd);
    return absl::UnavailableError(absl::StrCat("nobody listens at ", port));
  }
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
  std::string response;
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) ==
      static_cast<ssize_t>(request.size())) {
    char buffer[4096];
    for (ssize_t n = 0; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      response.append(buffer, static_cast<size_t>(n));
    }
  }
  close(fd);
  return response;
}

// The name of a series.
std::string NameOf(const std::string& series) {
  return series.substr(0, series.find('{'));
}

}  // namespace

absl::StatusOr<std::string> HttpGet(int port, const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(const std::string response, Get(port, path));
  const size_t body = response.find("\r\n\r\n");
  if (body == std::string::npos ||
      !absl::StrContains(response.substr(0, response.find('\r')), " 200 ")) {
    return absl::InvalidArgumentError(response.substr(0, 500));
  }
  return response.substr(body + 4);
}

absl::StatusOr<MetricsPage> Scrape(int port) {
  DESCANT_ASSIGN_OR_RETURN(const std::string body, HttpGet(port, "/metrics"));
  MetricsPage page;
  for (const absl::string_view line :
       absl::StrSplit(absl::string_view(body), '\n')) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    double value = 0;
    if (space == absl::string_view::npos ||
        !absl::SimpleAtod(line.substr(space + 1), &value)) {
      return absl::InvalidArgumentError(line);
    }
    page[std::string(line.substr(0, space))] = value;
  }
  return page;
}

double Sum(const MetricsPage& page, const std::string& name,
           const std::string& label) {
  double sum = 0;
  for (const auto& [series, value] : page) {
    if (NameOf(series) == name && absl::StrContains(series, label)) {
      sum += value;
    }
  }
  return sum;
}

bool Has(const MetricsPage& page, const std::string& name) {
  for (const auto& [series, value] : page) {
    if (NameOf(series) == name) return true;
  }
  return false;
}

}  // namespace descant::e2e
