// How many CPUs the process's cgroup pays for.
#ifndef DESCANT_RUNTIME_KERNELS_CGROUP_QUOTA_H_
#define DESCANT_RUNTIME_KERNELS_CGROUP_QUOTA_H_

#include <cstdint>
#include <string>

namespace descant::kernels {

// The least quota of the process's own cgroup and those above it, in whole
// CPUs, at least 1; INT32_MAX without one. Reads version 2 (cpu.max) and
// version 1 (cpu.cfs_quota_us of the cpu controller), whichever is there, and
// both where a machine has both. `membership` is a file such as
// /proc/self/cgroup, `mount` a directory such as /sys/fs/cgroup. In a container
// the mount may begin at the container's own group: what the path names beyond
// it isn't there, and is passed over. (cgroups(7); Linux, admin-guide/cgroup-v2
// and scheduler/sched-bwc.)
int32_t CgroupCpus(const std::string& membership = "/proc/self/cgroup",
                   const std::string& mount = "/sys/fs/cgroup");

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CGROUP_QUOTA_H_
