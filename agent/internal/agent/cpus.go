package agent

import (
	"fmt"
	"os"
	"strings"
)

// onlineCPUs says which CPUs were on at the start; counters of others appear once they see something.
func onlineCPUs() func(int) bool {
	raw, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return func(int) bool { return true }
	}
	online := parseCPUList(strings.TrimSpace(string(raw)))
	return func(cpu int) bool { return online[cpu] }
}

// parseCPUList reads the kernel's lists: "0-3,8".
func parseCPUList(list string) map[int]bool {
	cpus := make(map[int]bool)
	for part := range strings.SplitSeq(list, ",") {
		var from, to int
		if n, _ := fmt.Sscanf(part, "%d-%d", &from, &to); n == 1 {
			to = from
		} else if n == 0 {
			continue
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus[cpu] = true
		}
	}
	return cpus
}
