/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What goes through the ring: this header, then the path, the target and the
 * program's path as raw bytes. internal/decode reads it; change both together.
 *
 * A walked path is its components from leaf to root, each followed by '/'.
 * A string is the caller's bytes, a NUL, then the walked folder it starts from.
 *
 * A row that opens a window names its slot. The row that closes the window
 * (HAS_REST) names the slot and the first row's number, and nothing else of
 * what the first row said: user space remembers that.
 */
#ifndef KAIMON_RECORD_H
#define KAIMON_RECORD_H

enum operation {
	OP_OPEN = 1,
	OP_CREATE,
	OP_WRITE,
	OP_RENAME,
	OP_DELETE,
	OP_CHMOD,
	OP_LINK,
	OP_SYMLINK,
	OP_TRUNCATE,
	OP_CHOWN,
	OP_MMAP_WRITE,
};

/* Of one path; the target's are shifted by TARGET_SHIFT, the program's by EXE_SHIFT. */
enum path_bits {
	PATH_STRING = 1 << 0,	 /* a caller's string, else a walk */
	PATH_CUT = 1 << 1,	 /* the walk ended before the root */
	PATH_FOREIGN = 1 << 2,	 /* its root is another mount namespace's */
	PATH_DETACHED = 1 << 3,	 /* its mount is in no namespace */
	PATH_UNREAD = 1 << 4,	 /* the string could not be read */
	PATH_BASELESS = 1 << 5,	 /* the folder it starts from is unknown */
	PATH_UNLINKED = 1 << 6,	 /* the name is gone */
	PATH_CHROOT = 1 << 7,	 /* the caller's root is not the namespace's */
};
#define TARGET_SHIFT	8
#define EXE_SHIFT	16

enum has_bits {
	HAS_INODE = 1 << 0,
	HAS_RESULT = 1 << 1,
	HAS_MODE = 1 << 2,
	HAS_FLAGS = 1 << 3,
	HAS_EXE = 1 << 4,
	HAS_TARGET = 1 << 5,
	HAS_MODE_BEFORE = 1 << 6,
	HAS_REST = 1 << 7,	/* closes the window in `window`, opened by row `first` */
};

struct record {
	__u64 seq;
	__u64 time_ns;
	__u64 last_ns;		/* of several occurrences */
	__u64 first;
	__u64 start_ns;
	__u64 exec_id;
	__u64 inode;
	__u64 cgroup;
	__u32 cpu;
	__u32 tgid;
	__u32 ppid;
	__u32 uid;
	__u32 euid;
	__u32 gid;
	__u32 loginuid;
	__u32 mount_ns;
	__u32 dev;
	__s32 result;
	__u32 mode;
	__u32 mode_before;
	__u32 flags;
	__u32 type;		/* S_IFMT of the file, 0 = unknown */
	__u32 count;
	__u32 window;		/* slot + 1 of the window that this row opens; 0 = none */
	__u32 path_bits;
	__u16 operation;
	__u16 has;
	__u16 path_len;
	__u16 target_len;
	__u16 exe_len;
	__u16 pad;
	char comm[16];
	char parent_comm[16];
};

#endif
