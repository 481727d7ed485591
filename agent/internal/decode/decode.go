// Package decode reads the records that the eBPF programs put into the ring.
package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Size of a record's header in bytes; struct record in bpf/include/record.h.
const Size = 152

// What a record has; enum has_bits.
const (
	HasInode = 1 << iota
	HasResult
	HasMode
	HasFlags
	HasExe
	HasTarget
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
	Seq, TimeNs, StartNs, ExecID, Inode, Cgroup       uint64
	CPU, PID, PPID, UID, EUID, GID, LoginUID, MountNS uint32
	Dev, Mode, Flags, Type, Count                     uint32
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
	r.Seq, r.TimeNs, r.StartNs = u64(raw[0:]), u64(raw[8:]), u64(raw[16:])
	r.ExecID, r.Inode, r.Cgroup = u64(raw[24:]), u64(raw[32:]), u64(raw[40:])
	r.CPU, r.PID, r.PPID = u32(raw[48:]), u32(raw[52:]), u32(raw[56:])
	r.UID, r.EUID, r.GID, r.LoginUID = u32(raw[60:]), u32(raw[64:]), u32(raw[68:]), u32(raw[72:])
	r.MountNS, r.Dev, r.Result = u32(raw[76:]), u32(raw[80:]), int32(u32(raw[84:]))
	r.Mode, r.Flags, r.Type, r.Count = u32(raw[88:]), u32(raw[92:]), u32(raw[96:]), u32(raw[100:])
	r.PathBits, r.TargetBits, r.ExeBits = raw[104], raw[105], raw[106]
	r.Operation, r.Has = Operation(u16(raw[108:])), u16(raw[110:])
	path, target, exe := int(u16(raw[112:])), int(u16(raw[114:])), int(u16(raw[116:]))
	r.Comm, r.ParentComm = untilNul(raw[120:136]), untilNul(raw[136:152])
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
	r.Path, r.Target, r.Exe = data[:path], data[path:path+target], data[path+target:]
	return nil
}

func untilNul(raw []byte) []byte {
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		return raw[:i]
	}
	return raw
}
