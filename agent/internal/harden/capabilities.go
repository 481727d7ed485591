package harden

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Capabilities is a set of them, one bit each.
type Capabilities uint64

// names of the capabilities that the agent may come to keep; others are told by number.
var names = map[int]string{
	unix.CAP_DAC_READ_SEARCH: "dac_read_search", unix.CAP_BPF: "bpf", unix.CAP_PERFMON: "perfmon",
	unix.CAP_SETPCAP: "setpcap", unix.CAP_SYS_RESOURCE: "sys_resource", unix.CAP_IPC_LOCK: "ipc_lock",
	unix.CAP_SYS_ADMIN: "sys_admin",
}

func set(all ...int) (c Capabilities) {
	for _, one := range all {
		c |= 1 << one
	}
	return c
}

// List names the capabilities of a set.
func (c Capabilities) List() []string {
	list := []string{}
	for one := range 64 {
		if c>>one&1 == 0 {
			continue
		}
		name, ok := names[one]
		if !ok {
			name = strconv.Itoa(one)
		}
		list = append(list, name)
	}
	return list
}

// held is the set that this thread may use, and the set that it could take.
func held() (effective, permitted Capabilities, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, 0, fmt.Errorf("read the capabilities: %w", err)
	}
	return Capabilities(data[1].Effective)<<32 | Capabilities(data[0].Effective),
		Capabilities(data[1].Permitted)<<32 | Capabilities(data[0].Permitted), nil
}

func capUserData(effective, permitted Capabilities) (data [2]unix.CapUserData) {
	for i := range data {
		data[i] = unix.CapUserData{Effective: uint32(effective >> (32 * i)), Permitted: uint32(permitted >> (32 * i))}
	}
	return data
}

// without runs f on a thread that can use only the capabilities of keep, and gives them back afterwards.
func without(keep Capabilities, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	effective, permitted, err := held()
	if err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	less := capUserData(effective&keep, permitted)
	if err := unix.Capset(&header, &less[0]); err != nil {
		return fmt.Errorf("lay capabilities down: %w", err)
	}
	problem := f()
	again := capUserData(effective, permitted)
	if err := unix.Capset(&header, &again[0]); err != nil {
		runtime.LockOSThread() // such a thread is of no more use: it ends with its goroutine
		return fmt.Errorf("take capabilities up again: %w", err)
	}
	return problem
}

// onlyKeep takes from every thread, and from all that it could ever start, each capability but those of keep.
func onlyKeep(keep Capabilities) error {
	var all []error
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0); e != 0 {
		all = append(all, fmt.Errorf("clear the ambient capabilities: %w", e))
	}
	// It takes CAP_SETPCAP to narrow the bounding set. An agent without it keeps that set as it was given (Sealed tells):
	// it matters only to an execve, which no sealed agent can make.
	effective, _, _ := held()
	for one := range lastCapability() + 1 {
		if effective&set(unix.CAP_SETPCAP) == 0 || keep>>one&1 != 0 {
			continue
		}
		if inSet, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(one), 0, 0, 0); err != nil || inSet == 0 {
			continue
		}
		if _, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(one), 0); e != 0 {
			all = append(all, fmt.Errorf("narrow the bounding set: %w", e))
			break
		}
	}
	return errors.Join(append(all, setAll(keep))...)
}

func lastCapability() int {
	raw, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return unix.CAP_LAST_CAP
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || last < 0 || last > 63 {
		return unix.CAP_LAST_CAP
	}
	return last
}
