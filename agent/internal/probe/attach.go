package probe

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"

	"kaimon/agent/internal/decode"
)

// attach finds for each operation the best hooks that the kernel allows in the mode, and falls back, operation by
// operation, to the exits of system calls.
func (c *Capture) attach(mode string) error {
	kernel, err := c.types.Kernel()
	if err != nil {
		return fmt.Errorf("read the kernel's types: %w", err)
	}
	used := make(map[string]bool)
	bySyscall := ^uint32(0)
	if mode != SysExit {
		c.tryTrampolines(mode)
		c.preload(mode)
		results := c.attachEnds(kernel, mode)
		c.config.Results = results
		if err := c.setConfig(); err != nil {
			return err
		}
		bySyscall = c.attachHooks(kernel, mode, used)
	}
	if bySyscall != 0 {
		if mode != Auto && mode != SysExit {
			return fmt.Errorf("mode %s is not to be had here: %s", mode, c.whyNot())
		}
		if err := c.attachSysExit(kernel); err != nil {
			return err
		}
		used[SysExit] = true
	}
	c.config.SysExit = bySyscall
	c.Mode = modeName(used)
	c.spots = spotsOf(used, bySyscall, c.config.Results, c.uring)
	return c.setConfig()
}

// tryTrampolines finds out by one program whether the kernel has any.
func (c *Capture) tryTrampolines(mode string) {
	if mode == Kprobe {
		return
	}
	if a, err := c.trampoline(hooks[0].fentry); err == nil {
		_ = a.close()
	}
}

// attachEnds attaches what tells how operations ended, and returns the bits of those for which that is whole.
func (c *Capture) attachEnds(kernel *btf.Spec, mode string) uint32 {
	if mode == Kprobe {
		return 0
	}
	results, lacking := uint32(0), uint32(0)
	for _, e := range ends {
		bits := uint32(0)
		for _, o := range e.operations {
			bits |= 1 << o
		}
		proto, err := fits(kernel, e.symbol, e.params, e.dentry)
		if err == nil {
			if e.symbol == "vfs_mkdir" && pointsTo(proto.Return) == "dentry" {
				c.config.MkdirReturnsDentry = 1
			}
			var a attachment
			if a, err = c.trampoline("end_" + e.symbol); err == nil {
				c.attached = append(c.attached, a)
				c.ends[e.symbol] = true
				results |= bits
				continue
			}
		}
		lacking |= bits
		c.Refused["fexit/"+e.symbol] = short(err)
	}
	return results &^ lacking
}

// attachHooks returns the bits of the operations that are to be watched at the exit of system calls.
func (c *Capture) attachHooks(kernel *btf.Spec, mode string, used map[string]bool) uint32 {
	byOperation := make(map[decode.Operation][]attachment)
	listens := make(map[decode.Operation][]int)
	ways := make(map[decode.Operation]map[string]bool)
	lacking := uint32(0)
	for _, h := range hooks {
		if ways[h.operation] == nil {
			ways[h.operation] = make(map[string]bool)
		}
		a, way, err := c.attachHook(kernel, h, mode)
		if err != nil {
			if _, missing := function(kernel, h.symbol); !h.optional || missing == nil {
				lacking |= 1 << h.operation
			}
			continue
		}
		byOperation[h.operation] = append(byOperation[h.operation], a)
		ways[h.operation][way] = true
		listens[h.operation] = append(listens[h.operation], h.at)
	}
	if lacking&(1<<decode.Create) == 0 && !c.ends["vfs_create"] {
		a, err := c.kprobe("vfs_create", "kprobe_vfs_create")
		if err == nil {
			byOperation[decode.Create] = append(byOperation[decode.Create], a)
		} else {
			c.Refused["kprobe/vfs_create"] = short(err)
			lacking |= 1 << decode.Create
		}
	}
	for operation, all := range byOperation {
		if lacking&(1<<operation) != 0 {
			for _, a := range all { // half of an operation would be told twice
				_ = a.close()
			}
			continue
		}
		c.attached = append(c.attached, all...)
		c.listens = append(c.listens, listens[operation]...)
		for way := range ways[operation] {
			used[way] = true
		}
	}
	return lacking
}

func (c *Capture) attachHook(kernel *btf.Spec, h hook, mode string) (attachment, string, error) {
	var all error
	if mode != Kprobe {
		_, err := fits(kernel, h.symbol, h.params, -1)
		if err == nil {
			var a attachment
			if a, err = c.trampoline(h.fentry); err == nil {
				return a, Fentry, nil
			}
		}
		c.Refused[Fentry+"/"+h.symbol] = short(err)
		all = err
	}
	if mode != Fentry {
		a, err := c.kprobe(h.symbol, h.kprobe)
		if err == nil {
			return a, Kprobe, nil
		}
		c.Refused[Kprobe+"/"+h.symbol] = short(err)
		all = errors.Join(all, err)
	}
	return attachment{}, "", all
}

// attachSysExit attaches to the exit of system calls, and to io_uring's tracepoint by the name and arguments that it
// has here.
func (c *Capture) attachSysExit(kernel *btf.Spec) error {
	a, err := c.tracepoint("kaimon_sys_exit")
	if err != nil {
		return fmt.Errorf("attach to the exit of system calls: %w", err)
	}
	c.attached = append(c.attached, a)
	c.listens = append(c.listens, atSysExit)
	name, err := uringProgram(kernel)
	if err == nil {
		if a, err = c.tracepoint(name); err == nil {
			c.attached = append(c.attached, a)
			c.uring = true
			return nil
		}
	}
	c.Refused["tp_btf/io_uring"] = short(err)
	return nil
}

// uringProgram is the program for this kernel's io_uring tracepoint.
func uringProgram(kernel *btf.Spec) (string, error) {
	var t *btf.Typedef
	if kernel.TypeByName("btf_trace_io_uring_submit_req", &t) == nil {
		return "kaimon_io_uring", nil
	}
	if err := kernel.TypeByName("btf_trace_io_uring_submit_sqe", &t); err != nil {
		return "", errors.New("the kernel has no tracepoint where io_uring takes a request")
	}
	if p, ok := btf.UnderlyingType(t).(*btf.Pointer); ok {
		if proto, ok := p.Target.(*btf.FuncProto); ok && len(proto.Params) > 3 {
			return "kaimon_io_uring_old", nil
		}
	}
	return "kaimon_io_uring_sqe", nil
}

// whyNot is one of the refusals.
func (c *Capture) whyNot() string {
	for _, h := range hooks {
		for _, way := range []string{Fentry, Kprobe} {
			if why := c.Refused[way+"/"+h.symbol]; why != "" {
				return way + "/" + h.symbol + ": " + why
			}
		}
	}
	return "unknown"
}

func modeName(used map[string]bool) string {
	var parts []string
	for _, way := range []string{Fentry, Kprobe, SysExit} {
		if used[way] {
			parts = append(parts, way)
		}
	}
	return strings.Join(parts, "+")
}
