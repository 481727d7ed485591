package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"kaimon/agent/internal/decode"
)

// Modes of capture. Auto takes, hook by hook, the first of the others that the kernel allows.
const (
	Auto    = "auto"
	Fentry  = "fentry"
	Kprobe  = "kprobe"
	SysExit = "sys_exit"
)

// Where the kernel's side counts that a hook met the agent itself; enum hook of bpf/include/report.h.
const (
	atOpen = iota
	atWrite
	atMmap
	atMprotect
	atRename
	atUnlink
	atRmdir
	atLink
	atSymlink
	atMkdir
	atMknod
	atChmod
	atChown
	atTruncate
	atSysExit
	atIOUring
	hookCount
)

// hook is one place where the file system decides, and the programs that can stand there.
type hook struct {
	symbol    string
	at        int    // where the canary finds it
	fentry    string // attached by trampoline, at the entry or the exit
	kprobe    string
	params    int              // of the symbol, as the fentry program was written for
	operation decode.Operation // at the exit of system calls, what this hook sees instead
	optional  bool             // not in every kernel; another hook sees the same there
}

var hooks = []hook{
	{"security_file_open", atOpen, "fexit_file_open", "kprobe_file_open", 1, decode.Open, false},
	{"security_file_permission", atWrite, "fentry_file_permission", "kprobe_file_permission", 2, decode.Write, false},
	{"security_mmap_file", atMmap, "fentry_mmap_file", "kprobe_mmap_file", 3, decode.MmapWrite, false},
	{"security_file_mprotect", atMprotect, "fentry_file_mprotect", "kprobe_file_mprotect", 3, decode.MmapWrite, false},
	{"security_path_rename", atRename, "fexit_path_rename", "kprobe_path_rename", 5, decode.Rename, false},
	{"security_path_unlink", atUnlink, "fexit_path_unlink", "kprobe_path_unlink", 2, decode.Delete, false},
	{"security_path_rmdir", atRmdir, "fexit_path_rmdir", "kprobe_path_rmdir", 2, decode.Delete, false},
	{"security_path_link", atLink, "fexit_path_link", "kprobe_path_link", 3, decode.Link, false},
	{"security_path_symlink", atSymlink, "fexit_path_symlink", "kprobe_path_symlink", 3, decode.Symlink, false},
	{"security_path_mkdir", atMkdir, "fexit_path_mkdir", "kprobe_path_mkdir", 3, decode.Create, false},
	{"security_path_mknod", atMknod, "fexit_path_mknod", "kprobe_path_mknod", 4, decode.Create, false},
	{"security_path_chmod", atChmod, "fexit_path_chmod", "kprobe_path_chmod", 2, decode.Chmod, false},
	{"security_path_chown", atChown, "fexit_path_chown", "kprobe_path_chown", 3, decode.Chown, false},
	{"security_path_truncate", atTruncate, "fexit_path_truncate", "kprobe_path_truncate", 1, decode.Truncate, false},
	{"security_file_truncate", atTruncate, "fexit_file_truncate", "kprobe_file_truncate", 1, decode.Truncate, true},
}

// end is a function whose exit tells how an operation ended. Its program reads the dentry from one parameter and the
// result from behind the last; a kernel whose function looks otherwise goes without.
type end struct {
	symbol     string
	params     int
	dentry     int // the parameter that must be a *struct dentry; -1 = another kind
	operations []decode.Operation
}

var ends = []end{
	{"vfs_rename", 1, -1, []decode.Operation{decode.Rename}},
	{"vfs_unlink", 4, 2, []decode.Operation{decode.Delete}},
	{"vfs_rmdir", 3, 2, []decode.Operation{decode.Delete}},
	{"vfs_link", 5, 3, []decode.Operation{decode.Link}},
	{"vfs_symlink", 4, 2, []decode.Operation{decode.Symlink}},
	{"vfs_mkdir", 4, 2, []decode.Operation{decode.Create}},
	{"vfs_mknod", 5, 2, []decode.Operation{decode.Create}},
	{"vfs_create", 5, 2, []decode.Operation{decode.Create}},
	{"notify_change", 4, 1, []decode.Operation{decode.Chmod, decode.Chown, decode.Truncate}},
	{"do_filp_open", 3, -1, nil},
}

// function finds a function of the running kernel.
func function(kernel *btf.Spec, symbol string) (*btf.FuncProto, error) {
	var f *btf.Func
	if err := kernel.TypeByName(symbol, &f); err != nil {
		return nil, fmt.Errorf("the kernel has no %s: %w", symbol, err)
	}
	proto, ok := f.Type.(*btf.FuncProto)
	if !ok {
		return nil, fmt.Errorf("%s has no prototype", symbol)
	}
	return proto, nil
}

// fits says whether the kernel's function is the one that a program was written for.
func fits(kernel *btf.Spec, symbol string, params, dentry int) (*btf.FuncProto, error) {
	proto, err := function(kernel, symbol)
	if err != nil {
		return nil, err
	}
	if len(proto.Params) != params {
		return nil, fmt.Errorf("%s has %d parameters here, not %d", symbol, len(proto.Params), params)
	}
	if dentry >= 0 && pointsTo(proto.Params[dentry].Type) != "dentry" {
		return nil, fmt.Errorf("parameter %d of %s is no dentry here", dentry, symbol)
	}
	return proto, nil
}

// pointsTo is the name of the struct that a pointer points to, or "".
func pointsTo(t btf.Type) string {
	if p, ok := btf.UnderlyingType(t).(*btf.Pointer); ok {
		if s, ok := btf.UnderlyingType(p.Target).(*btf.Struct); ok {
			return s.Name
		}
	}
	return ""
}

// attachment is a program that runs.
type attachment struct {
	program *ebpf.Program
	link    link.Link
}

func (a attachment) close() error { return errors.Join(a.link.Close(), a.program.Close()) }

// errNoKprobes means that no way to make one is there.
var errNoKprobes = errors.New("the kernel has no kprobes, or tracefs is not mounted")

var kprobeWays = []string{
	"/sys/bus/event_source/devices/kprobe/type", "/sys/kernel/tracing/kprobe_events", "/sys/kernel/debug/tracing/kprobe_events",
}

func (c *Capture) trampoline(name string) (attachment, error) {
	if c.noTrampolines != nil {
		return attachment{}, c.noTrampolines
	}
	program, err := c.program(name)
	if err != nil {
		c.judge(err)
		return attachment{}, err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		c.judge(err)
		return attachment{}, errors.Join(err, program.Close())
	}
	return attachment{program, l}, nil
}

// judge gives trampolines up once the kernel has said that it has none for anybody: what concerns one program or one
// function has other errors.
func (c *Capture) judge(err error) {
	if errors.Is(err, unix.EPERM) || errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.Errno(524)) {
		c.noTrampolines = err
	}
}

func (c *Capture) kprobe(symbol, name string) (attachment, error) {
	if !slices.ContainsFunc(kprobeWays, func(path string) bool { _, err := os.Stat(path); return err == nil }) {
		return attachment{}, errNoKprobes
	}
	program, err := c.program(name)
	if err != nil {
		return attachment{}, err
	}
	l, err := link.Kprobe(symbol, program, nil)
	if err != nil {
		return attachment{}, errors.Join(err, program.Close())
	}
	return attachment{program, l}, nil
}

// tracepoint attaches to one, which is no trampoline although it is attached like one.
func (c *Capture) tracepoint(name string) (attachment, error) {
	program, err := c.program(name)
	if err != nil {
		return attachment{}, err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		return attachment{}, errors.Join(err, program.Close())
	}
	return attachment{program, l}, nil
}

// preload loads what is likely to be attached, on all CPUs at once: reading the programs is what a start takes.
func (c *Capture) preload(mode string) {
	var names []string
	if mode != Kprobe && c.noTrampolines == nil {
		for _, h := range hooks {
			names = append(names, h.fentry)
		}
		for _, e := range ends {
			names = append(names, "end_"+e.symbol)
		}
	} else if mode != Fentry {
		for _, h := range hooks {
			names = append(names, h.kprobe)
		}
	}
	type result struct {
		name    string
		program *ebpf.Program
		err     error
	}
	todo, done := make(chan string, len(names)), make(chan result, len(names))
	for _, name := range names {
		todo <- name
	}
	close(todo)
	for range min(runtime.NumCPU(), 8) {
		go func() {
			for name := range todo {
				program, err := c.loadProgram(name)
				done <- result{name, program, err}
			}
		}()
	}
	for range names {
		r := <-done
		c.loaded[r.name] = func() (*ebpf.Program, error) { return r.program, r.err }
	}
}
