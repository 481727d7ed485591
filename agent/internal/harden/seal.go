package harden

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Sealed is what the process may still do.
type Sealed struct {
	Capabilities []string `json:"capabilities"` // that it keeps
	Bounding     []string `json:"bounding"`     // that an execve could give it, if it could execve
	NoNewPrivs   bool     `json:"no_new_privileges"`
	Calls        int      `json:"calls_allowed"`   // system calls that a filter lets through; 0 = no filter
	Confined     bool     `json:"writes_confined"` // it can change no file that it has not open
}

// standing is what the agent needs for good: to find, by its handle, the control group of a process that is gone.
var standing = set(unix.CAP_DAC_READ_SEARCH)

// Seal drops every capability but the standing one, what keeps memory locked, and those without which trial fails on
// this kernel, forgoes new privileges, forbids changes to files, and filters system calls, in all threads and for good.
// Trial is to do what the agent goes on doing: change the kernel's maps, run programs, ask for their state. The error
// says what could not be done; the rest is in force.
func Seal(m Memory, trial func() error) (Sealed, error) {
	keep, problem := enough(standing|m.keep, trial)
	all := []error{problem, onlyKeep(keep), noNewPrivileges()}
	confined := confineWrites()
	all = append(all, confined, filterCalls())
	s := Sealed{Confined: confined == nil}
	effective, _, err := held()
	s.Capabilities = effective.List()
	s.Bounding = bounding().List()
	if err = errors.Join(err, verify(keep)); err == nil {
		s.NoNewPrivs, s.Calls = true, len(allowed())
	}
	return s, errors.Join(append(all, err)...)
}

// enough is the smallest of three sets with which trial works. Kernels before 6.0 may want CAP_BPF even to use a map
// that is open already, if kernel.unprivileged_bpf_disabled is set.
func enough(least Capabilities, trial func() error) (Capabilities, error) {
	var problem error
	for _, more := range []Capabilities{0, set(unix.CAP_BPF), set(unix.CAP_BPF, unix.CAP_PERFMON)} {
		if problem = without(least|more, trial); problem == nil {
			return least | more, nil
		}
	}
	return least | set(unix.CAP_BPF, unix.CAP_PERFMON), fmt.Errorf("with few capabilities: %w", problem)
}

// bounding is what an execve could give back.
func bounding() (c Capabilities) {
	raw, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return ^c
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			if _, err := fmt.Sscanf(strings.TrimSpace(value), "%x", &c); err == nil {
				return c
			}
		}
	}
	return ^c
}
