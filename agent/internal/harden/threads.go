package harden

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setAll leaves every thread the capabilities of keep that it has, and none to inherit.
func setAll(keep Capabilities) error {
	_, permitted, err := held()
	if err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := capUserData(permitted&keep, permitted&keep)
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); e != 0 {
		return fmt.Errorf("drop the capabilities: %w", e)
	}
	return nil
}

func noNewPrivileges() error {
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("forgo new privileges: %w", e)
	}
	return nil
}

// verify reads from the kernel what holds for every thread.
func verify(keep Capabilities) error {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("look at the threads: %w", os.ErrNotExist)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // that thread has ended
		}
		for line := range strings.Lines(string(raw)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			value = strings.TrimSpace(value)
			var bits Capabilities
			switch key {
			case "CapPrm", "CapEff", "CapInh", "CapAmb":
				if _, err := fmt.Sscanf(value, "%x", &bits); err != nil || bits&^keep != 0 {
					return fmt.Errorf("%s has %s %s", file, key, value)
				}
			case "NoNewPrivs":
				if value != "1" {
					return fmt.Errorf("%s may gain privileges", file)
				}
			case "Seccomp":
				if value != "2" {
					return fmt.Errorf("%s is under no filter", file)
				}
			}
		}
	}
	return nil
}
