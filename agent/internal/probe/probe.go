// Package probe loads the eBPF programs, attaches what the kernel allows, and reads what they say.
package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"kaimon/agent/internal/account"
)

// SysExit is the mode of capture at the exit of system calls.
const SysExit = "sys_exit"

// Capture is one load of the programs.
type Capture struct {
	Mode     string
	Refused  map[string]string // hooks that the kernel did not allow, and why
	Ring     *Ring
	Excluded []string

	objects  sysexitObjects
	links    []link.Link
	counters *counterPage
	holds    []int // descriptors of excluded folders: their inodes cannot be reused while we watch

	mu     sync.Mutex // of what follows
	spots  []BlindSpot
	missed uint64
}

const (
	mostPrefix = 250
	mostDirs   = 32
	prefixSize = 4 + 256
)

// Open loads the programs and attaches them. What lies in the folders of exclude is filtered out in the kernel.
func Open(exclude []string) (*Capture, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("allow locked memory: %w", err)
	}
	c := &Capture{Mode: SysExit, Refused: make(map[string]string)}
	if err := c.load(); err != nil {
		return nil, err
	}
	if err := c.prepare(exclude); err != nil {
		c.Close()
		return nil, err
	}
	if err := c.attach(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Capture) load() error {
	spec, err := loadSysexit()
	if err != nil {
		return err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	spec.Maps[sysexitMapCpus].MaxEntries = uint32(cpus)
	whole := spec.Copy()
	if err = whole.LoadAndAssign(&c.objects, nil); err != nil {
		// The tracepoint of io_uring came with 6.3: go without.
		c.Refused["tp_btf/io_uring_submit_req"] = short(err)
		var part struct {
			sysexitMaps
			sysexitVariables
			KaimonDescribe *ebpf.Program `ebpf:"kaimon_describe"`
			KaimonSysExit  *ebpf.Program `ebpf:"kaimon_sys_exit"`
		}
		delete(spec.Programs, sysexitProgKaimonIoUring)
		if err := spec.LoadAndAssign(&part, nil); err != nil {
			return fmt.Errorf("load the programs: %w", err)
		}
		c.objects.sysexitMaps, c.objects.sysexitVariables = part.sysexitMaps, part.sysexitVariables
		c.objects.KaimonDescribe, c.objects.KaimonSysExit = part.KaimonDescribe, part.KaimonSysExit
	}
	if c.counters, err = mapCounters(c.objects.Cpus.FD(), cpus); err != nil {
		return err
	}
	c.Ring, err = newRing(c.objects.Ring.FD(), int(c.objects.Ring.MaxEntries()))
	return err
}

// described is struct described of bpf/sysexit.bpf.c.
type described struct {
	Inode                    uint64
	Dev, Mode, TGID, MountNS uint32
}

// describe runs a program on this process: its ids as the kernel knows them, and the file behind fd.
func (c *Capture) describe(fd int) (described, error) {
	var d described
	if _, err := c.objects.KaimonDescribe.Run(&ebpf.RunOptions{Context: []uint64{uint64(fd)}}); err != nil {
		return d, fmt.Errorf("ask the kernel who we are: %w", err)
	}
	return d, c.objects.Described.Get(&d)
}

type config struct {
	SelfTGID, MountNS uint32
	ExcludedBits      uint64
}

func (c *Capture) prepare(exclude []string) error {
	me, err := c.describe(-1)
	if err != nil {
		return err
	}
	conf := config{SelfTGID: me.TGID, MountNS: me.MountNS}
	if len(exclude) > mostDirs {
		return fmt.Errorf("%d folders to exclude; at most %d can be", len(exclude), mostDirs)
	}
	for _, dir := range exclude {
		if err := c.exclude(dir, &conf); err != nil {
			return fmt.Errorf("exclude %s: %w", dir, err)
		}
	}
	return c.objects.Config.Set(conf)
}

func (c *Capture) exclude(dir string, conf *config) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	if real == "/" {
		return errors.New("that is everything")
	}
	fd, err := unix.Open(real, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.holds = append(c.holds, fd)
	d, err := c.describe(fd)
	if err != nil {
		return err
	}
	key := make([]byte, 16)
	binary.NativeEndian.PutUint64(key, d.Inode)
	binary.NativeEndian.PutUint32(key[8:], d.Dev)
	if err := c.objects.ExcludedInodes.Put(key, uint8(1)); err != nil {
		return err
	}
	conf.ExcludedBits |= 1 << (d.Inode % 64)
	c.Excluded = append(c.Excluded, real)
	if len(real) > mostPrefix {
		return nil // paths given as strings are then not filtered out: too much is told, not too little
	}
	for _, end := range []byte{'/', 0} {
		prefix := make([]byte, prefixSize)
		binary.NativeEndian.PutUint32(prefix, uint32(len(real)+1)*8)
		copy(prefix[4:], real)
		prefix[4+len(real)] = end
		if err := c.objects.ExcludedPrefixes.Put(prefix, uint8(1)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Capture) attach() error {
	l, err := link.AttachTracing(link.TracingOptions{Program: c.objects.KaimonSysExit})
	if err != nil {
		return fmt.Errorf("attach to the exit of system calls: %w", err)
	}
	c.links = append(c.links, l)
	c.spots = append(c.spots, sysExit...)
	if c.objects.KaimonIoUring != nil {
		l, err := link.AttachTracing(link.TracingOptions{Program: c.objects.KaimonIoUring})
		if err == nil {
			c.links = append(c.links, l)
			c.spots = append(c.spots, ioUring...)
			return nil
		}
		c.Refused["tp_btf/io_uring_submit_req"] = short(err)
	}
	c.spots = append(c.spots, noIOURing)
	return nil
}

// CPUs is the number of CPUs that counters are kept for.
func (c *Capture) CPUs() int { return len(c.counters.cpus) }

// Snapshot reads the counters of each CPU at a moment at which nothing moved there; it reports false if it found none.
func (c *Capture) Snapshot() (account.Snapshot, bool) { return c.counters.snapshot() }

// Check looks for runs that the kernel skipped. Those are in no counter: once there are any, there is a blind spot.
func (c *Capture) Check() (missed uint64, err error) {
	for _, program := range []*ebpf.Program{c.objects.KaimonSysExit, c.objects.KaimonIoUring} {
		if program == nil {
			continue
		}
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("ask for a program's statistics: %w", err)
		}
		missed += stats.RecursionMisses
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if missed > 0 && c.missed == 0 {
		c.spots = append(c.spots, recursionMisses)
	}
	c.missed = missed
	return missed, nil
}

// Spots are what this load cannot see.
func (c *Capture) Spots() []BlindSpot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spots)
}

// BlindSpots are the words of Spots.
func (c *Capture) BlindSpots() []string { return words(c.Spots()) }

// Detach takes the programs off their hooks; runs under way come to their end.
func (c *Capture) Detach() error {
	var all []error
	for _, l := range c.links {
		all = append(all, l.Close())
	}
	c.links = nil
	return errors.Join(all...)
}

// Close detaches and gives everything back.
func (c *Capture) Close() {
	_ = c.Detach()
	for _, fd := range c.holds {
		_ = unix.Close(fd)
	}
	if c.counters != nil {
		c.counters.close()
	}
	if c.Ring != nil {
		c.Ring.Close()
	}
	_ = c.objects.Close()
}

// short is an error without the verifier's log.
func short(err error) string {
	text := err.Error()
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

// Supported says early why this machine cannot capture at all.
func Supported() error {
	if os.Geteuid() != 0 {
		return errors.New("it takes root (or CAP_BPF and CAP_PERFMON) to load eBPF programs")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return errors.New("this kernel does not describe its types (no /sys/kernel/btf/vmlinux)")
	}
	return nil
}
