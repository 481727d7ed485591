/* SPDX-License-Identifier: GPL-2.0 */
/* System calls of x86_64. */
static const struct call calls[CALLS] = {
	WRITES(1, 0, ZERO_IS_NOTHING),				/* write */
	WRITES(18, 0, ZERO_IS_NOTHING),				/* pwrite64 */
	WRITES(20, 0, ZERO_IS_NOTHING),				/* writev */
	WRITES(296, 0, ZERO_IS_NOTHING),			/* pwritev */
	WRITES(328, 0, ZERO_IS_NOTHING),			/* pwritev2 */
	WRITES(40, 0, ZERO_IS_NOTHING),				/* sendfile */
	WRITES(326, 2, ZERO_IS_NOTHING),			/* copy_file_range */
	WRITES(275, 2, ZERO_IS_NOTHING),			/* splice */
	WRITES(285, 0, 0),					/* fallocate */
	OPENS(2, CWD, 0, 1, FLAGS),				/* open */
	OPENS(85, CWD, 0, 0, CREAT),				/* creat */
	OPENS(257, 0, 1, 2, FLAGS),				/* openat */
	OPENS(437, 0, 1, 2, HOW),				/* openat2 */
	OPENS(304, CWD, -1, 2, FLAGS),				/* open_by_handle_at */
	ON_PATH(83, OP_CREATE, CWD, 0, 1, FOLDER | MODE | MASKED), /* mkdir */
	ON_PATH(258, OP_CREATE, 0, 1, 2, FOLDER | MODE | MASKED), /* mkdirat */
	ON_PATH(133, OP_CREATE, CWD, 0, 1, NODE | MODE | MASKED), /* mknod */
	ON_PATH(259, OP_CREATE, 0, 1, 2, NODE | MODE | MASKED),	/* mknodat */
	ON_PATH(87, OP_DELETE, CWD, 0, 0, 0),			/* unlink */
	ON_PATH(84, OP_DELETE, CWD, 0, 0, FOLDER),		/* rmdir */
	ON_PATH(263, OP_DELETE, 0, 1, 2, REMOVE),		/* unlinkat */
	ON_PATHS(82, OP_RENAME, CWD, 0, CWD, 1, 0),		/* rename */
	ON_PATHS(264, OP_RENAME, 0, 1, 2, 3, 0),		/* renameat */
	ON_PATHS(316, OP_RENAME, 0, 1, 2, 3, 0),		/* renameat2 */
	ON_PATH(90, OP_CHMOD, CWD, 0, 1, MODE),			/* chmod */
	ON_FD(91, OP_CHMOD, 0, 1, MODE),			/* fchmod */
	ON_PATH(268, OP_CHMOD, 0, 1, 2, MODE),			/* fchmodat */
	ON_PATH(452, OP_CHMOD, 0, 1, 2, MODE),			/* fchmodat2 */
	ON_PATHS(86, OP_LINK, CWD, 0, CWD, 1, 0),		/* link */
	ON_PATHS(265, OP_LINK, 0, 1, 2, 3, 0),			/* linkat */
	ON_PATHS(88, OP_SYMLINK, CWD, 1, CWD, 0, LINK_TEXT),	/* symlink */
	ON_PATHS(266, OP_SYMLINK, 1, 2, CWD, 0, LINK_TEXT),	/* symlinkat */
	ON_PATH(76, OP_TRUNCATE, CWD, 0, 0, 0),			/* truncate */
	ON_FD(77, OP_TRUNCATE, 0, 0, 0),			/* ftruncate */
	ON_PATH(92, OP_CHOWN, CWD, 0, 0, 0),			/* chown */
	ON_FD(93, OP_CHOWN, 0, 0, 0),				/* fchown */
	ON_PATH(94, OP_CHOWN, CWD, 0, 0, 0),			/* lchown */
	ON_PATH(260, OP_CHOWN, 0, 1, 0, 0),			/* fchownat */
	[9] = { .how = BY_MAP, .operation = OP_MMAP_WRITE, .fd = 4 }, /* mmap */
};
