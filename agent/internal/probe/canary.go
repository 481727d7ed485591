package probe

import (
	"errors"
	"fmt"
	"os"
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

// canaries are the hooks that an agent can make fire which may no longer change a file. Those on names are attached by
// the same means.
var canaries = []int{atOpen, atWrite, atMmap, atMprotect, atSysExit}

// prepareCanary opens what the canary needs, while files may still be made: a nameless file in the agent's own folder.
func (c *Capture) prepareCanary() error {
	if len(c.own) == 0 {
		return nil
	}
	file, err := os.CreateTemp(c.own[0], "canary.*")
	if err != nil {
		return fmt.Errorf("make the canary's file: %w", err)
	}
	c.canary = file
	if err := errors.Join(os.Remove(file.Name()), file.Truncate(int64(os.Getpagesize()))); err != nil {
		return fmt.Errorf("make the canary's file: %w", err)
	}
	return nil
}

// Canary opens, writes and maps a file on each CPU, and looks which hooks met it there. A hook that stays silent
// (kprobes switched off, a program replaced) is in no counter, so it is a blind spot from then on. CPUs that this
// process may not run on are left out.
func (c *Capture) Canary() ([]Silence, error) {
	if c.canary == nil {
		return nil, errors.New("the canary has no folder")
	}
	c.hooked.Lock()
	defer c.hooked.Unlock()
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
		unheard, err := c.listen(cpu)
		if err != nil {
			return nil, fmt.Errorf("the canary: %w", err)
		}
		for _, at := range unheard {
			silent = append(silent, Silence{cpu, hookNames[at]})
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

// listen returns the hooks that did not meet the canary on this CPU. The kernel skips a run of a program while another
// is under way on the same CPU, so one silence means nothing; three in a row do.
func (c *Capture) listen(cpu int) (unheard []int, err error) {
	for _, at := range canaries {
		if slices.Contains(c.listens, at) {
			unheard = append(unheard, at)
		}
	}
	for try := 0; try < 3 && len(unheard) > 0; try++ {
		before := c.counters.owns[cpu].read()
		if err := c.sing(); err != nil {
			return nil, err
		}
		after := c.counters.owns[cpu].read()
		unheard = slices.DeleteFunc(unheard, func(at int) bool { return after.met[at] != before.met[at] })
	}
	return unheard, nil
}

func (o *own) read() (copied own) {
	for i := range o.met {
		copied.met[i] = atomic.LoadUint64(&o.met[i])
	}
	return copied
}

// sing does once what the canaries are about.
func (c *Capture) sing() error {
	dir, err := unix.Open(c.own[0], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fd, page := int(c.canary.Fd()), os.Getpagesize()
	_, seek := unix.Seek(fd, 0, unix.SEEK_SET)
	_, write := unix.Write(fd, []byte{0})
	if err := errors.Join(unix.Close(dir), seek, write); err != nil {
		return err
	}
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
	return unix.Munmap(memory)
}
