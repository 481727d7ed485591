package harden

import (
	"os"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
)

func TestEachAllowedCallExistsOnEachArchitecture(t *testing.T) {
	for name, info := range map[string]*arch.Info{"amd64": arch.X86_64, "arm64": arch.AARCH64} {
		calls := slices.Concat(freely, freelyOn[name])
		for _, one := range onlyIf() {
			calls = append(calls, one.Name)
		}
		for _, call := range calls {
			if _, ok := info.SyscallNames[call]; !ok {
				t.Errorf("%s has no call %s", name, call)
			}
		}
	}
}

func TestNothingThatGivesPowerIsAllowed(t *testing.T) {
	for _, call := range []string{
		"execve", "execveat", "fork", "vfork", "clone3", "ptrace", "process_vm_readv", "process_vm_writev", "kill",
		"mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "init_module", "finit_module", "delete_module",
		"kexec_load", "perf_event_open", "io_uring_setup", "io_uring_enter", "userfaultfd", "keyctl", "add_key",
		"open", "creat", "openat2", "unlinkat", "renameat", "renameat2", "linkat", "symlinkat", "mkdirat", "mknodat",
		"fchmod", "fchmodat", "fchown", "fchownat", "truncate", "ftruncate", "fallocate", "setxattr", "bind", "listen", "setuid", "setresuid", "capset",
		"seccomp", "reboot", "swapon", "sethostname", "settimeofday", "clock_settime", "pidfd_getfd", "memfd_create",
		"pkey_mprotect", "acct", "quotactl", "iopl", "ioperm", "modify_ldt", "personality", "vmsplice",
	} {
		if slices.Contains(allowed(), call) {
			t.Errorf("%s is allowed", call)
		}
	}
}

func TestCapabilitiesAreNamed(t *testing.T) {
	if got := (standing | set(39, 63)).List(); !slices.Equal(got, []string{"dac_read_search", "bpf", "63"}) {
		t.Error(got)
	}
}

// The attempts tell a sealed process from another: where nothing is sealed, none of them says EPERM.
func TestAttemptsAreRefusedOnlyToTheSealed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("others than root are refused much anyway")
	}
	unsettled := []string{"init_module", "finit_module", "io_uring_setup", "load a program into the kernel"} // sysctls, lockdown
	for _, a := range Attempts() {
		if a.Refused && !slices.Contains(unsettled, a.What) {
			t.Errorf("%s is refused to root", a.What)
		}
	}
}
