/* SPDX-License-Identifier: GPL-2.0 */
/* How each watched system call says what it does: which argument is what. */
#ifndef KAIMON_CALLS_H
#define KAIMON_CALLS_H

enum how {
	BY_FD = 1,	/* the file is behind argument `fd` */
	BY_RETURN,	/* an open: the file is behind the returned descriptor */
	BY_STRING,	/* one string, from `dir` */
	BY_STRINGS,	/* two strings, from `dir` and `dir2` */
	BY_MAP,		/* mmap: counts only if it maps a file shared and writable */
};

enum trait {
	ZERO_IS_NOTHING = 1 << 0, /* a result of 0 means that no byte was written */
	FOLDER = 1 << 1,	  /* the file is a folder */
	MODE = 1 << 2,		  /* `arg` is permission bits */
	MASKED = 1 << 3,	  /* which the umask narrows */
	FLAGS = 1 << 4,		  /* `arg` is open flags */
	HOW = 1 << 5,		  /* `arg` points to a struct open_how */
	CREAT = 1 << 6,		  /* creat: the flags go without saying */
	NODE = 1 << 7,		  /* `arg` holds the file type too */
	REMOVE = 1 << 8,	  /* `arg` may hold AT_REMOVEDIR */
	LINK_TEXT = 1 << 9,	  /* the second string is a symlink's contents */
	OLD_MMAP = 1 << 10,	  /* i386: the arguments are in memory */
};

#define CWD (-1)

struct call {
	__u8 how;
	__u8 operation;
	__s8 fd;
	__s8 dir;
	__s8 str;
	__s8 dir2;
	__s8 str2;
	__s8 arg;
	__u16 traits;
};

#define CALLS 512

#define WRITES(n, f, t) [n] = { .how = BY_FD, .operation = OP_WRITE, .fd = (f), .traits = (t) }
#define ON_FD(n, op, f, a, t) [n] = { .how = BY_FD, .operation = (op), .fd = (f), .arg = (a), .traits = (t) }
#define OPENS(n, d, p, a, t) [n] = { .how = BY_RETURN, .operation = OP_OPEN, .dir = (d), .str = (p), .arg = (a), .traits = (t) }
#define ON_PATH(n, op, d, p, a, t) [n] = { .how = BY_STRING, .operation = (op), .dir = (d), .str = (p), .arg = (a), .traits = (t) }
#define ON_PATHS(n, op, d, p, d2, p2, t) [n] = { .how = BY_STRINGS, .operation = (op), .dir = (d), .str = (p), .dir2 = (d2), .str2 = (p2), .traits = (t) }

#if defined(__TARGET_ARCH_x86)
#include "calls_x86_64.h"
#include "calls_i386.h"
#elif defined(__TARGET_ARCH_arm64)
#include "calls_arm64.h"
#endif

#endif
