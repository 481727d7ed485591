/* SPDX-License-Identifier: GPL-2.0 */
/* System calls of arm64. Written from the kernel's table; never run. */
static const struct call calls[CALLS] = {
	WRITES(64, 0, ZERO_IS_NOTHING),				/* write */
	WRITES(68, 0, ZERO_IS_NOTHING),				/* pwrite64 */
	WRITES(66, 0, ZERO_IS_NOTHING),				/* writev */
	WRITES(70, 0, ZERO_IS_NOTHING),				/* pwritev */
	WRITES(287, 0, ZERO_IS_NOTHING),			/* pwritev2 */
	WRITES(71, 0, ZERO_IS_NOTHING),				/* sendfile */
	WRITES(285, 2, ZERO_IS_NOTHING),			/* copy_file_range */
	WRITES(76, 2, ZERO_IS_NOTHING),				/* splice */
	WRITES(47, 0, 0),					/* fallocate */
	OPENS(56, 0, 1, 2, FLAGS),				/* openat */
	OPENS(437, 0, 1, 2, HOW),				/* openat2 */
	OPENS(265, CWD, -1, 2, FLAGS),				/* open_by_handle_at */
	ON_PATH(34, OP_CREATE, 0, 1, 2, FOLDER | MODE | MASKED), /* mkdirat */
	ON_PATH(33, OP_CREATE, 0, 1, 2, NODE | MODE | MASKED),	/* mknodat */
	ON_PATH(35, OP_DELETE, 0, 1, 2, REMOVE),		/* unlinkat */
	ON_PATHS(38, OP_RENAME, 0, 1, 2, 3, 0),			/* renameat */
	ON_PATHS(276, OP_RENAME, 0, 1, 2, 3, 0),		/* renameat2 */
	ON_FD(52, OP_CHMOD, 0, 1, MODE),			/* fchmod */
	ON_PATH(53, OP_CHMOD, 0, 1, 2, MODE),			/* fchmodat */
	ON_PATH(452, OP_CHMOD, 0, 1, 2, MODE),			/* fchmodat2 */
	ON_PATHS(37, OP_LINK, 0, 1, 2, 3, 0),			/* linkat */
	ON_PATHS(36, OP_SYMLINK, 1, 2, CWD, 0, LINK_TEXT),	/* symlinkat */
	ON_PATH(45, OP_TRUNCATE, CWD, 0, 0, 0),			/* truncate */
	ON_FD(46, OP_TRUNCATE, 0, 0, 0),			/* ftruncate */
	ON_FD(55, OP_CHOWN, 0, 0, 0),				/* fchown */
	ON_PATH(54, OP_CHOWN, 0, 1, 0, 0),			/* fchownat */
	[222] = { .how = BY_MAP, .operation = OP_MMAP_WRITE, .fd = 4 }, /* mmap */
};
