// Package decode reads the records that the eBPF programs put into the ring.
package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Size of a record's header in bytes; struct record in bpf/include/record.h.
const Size = 176

// What a record has; enum has_bits.
const (
	HasInode = 1 << iota
	HasResult
	HasMode
	HasFlags
	HasExe
	HasTarget
	HasModeBefore
	HasRest // it closes a window; all that the row which opened it said holds for it too
)

// Operation is what was done; enum operation.
type Operation uint16

// The operations.
const (
	Open Operation = 1 + iota
	Create
	Write
	Rename
	Delete
	Chmod
	Link
	Symlink
	Truncate
	Chown
	MmapWrite
	last = MmapWrite
)

var operations = [...]string{
	"", "open", "create", "write", "rename", "delete", "chmod", "link", "symlink", "truncate", "chown", "mmap_write",
}

func (o Operation) String() string { return operations[o] }

// Record is one row as the kernel tells it. Its byte slices point into the ring: copy what is to be kept.
type Record struct {
	Seq, TimeNs, LastNs, First                        uint64
	StartNs, ExecID, Inode, Cgroup                    uint64
	CPU, PID, PPID, UID, EUID, GID, LoginUID, MountNS uint32
	Dev, Mode, ModeBefore, Flags, Type, Count         uint32
	Window                                            uint32 // slot + 1 of the window that it opens or closes; 0 = none
	Result                                            int32
	Operation                                         Operation
	Has                                               uint16
	PathBits, TargetBits, ExeBits                     uint8
	Path, Target, Exe                                 []byte
	Comm, ParentComm                                  []byte
}

// ErrMalformed is what every error of Decode is.
var ErrMalformed = errors.New("malformed record")

// Decode reads one sample of the ring.
func Decode(raw []byte, r *Record) error {
	if len(raw) < Size {
		return fmt.Errorf("%w: %d bytes", ErrMalformed, len(raw))
	}
	u64 := binary.LittleEndian.Uint64
	u32 := binary.LittleEndian.Uint32
	u16 := binary.LittleEndian.Uint16
	r.Seq, r.TimeNs, r.LastNs, r.First = u64(raw[0:]), u64(raw[8:]), u64(raw[16:]), u64(raw[24:])
	r.StartNs, r.ExecID, r.Inode, r.Cgroup = u64(raw[32:]), u64(raw[40:]), u64(raw[48:]), u64(raw[56:])
	r.CPU, r.PID, r.PPID = u32(raw[64:]), u32(raw[68:]), u32(raw[72:])
	r.UID, r.EUID, r.GID, r.LoginUID = u32(raw[76:]), u32(raw[80:]), u32(raw[84:]), u32(raw[88:])
	r.MountNS, r.Dev, r.Result = u32(raw[92:]), u32(raw[96:]), int32(u32(raw[100:]))
	r.Mode, r.ModeBefore, r.Flags, r.Type = u32(raw[104:]), u32(raw[108:]), u32(raw[112:]), u32(raw[116:])
	r.Count, r.Window = u32(raw[120:]), u32(raw[124:])
	r.PathBits, r.TargetBits, r.ExeBits = raw[128], raw[129], raw[130]
	r.Operation, r.Has = Operation(u16(raw[132:])), u16(raw[134:])
	path, target, exe := int(u16(raw[136:])), int(u16(raw[138:])), int(u16(raw[140:]))
	r.Comm, r.ParentComm = untilNul(raw[144:160]), untilNul(raw[160:176])
	data := raw[Size:]
	if path+target+exe != len(data) {
		return fmt.Errorf("%w: %d+%d+%d bytes of paths in %d", ErrMalformed, path, target, exe, len(data))
	}
	if r.Operation < Open || r.Operation > last {
		return fmt.Errorf("%w: operation %d", ErrMalformed, r.Operation)
	}
	if r.Count == 0 {
		return fmt.Errorf("%w: it stands for nothing", ErrMalformed)
	}
	if r.Has&HasRest != 0 && r.Window == 0 {
		return fmt.Errorf("%w: it closes no window", ErrMalformed)
	}
	r.Path, r.Target, r.Exe = data[:path], data[path:path+target], data[path+target:]
	return nil
}

func untilNul(raw []byte) []byte {
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		return raw[:i]
	}
	return raw
}
