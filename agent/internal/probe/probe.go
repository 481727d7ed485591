// Package probe loads the eBPF programs, attaches what the kernel allows, and reads what they say.
package probe

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"kaimon/agent/internal/account"
)

// Capture is one load of the programs.
type Capture struct {
	Mode    string
	Refused map[string]string // hooks that the kernel did not allow, and why
	Ring    *Ring

	spec           *ebpf.CollectionSpec // of the programs that are not loaded yet
	types          *btf.Cache
	maps           map[string]*ebpf.Map
	configVariable *ebpf.Variable
	described      *ebpf.Variable
	describer      *ebpf.Program
	sweeper        *ebpf.Program
	hooked         sync.Mutex // of attached and listens, which a stop empties
	attached       []attachment
	loaded         map[string]func() (*ebpf.Program, error) // ahead of need
	noTrampolines  error                                    // why the kernel has none for anybody
	canary         *os.File                                 // nameless
	listens        []int                                    // where the canary must be heard
	ends           map[string]bool                          // functions whose exits are seen
	uring          bool                                     // io_uring's tracepoint is attached
	applying       sync.Mutex                               // of config
	config         config
	windowNS       atomic.Uint64
	overlayTried   bool
	own            []string // folders that are always excluded
	counters       *counterPage
	windows        *windowPage
	holds          []int // descriptors of filtered folders and programs: their inodes cannot be reused while we watch

	mu     sync.Mutex // of what follows
	spots  []BlindSpot
	missed uint64
}

// Open loads the programs and attaches them. What lies in the folders of own is always left out, in the kernel.
func Open(mode string, own []string, f Filter) (*Capture, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("allow locked memory: %w", err)
	}
	c := &Capture{own: own, Refused: make(map[string]string), ends: make(map[string]bool),
		loaded: make(map[string]func() (*ebpf.Program, error))}
	err := c.load()
	if err == nil {
		err = c.know()
	}
	if err == nil {
		err = c.Apply(f)
	}
	if err == nil {
		err = c.prepareCanary()
	}
	if err == nil {
		err = c.attach(mode)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	for _, loaded := range c.loaded {
		if program, err := loaded(); err == nil {
			_ = program.Close() // nothing came of it
		}
	}
	c.spec, c.types, c.loaded = nil, nil, nil // tens of megabytes
	return c, nil
}

// load makes the maps, and the two programs that the agent runs itself.
func (c *Capture) load() error {
	spec, err := loadCapture()
	if err != nil {
		return err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	spec.Maps[captureMapCpus].MaxEntries = uint32(cpus)
	spec.Maps[captureMapOwns].MaxEntries = uint32(cpus)
	spec.Maps[captureMapWindows].MaxEntries = uint32(cpus * Windows)
	maps := spec.Copy()
	maps.Programs = nil
	collection, err := ebpf.NewCollection(maps)
	if err != nil {
		return fmt.Errorf("make the maps: %w", err)
	}
	c.spec, c.maps, c.types = spec, collection.Maps, btf.NewCache()
	c.configVariable, c.described = collection.Variables[captureVarConfig], collection.Variables[captureVarDescribed]
	if c.describer, err = c.program("kaimon_describe"); err != nil {
		return err
	}
	if c.sweeper, err = c.program("kaimon_sweep"); err != nil {
		return err
	}
	if c.counters, err = mapCounters(c.maps[captureMapCpus], c.maps[captureMapOwns], cpus); err != nil {
		return err
	}
	if c.windows, err = mapWindows(c.maps[captureMapWindows], cpus); err != nil {
		return err
	}
	ring := c.maps[captureMapRing]
	c.Ring, err = newRing(ring.FD(), int(ring.MaxEntries()))
	return err
}

// program loads one program over the shared maps. Each is loaded on its own, so that one that the kernel refuses does
// not take the others down.
func (c *Capture) program(name string) (*ebpf.Program, error) {
	if loaded := c.loaded[name]; loaded != nil {
		delete(c.loaded, name)
		return loaded()
	}
	return c.loadProgram(name)
}

func (c *Capture) loadProgram(name string) (*ebpf.Program, error) {
	one := &ebpf.CollectionSpec{
		Maps: c.spec.Maps, Programs: map[string]*ebpf.ProgramSpec{name: c.spec.Programs[name]},
		Types: c.spec.Types, ByteOrder: c.spec.ByteOrder,
	}
	loaded, err := ebpf.NewCollectionWithOptions(one.Copy(), ebpf.CollectionOptions{MapReplacements: c.maps, Cache: c.types})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	defer loaded.Close()
	return loaded.DetachProgram(name), nil
}

// described is struct described of bpf/capture.bpf.c.
type described struct {
	Inode                                     uint64
	Dev, Mode, TGID, MountNS, FirstMountNS, _ uint32
}

// describe runs a program on this process: its ids as the kernel knows them, and the file behind fd.
func (c *Capture) describe(fd int) (described, error) {
	var d described
	if _, err := c.describer.Run(&ebpf.RunOptions{Context: []uint64{uint64(fd), 0}}); err != nil {
		return d, fmt.Errorf("ask the kernel who we are: %w", err)
	}
	return d, c.described.Get(&d)
}

// know learns who the agent is to the kernel. Paths are judged by the mount namespace of the first process: the agent
// may well run in one of its own.
func (c *Capture) know() error {
	me, err := c.describe(-1)
	if err != nil {
		return err
	}
	c.config.SelfTGID, c.config.MountNS = me.TGID, me.FirstMountNS
	c.config.OverlayUpper = upperDentry(c.types)
	return nil
}

// CPUs is the number of CPUs that counters are kept for.
func (c *Capture) CPUs() int { return len(c.counters.cpus) }

// Snapshot reads the counters of each CPU at a moment at which nothing moved there; it reports false if it found none.
func (c *Capture) Snapshot() (account.Snapshot, bool) { return c.counters.snapshot() }

// Check looks for runs that the kernel skipped. Those are in no counter: once there are any, there is a blind spot.
func (c *Capture) Check() (missed uint64, err error) {
	if err := c.learnOverlay(); err != nil {
		return 0, err
	}
	c.hooked.Lock()
	defer c.hooked.Unlock()
	for _, a := range c.attached {
		stats, err := a.program.Stats()
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
	c.hooked.Lock() // a canary under way hears the hooks to its end, and a later one expects none
	defer c.hooked.Unlock()
	var all []error
	for _, a := range c.attached {
		all = append(all, a.close())
	}
	c.attached, c.listens = nil, nil
	return errors.Join(all...)
}

// Close detaches and gives everything back.
func (c *Capture) Close() {
	_ = c.Detach()
	closeAll(c.holds)
	if c.canary != nil {
		_ = c.canary.Close()
	}
	if c.counters != nil {
		c.counters.close()
	}
	if c.windows != nil {
		c.windows.close()
	}
	if c.Ring != nil {
		c.Ring.Close()
	}
	for _, program := range []*ebpf.Program{c.describer, c.sweeper} {
		if program != nil {
			_ = program.Close()
		}
	}
	for _, m := range c.maps {
		_ = m.Close()
	}
}

// short is an error's reason: without the names of the programs, the same for all, and without the verifier's log.
func short(err error) string {
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		err = verifier.Cause
		if n := len(verifier.Log); n > 0 && !errors.Is(err, unix.EPERM) {
			return err.Error() + ": " + verifier.Log[max(0, n-2)]
		}
	}
	if errors.Is(err, unix.EPERM) {
		return unix.EPERM.Error()
	}
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
