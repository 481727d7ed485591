package probe

import (
	"slices"

	"kaimon/agent/internal/decode"
)

// BlindSpot is something that a mode cannot see, or not for certain.
type BlindSpot struct {
	Word string `json:"word"`
	Why  string `json:"why"`
}

// Blind spots that depend on what happened.
var (
	recursionMisses = BlindSpot{"recursion_misses",
		"the kernel skipped runs of a program because one was under way on the same CPU; they are in no counter"}
	silentHooks = BlindSpot{"silent_hooks",
		"a hook stopped firing while the agent ran: what it should have seen on that CPU is in no counter"}
)

// always are the blind spots of every mode.
var always = []BlindSpot{
	{"stores_into_mappings", "stores into a shared mapping are not seen, only its making"},
	{"memfd_writes", "files in no file system that has a path (memfd, System V shared memory) are left out"},
}

// vfs are the blind spots of the hooks at security_*, by fentry or kprobe.
var vfs = []BlindSpot{
	{"o_path_opens", "opens with O_PATH, which give no access to a file's contents, are not seen"},
	{"write_results", "writes and shared mappings are seen as attempts, before they are done: their result is null, and a write of zero bytes counts"},
	{"denied_lookups", "an operation other than an open that is refused on its way, before the hook that would tell it, is not seen: in a folder that may not be searched, or a truncate of a file that may not be written"},
	{"inner_writes", "one sendfile, splice or copy_file_range counts as up to three writes"},
	{"late_open_failures", "an open that the file system itself refuses, after all permissions were checked, is told as done"},
}

// kprobes are those that kprobe adds.
var kprobes = []BlindSpot{
	{"results", "operations are seen as attempts, before they are done: the result is null"},
	{"denied_opens", "an open that is refused is not seen"},
}

// noResults is for a fentry mode on a kernel whose functions look otherwise than the programs expect.
var noResults = BlindSpot{"some_results", "the end of some operations is not seen: their result is null"}

// sysExit are the blind spots of capture at the exit of system calls; each with the operations that it concerns.
var sysExit = []struct {
	BlindSpot
	operations []decode.Operation
}{
	{BlindSpot{"path_string_race", "a path given as a string is read again when the call ends; another thread may have changed it meanwhile"}, byString},
	{BlindSpot{"symlinks_unresolved_in_requested_paths", "a path with the status `requested` is the caller's own string: folders in it may be symlinks, and `..` is resolved as text"}, byString},
	{BlindSpot{"descriptor_reuse_race", "a descriptor is looked up when the call ends; another thread may have closed or replaced it meanwhile"}, byDescriptor},
	{BlindSpot{"mmap_then_mprotect", "a shared mapping made read-only and made writable later by mprotect is not seen"}, []decode.Operation{decode.MmapWrite}},
	{BlindSpot{"aio_writes", "writes submitted through io_submit (Linux AIO) are not seen"}, []decode.Operation{decode.Write}},
	{BlindSpot{"ioctl_writes", "ioctls that change contents (FICLONE, FIDEDUPERANGE and the like) are not seen"}, []decode.Operation{decode.Write}},
	{BlindSpot{"kernel_writes", "what the kernel writes itself (core dumps, NFS service, swap, quota files) is not seen"}, []decode.Operation{decode.Write}},
	{BlindSpot{"bind_creates", "a socket file made by bind is not seen"}, []decode.Operation{decode.Create}},
	{BlindSpot{"exec_opens", "programs opened by execve are not seen as opens"}, []decode.Operation{decode.Open}},
	{BlindSpot{"mode_before_unknown", "the permission bits before a chmod are not known"}, []decode.Operation{decode.Chmod}},
	{BlindSpot{"x32_calls", "calls through the x32 ABI of x86_64 are not seen; on arm64, those of 32-bit programs are not"}, nil},
}

// Blind spots of io_uring at the exit of system calls.
var (
	noIOURing = BlindSpot{"io_uring_requests",
		"the kernel has no tracepoint where io_uring takes a request: requests through io_uring are missed"}
	ioUring = []BlindSpot{
		{"io_uring_results", "io_uring requests are seen when submitted: their result is null, and an open with O_CREAT says `open` whether or not it made the file"},
		{"io_uring_fixed_files", "io_uring requests on registered (fixed) files are not seen"},
	}
)

var (
	byString     = []decode.Operation{decode.Rename, decode.Delete, decode.Link, decode.Symlink, decode.Create, decode.Chmod, decode.Chown, decode.Truncate}
	byDescriptor = []decode.Operation{decode.Open, decode.Write, decode.MmapWrite, decode.Chmod, decode.Chown, decode.Truncate}
)

// spotsOf are the blind spots of a load: by the ways that it uses, the operations watched at the exit of system calls,
// and those whose ends are seen.
func spotsOf(used map[string]bool, bySyscall, results uint32, uring bool) []BlindSpot {
	spots := slices.Clone(always)
	if used[Fentry] || used[Kprobe] {
		spots = append(spots, vfs...)
	}
	if used[Kprobe] {
		spots = append(spots, kprobes...)
	} else if used[Fentry] {
		for _, o := range byString {
			if (results|bySyscall)&(1<<o) == 0 {
				spots = append(spots, noResults)
				break
			}
		}
	}
	if bySyscall == 0 {
		return spots
	}
	for _, s := range sysExit {
		concerned := len(s.operations) == 0
		for _, o := range s.operations {
			concerned = concerned || bySyscall&(1<<o) != 0
		}
		if concerned {
			spots = append(spots, s.BlindSpot)
		}
	}
	if uring {
		return append(spots, ioUring...)
	}
	return append(spots, noIOURing)
}

func words(spots []BlindSpot) []string {
	all := make([]string, len(spots))
	for i, s := range spots {
		all[i] = s.Word
	}
	slices.Sort(all)
	return all
}
