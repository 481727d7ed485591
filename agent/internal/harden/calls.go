package harden

import (
	"fmt"
	"os"
	"runtime"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// What a sealed agent may still call. It reads (files, /proc, the kernel's maps), speaks to ingest, serves its metrics,
// and its Go runtime lives. It cannot open a file to write, make, rename or delete one, start a program or process,
// look into another one, load anything into the kernel, or make memory executable.
var freely = []string{
	"read", "write", "readv", "writev", "pread64", "close", "fstat", "statx", "lseek", "readlinkat", "getdents64",
	"fcntl", "statfs", "fstatfs", "getcwd", "name_to_handle_at",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "pipe2", "ppoll",
	"munmap", "madvise", "mincore", "mremap", "brk",
	"futex", "sched_yield", "sched_getaffinity", "sched_setaffinity", "nanosleep", "clock_nanosleep", "clock_gettime",
	"clock_getres", "gettimeofday", "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid",
	"getrandom", "getrusage", "uname", "sysinfo", "getcpu",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
	"exit", "exit_group", "set_robust_list", "rseq",
	"connect", "getsockopt", "setsockopt", "getsockname", "getpeername", "sendto", "recvfrom", "sendmsg", "recvmsg",
	"shutdown", "accept4", "capget",
}

var freelyOn = map[string][]string{
	"amd64": {"newfstatat", "epoll_wait", "arch_prctl", "poll", "time"},
	"arm64": {"fstatat"},
}

const (
	writing      = unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC | unix.O_APPEND
	setVMAName   = 0x53564d41 // PR_SET_VMA
	disableEvent = 0x2401     // PERF_EVENT_IOC_DISABLE
	executable   = unix.PROT_EXEC
)

func when(name string, argument uint32, is seccomp.Operation, value uint64) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{Name: name, Conditions: seccomp.ArgumentConditions{
		{Argument: argument, Operation: is, Value: value},
	}}
}

// onlyIf are the calls that depend on an argument.
func onlyIf() []seccomp.NameWithConditions {
	calls := []seccomp.NameWithConditions{
		when("openat", 2, seccomp.BitsNotSet, writing),
		when("open_by_handle_at", 2, seccomp.BitsNotSet, writing),
		when("mmap", 2, seccomp.BitsNotSet, executable),
		when("mprotect", 2, seccomp.BitsNotSet, executable),
		when("clone", 0, seccomp.BitsSet, unix.CLONE_THREAD),
		when("tgkill", 0, seccomp.Equal, uint64(os.Getpid())),
		when("prctl", 0, seccomp.Equal, setVMAName),
		when("prlimit64", 2, seccomp.Equal, 0),
		when("socket", 0, seccomp.Equal, unix.AF_INET),
		when("socket", 0, seccomp.Equal, unix.AF_INET6),
		when("ioctl", 1, seccomp.Equal, disableEvent),
	}
	for _, command := range []uint64{
		unix.BPF_MAP_LOOKUP_ELEM, unix.BPF_MAP_UPDATE_ELEM, unix.BPF_MAP_DELETE_ELEM, unix.BPF_MAP_GET_NEXT_KEY,
		unix.BPF_MAP_LOOKUP_BATCH, unix.BPF_MAP_UPDATE_BATCH, unix.BPF_MAP_DELETE_BATCH,
		unix.BPF_PROG_TEST_RUN, unix.BPF_OBJ_GET_INFO_BY_FD, unix.BPF_LINK_DETACH,
	} {
		calls = append(calls, when("bpf", 0, seccomp.Equal, command))
	}
	return calls
}

// allowed names all calls that get through, some of them only with some arguments.
func allowed() []string {
	names := slices.Concat(freely, freelyOn[runtime.GOARCH])
	for _, one := range onlyIf() {
		names = append(names, one.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// filterCalls refuses every other call with EPERM, in every thread. The kernel keeps the answer for the calls that
// depend on no argument in a bitmap, so that they cost next to nothing.
func filterCalls() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true, Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls: []seccomp.SyscallGroup{
				{Action: seccomp.ActionAllow, Names: slices.Concat(freely, freelyOn[runtime.GOARCH]),
					NamesWithCondtions: onlyIf()},
			},
		},
	})
	if err != nil {
		return fmt.Errorf("filter the calls: %w", err)
	}
	return nil
}
