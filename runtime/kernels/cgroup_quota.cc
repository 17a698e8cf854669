#include "runtime/kernels/cgroup_quota.h"

#include <algorithm>
#include <fstream>
#include <limits>

namespace descant::kernels {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

double Quota(double time, double period) {
  return time > 0 && period > 0 ? time / period : kNone;
}

// "200000 100000", or "max 100000".
double QuotaV2(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  double time = 0, period = 0;
  return file >> time >> period ? Quota(time, period) : kNone;
}

// -1: none.
double QuotaV1(const std::string& group) {
  std::ifstream time_file(group + "/cpu.cfs_quota_us");
  std::ifstream period_file(group + "/cpu.cfs_period_us");
  double time = 0, period = 0;
  if (!(time_file >> time) || !(period_file >> period)) return kNone;
  return Quota(time, period);
}

// Of the group `path` ("/a/b", or "/") and all above it.
template <typename QuotaOf>
double LeastQuota(const std::string& mount, std::string path,
                  const QuotaOf& quota_of) {
  double least = quota_of(mount);
  while (path.size() > 1) {
    least = std::min(least, quota_of(mount + path));
    path.resize(path.rfind('/'));
  }
  return least;
}

bool Names(const std::string& controllers, const std::string& wanted) {
  return ("," + controllers + ",").find("," + wanted + ",") !=
         std::string::npos;
}

}  // namespace

int32_t CgroupCpus(const std::string& membership, const std::string& mount) {
  double least = kNone;
  std::ifstream file(membership);
  // hierarchy:controllers:path
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') continue;
    if (controllers.empty()) {
      least = std::min(least, LeastQuota(mount, path, &QuotaV2));
    } else if (Names(controllers, "cpu")) {
      for (const std::string& name : {controllers, std::string("cpu")}) {
        least = std::min(least, LeastQuota(mount + "/" + name, path, &QuotaV1));
      }
    }
  }
  if (least >= std::numeric_limits<int32_t>::max()) {
    return std::numeric_limits<int32_t>::max();
  }
  return std::max(1, static_cast<int32_t>(least));
}

}  // namespace descant::kernels
