package harden

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attempt is something that a sealed agent must not be able to do, and what came of trying it.
type Attempt struct {
	What    string `json:"what"`
	Refused bool   `json:"refused"` // with EPERM
	Said    string `json:"said"`
}

// Attempts tries them in this process. Each has arguments with which it does no harm where it is allowed; it then fails
// with another error than EPERM, or succeeds.
func Attempts() []Attempt {
	nowhere, _ := unix.BytePtrFromString("/proc/self/no such file")
	null, _ := unix.BytePtrFromString("/dev/null")
	path, nothing := uintptr(unsafe.Pointer(nowhere)), uintptr(0)
	readOnly := unix.AT_FDCWD
	tries := []struct {
		what string
		call func() unix.Errno
	}{
		{"execve", func() unix.Errno { return try(unix.SYS_EXECVE, path, nothing, nothing) }},
		{"execveat", func() unix.Errno { return try(unix.SYS_EXECVEAT, uintptr(readOnly), path, nothing) }},
		{"clone a process", func() unix.Errno { return try(unix.SYS_CLONE, unix.CLONE_SIGHAND, nothing, nothing) }},
		{"clone3", func() unix.Errno { return try(unix.SYS_CLONE3, nothing, nothing, nothing) }},
		{"ptrace", func() unix.Errno { return try(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 0x7fffffff, nothing) }},
		{"process_vm_readv", func() unix.Errno { return try(unix.SYS_PROCESS_VM_READV, 0x7fffffff, nothing, nothing) }},
		{"kill", func() unix.Errno { return try(unix.SYS_KILL, 0x7fffffff, nothing, nothing) }},
		{"mount", func() unix.Errno { return try(unix.SYS_MOUNT, path, path, path) }},
		{"unshare", func() unix.Errno { return try(unix.SYS_UNSHARE, 1, nothing, nothing) }},
		{"init_module", func() unix.Errno { return try(unix.SYS_INIT_MODULE, nothing, nothing, nothing) }},
		{"finit_module", func() unix.Errno { return try(unix.SYS_FINIT_MODULE, ^nothing, nothing, nothing) }},
		{"load a program into the kernel", func() unix.Errno { return try(unix.SYS_BPF, unix.BPF_PROG_LOAD, nothing, nothing) }},
		{"make a map in the kernel", func() unix.Errno { return try(unix.SYS_BPF, unix.BPF_MAP_CREATE, nothing, nothing) }},
		{"perf_event_open", func() unix.Errno { return try(unix.SYS_PERF_EVENT_OPEN, nothing, nothing, nothing) }},
		{"io_uring_setup", func() unix.Errno { return try(unix.SYS_IO_URING_SETUP, nothing, nothing, nothing) }},
		{"open a file to write", func() unix.Errno {
			return try(unix.SYS_OPENAT, uintptr(readOnly), uintptr(unsafe.Pointer(null)), unix.O_WRONLY)
		}},
		{"openat2", func() unix.Errno { return try(unix.SYS_OPENAT2, uintptr(readOnly), path, nothing) }},
		{"delete a file", func() unix.Errno { return try(unix.SYS_UNLINKAT, uintptr(readOnly), path, nothing) }},
		{"rename a file", func() unix.Errno { return try(unix.SYS_RENAMEAT2, uintptr(readOnly), path, uintptr(readOnly)) }},
		{"chmod a file", func() unix.Errno { return try(unix.SYS_FCHMODAT, uintptr(readOnly), path, nothing) }},
		{"truncate a file", func() unix.Errno { return try(unix.SYS_TRUNCATE, path, nothing, nothing) }},
		{"open a packet socket", func() unix.Errno { return try(unix.SYS_SOCKET, unix.AF_PACKET, ^nothing, nothing) }},
		{"open a netlink socket", func() unix.Errno { return try(unix.SYS_SOCKET, unix.AF_NETLINK, ^nothing, nothing) }},
		{"listen", func() unix.Errno { return try(unix.SYS_LISTEN, ^nothing, nothing, nothing) }},
		{"make memory executable", func() unix.Errno {
			return try(unix.SYS_MPROTECT, 1, 4096, unix.PROT_READ|unix.PROT_EXEC)
		}},
		{"setuid", func() unix.Errno { return try(unix.SYS_SETRESUID, ^nothing, ^nothing, ^nothing) }},
		{"take capabilities", func() unix.Errno { return try(unix.SYS_CAPSET, nothing, nothing, nothing) }},
	}
	var all []Attempt
	for _, one := range tries {
		e := one.call()
		said := "it was allowed"
		if e != 0 {
			said = fmt.Sprint(unix.ErrnoName(e))
		}
		all = append(all, Attempt{one.what, e == unix.EPERM, said})
	}
	return all
}

// try makes one call. What it opens, if it succeeds, stays open.
func try(number uintptr, a, b, c uintptr) unix.Errno {
	_, _, e := unix.Syscall6(number, a, b, c, 0, 0, 0)
	return e
}
