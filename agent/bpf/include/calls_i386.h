/* SPDX-License-Identifier: GPL-2.0 */
/* System calls of i386, for int 0x80 and 32-bit programs on x86_64. */
static const struct call calls_compat[CALLS] = {
	WRITES(4, 0, ZERO_IS_NOTHING),				/* write */
	WRITES(181, 0, ZERO_IS_NOTHING),			/* pwrite64 */
	WRITES(146, 0, ZERO_IS_NOTHING),			/* writev */
	WRITES(334, 0, ZERO_IS_NOTHING),			/* pwritev */
	WRITES(379, 0, ZERO_IS_NOTHING),			/* pwritev2 */
	WRITES(187, 0, ZERO_IS_NOTHING),			/* sendfile */
	WRITES(239, 0, ZERO_IS_NOTHING),			/* sendfile64 */
	WRITES(377, 2, ZERO_IS_NOTHING),			/* copy_file_range */
	WRITES(313, 2, ZERO_IS_NOTHING),			/* splice */
	WRITES(324, 0, 0),					/* fallocate */
	OPENS(5, CWD, 0, 1, FLAGS),				/* open */
	OPENS(8, CWD, 0, 0, CREAT),				/* creat */
	OPENS(295, 0, 1, 2, FLAGS),				/* openat */
	OPENS(437, 0, 1, 2, HOW),				/* openat2 */
	OPENS(342, CWD, -1, 2, FLAGS),				/* open_by_handle_at */
	ON_PATH(39, OP_CREATE, CWD, 0, 1, FOLDER | MODE | MASKED), /* mkdir */
	ON_PATH(296, OP_CREATE, 0, 1, 2, FOLDER | MODE | MASKED), /* mkdirat */
	ON_PATH(14, OP_CREATE, CWD, 0, 1, NODE | MODE | MASKED), /* mknod */
	ON_PATH(297, OP_CREATE, 0, 1, 2, NODE | MODE | MASKED),	/* mknodat */
	ON_PATH(10, OP_DELETE, CWD, 0, 0, 0),			/* unlink */
	ON_PATH(40, OP_DELETE, CWD, 0, 0, FOLDER),		/* rmdir */
	ON_PATH(301, OP_DELETE, 0, 1, 2, REMOVE),		/* unlinkat */
	ON_PATHS(38, OP_RENAME, CWD, 0, CWD, 1, 0),		/* rename */
	ON_PATHS(302, OP_RENAME, 0, 1, 2, 3, 0),		/* renameat */
	ON_PATHS(353, OP_RENAME, 0, 1, 2, 3, 0),		/* renameat2 */
	ON_PATH(15, OP_CHMOD, CWD, 0, 1, MODE),			/* chmod */
	ON_FD(94, OP_CHMOD, 0, 1, MODE),			/* fchmod */
	ON_PATH(306, OP_CHMOD, 0, 1, 2, MODE),			/* fchmodat */
	ON_PATH(452, OP_CHMOD, 0, 1, 2, MODE),			/* fchmodat2 */
	ON_PATHS(9, OP_LINK, CWD, 0, CWD, 1, 0),		/* link */
	ON_PATHS(303, OP_LINK, 0, 1, 2, 3, 0),			/* linkat */
	ON_PATHS(83, OP_SYMLINK, CWD, 1, CWD, 0, LINK_TEXT),	/* symlink */
	ON_PATHS(304, OP_SYMLINK, 1, 2, CWD, 0, LINK_TEXT),	/* symlinkat */
	ON_PATH(92, OP_TRUNCATE, CWD, 0, 0, 0),			/* truncate */
	ON_PATH(193, OP_TRUNCATE, CWD, 0, 0, 0),		/* truncate64 */
	ON_FD(93, OP_TRUNCATE, 0, 0, 0),			/* ftruncate */
	ON_FD(194, OP_TRUNCATE, 0, 0, 0),			/* ftruncate64 */
	ON_PATH(182, OP_CHOWN, CWD, 0, 0, 0),			/* chown16 */
	ON_PATH(212, OP_CHOWN, CWD, 0, 0, 0),			/* chown */
	ON_FD(95, OP_CHOWN, 0, 0, 0),				/* fchown16 */
	ON_FD(207, OP_CHOWN, 0, 0, 0),				/* fchown */
	ON_PATH(16, OP_CHOWN, CWD, 0, 0, 0),			/* lchown16 */
	ON_PATH(198, OP_CHOWN, CWD, 0, 0, 0),			/* lchown */
	ON_PATH(298, OP_CHOWN, 0, 1, 0, 0),			/* fchownat */
	[192] = { .how = BY_MAP, .operation = OP_MMAP_WRITE, .fd = 4 }, /* mmap2 */
	[90] = { .how = BY_MAP, .operation = OP_MMAP_WRITE, .fd = 4, .traits = OLD_MMAP }, /* mmap */
};
