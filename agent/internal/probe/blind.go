package probe

import "slices"

// BlindSpot is something that a mode cannot see, or not for certain.
type BlindSpot struct {
	Word string `json:"word"`
	Why  string `json:"why"`
}

// Blind spots that depend on the host, or on what happened.
var (
	noIOURing = BlindSpot{"io_uring_requests",
		"the kernel has no io_uring_submit_req tracepoint to attach to: requests through io_uring are missed"}
	recursionMisses = BlindSpot{"recursion_misses",
		"the kernel skipped runs of a program because one was under way on the same CPU; they are in no counter"}
)

// sysExit are the blind spots of capture at the exit of system calls.
var sysExit = []BlindSpot{
	{"path_string_race", "a path given as a string is read again when the call ends; another thread may have changed it meanwhile"},
	{"symlinks_unresolved_in_requested_paths", "a path with the status `requested` is the caller's own string: folders in it may be symlinks, and `..` is resolved as text"},
	{"descriptor_reuse_race", "a descriptor is looked up when the call ends; another thread may have closed or replaced it meanwhile"},
	{"mmap_then_mprotect", "a shared mapping made read-only and made writable later by mprotect is not seen; stores into a mapping never are, only its making"},
	{"aio_writes", "writes submitted through io_submit (Linux AIO) are not seen"},
	{"ioctl_writes", "ioctls that change contents (FICLONE, FIDEDUPERANGE and the like) are not seen"},
	{"bind_creates", "a socket file made by bind is not seen"},
	{"exec_opens", "programs opened by execve are not seen as opens"},
	{"kernel_writes", "what the kernel writes itself (core dumps, NFS service, swap, quota files) is not seen"},
	{"memfd_writes", "files in no file system that has a path (memfd, System V shared memory) are left out"},
	{"mode_before_unknown", "the permission bits before a chmod are not known"},
	{"x32_calls", "calls through the x32 ABI of x86_64 are not seen"},
}

// ioUring are the blind spots that remain when io_uring's tracepoint is attached.
var ioUring = []BlindSpot{
	{"io_uring_results", "io_uring requests are seen when submitted: their result is null, and an open with O_CREAT says `open` whether or not it made the file"},
	{"io_uring_fixed_files", "io_uring requests on registered (fixed) files are not seen"},
}

func words(spots []BlindSpot) []string {
	all := make([]string, len(spots))
	for i, s := range spots {
		all[i] = s.Word
	}
	slices.Sort(all)
	return all
}
