package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Silence is a hook that did not fire on a CPU although it should have.
type Silence struct {
	CPU  int
	Hook string
}

var hookNames = [hookCount]string{
	"open", "write", "mmap", "mprotect", "rename", "unlink", "rmdir", "link", "symlink", "mkdir", "mknod", "chmod",
	"chown", "truncate", "sys_exit", "io_uring",
}

// Canary does on each CPU something of every kind to files in the agent's own folder, and looks which hooks met it
// there. A hook that stays silent (kprobes switched off, a program replaced) is in no counter, so it is a blind spot
// from then on. CPUs that this process may not run on are left out.
func (c *Capture) Canary() ([]Silence, error) {
	if len(c.own) == 0 {
		return nil, errors.New("the canary has no folder")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("ask where the canary may run: %w", err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &allowed) }()
	var silent []Silence
	for cpu := range c.counters.owns {
		if !allowed.IsSet(cpu) {
			continue
		}
		var here unix.CPUSet
		here.Set(cpu)
		if unix.SchedSetaffinity(0, &here) != nil {
			continue // it went offline
		}
		before := c.counters.owns[cpu].read()
		if err := deeds(c.own[0]); err != nil {
			return nil, fmt.Errorf("the canary: %w", err)
		}
		after := c.counters.owns[cpu].read()
		for _, at := range c.listens {
			if after.met[at] == before.met[at] {
				silent = append(silent, Silence{cpu, hookNames[at]})
			}
		}
	}
	if len(silent) > 0 {
		c.mu.Lock()
		if !slices.Contains(c.spots, silentHooks) {
			c.spots = append(c.spots, silentHooks)
		}
		c.mu.Unlock()
	}
	return silent, nil
}

func (o *own) read() (copied own) {
	for i := range o.met {
		copied.met[i] = atomic.LoadUint64(&o.met[i])
	}
	return copied
}

// deeds does every kind of operation once, and leaves nothing behind.
func deeds(dir string) (err error) {
	name := func(n string) string { return filepath.Join(dir, "canary."+n) }
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		_ = os.Remove(name(n)) // of one that was killed
	}
	file, err := os.OpenFile(name("a"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	page := os.Getpagesize()
	if _, err := file.Write(make([]byte, page)); err != nil {
		return err
	}
	fd := int(file.Fd())
	memory, err := unix.Mmap(fd, 0, page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	err = unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE)
	if err = errors.Join(err, unix.Munmap(memory)); err != nil {
		return err
	}
	if memory, err = unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	return errors.Join(
		unix.Munmap(memory),
		unix.Fchmod(fd, 0o600),
		unix.Fchown(fd, os.Geteuid(), os.Getegid()),
		unix.Truncate(name("a"), 0),
		unix.Link(name("a"), name("b")),
		unix.Rename(name("b"), name("c")),
		unix.Unlink(name("c")),
		unix.Symlink("a", name("d")),
		unix.Unlink(name("d")),
		unix.Mkdir(name("e"), 0o700),
		unix.Rmdir(name("e")),
		unix.Mknod(name("b"), unix.S_IFIFO|0o600, 0),
		unix.Unlink(name("b")),
		unix.Unlink(name("a")),
	)
}
