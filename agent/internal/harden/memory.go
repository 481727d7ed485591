// Package harden takes from the running agent all that it no longer needs, and says what is left.
package harden

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Memory is whether what the agent holds can get onto a disk.
type Memory struct {
	Locked     bool   `json:"memory_locked"` // no page of it is ever swapped
	WhyNot     string `json:"memory_not_locked_because,omitempty"`
	NoCoreDump bool   `json:"no_core_dump"`

	keep Capabilities // what that depends on
}

// Guard keeps the process's memory out of swap and of core dumps, as far as it is allowed to. Call it before
// there is anything to keep.
//
// Pages are locked as they are first touched (MCL_ONFAULT): Go reserves far more address space than it uses, and
// locking all of that at once would fill memory.
func Guard() Memory {
	unix.Umask(0o077)
	var m Memory
	none := unix.Rlimit{}
	m.NoCoreDump = unix.Setrlimit(unix.RLIMIT_CORE, &none) == nil && unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) == nil
	// Under a limit, one mapping too many would end the process, unless it keeps the capability to lock without limit.
	all := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &all); err != nil {
		effective, _, _ := held()
		if m.keep = effective & set(unix.CAP_IPC_LOCK); m.keep == 0 {
			m.WhyNot = fmt.Sprintf("lift the limit on locked memory: %s", err)
			return m
		}
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		m.keep = 0
		m.WhyNot = fmt.Sprintf("mlockall: %s", err)
		return m
	}
	m.Locked = true
	return m
}
