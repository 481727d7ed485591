// SPDX-License-Identifier: GPL-2.0
/*
 * Capture at the exit of system calls, for kernels that refuse every hook
 * nearer to the file system, and at the submission of io_uring requests.
 */
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "include/record.h"
#include "include/accounting.h"
#include "include/path.h"
#include "include/calls.h"
#include "include/report.h"

char LICENSE[] SEC("license") = "GPL";

/* One watched system call that has come to its end. */
static __always_inline int judge(struct counters *c, __u32 cpu, const struct call *call, __u64 *a, long ret)
{
	struct deed deed = { .operation = call->operation, .has = HAS_RESULT };
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 traits = call->traits, arg = a[call->arg & 7];
	struct file *file = 0;

	if (ret < 0 && ret >= -MAX_ERRNO) {
		if (ret != -EACCES && ret != -EPERM)
			return FILTERED;
		deed.result = -ret;
	} else if (ret == 0 && traits & ZERO_IS_NOTHING) {
		return FILTERED;
	}
	if (traits & MODE) {
		deed.has |= HAS_MODE;
		deed.mode = arg & 07777;
		if (traits & MASKED)
			deed.mode &= ~BPF_CORE_READ(task, fs, umask);
		if (traits & NODE)
			deed.type = arg & S_IFMT ? arg & S_IFMT : S_IFREG;
	}
	if (traits & FOLDER || (traits & REMOVE && arg & AT_REMOVEDIR))
		deed.type = S_IFDIR;
	deed.link_text = !!(traits & LINK_TEXT);
	if (deed.link_text)
		deed.type = 0120000;

	switch (call->how) {
	case BY_FD:
	case BY_MAP:
		file = file_of((int)a[call->fd & 7]);
		break;
	case BY_RETURN:
		deed.has |= HAS_FLAGS;
		deed.flags = arg;
		if (traits & CREAT)
			deed.flags = O_CREAT | O_WRONLY | O_TRUNC;
		if (traits & HOW) {
			__u64 how = 0;

			bpf_probe_read_user(&how, sizeof(how), (void *)a[call->arg & 7]);
			deed.flags = how;
		}
		if (!deed.result)
			file = file_of((int)ret);
		if (file) {
			__u32 f_mode = BPF_CORE_READ(file, f_mode);

			if (f_mode & FMODE_CREATED || deed.flags & __O_TMPFILE)
				deed.operation = OP_CREATE;
			deed.has |= HAS_MODE;
			deed.mode = BPF_CORE_READ(file, f_inode, i_mode) & 07777;
		} else if (call->str >= 0) {
			deed.strings = 1;
		}
		break;
	case BY_STRING:
		deed.strings = 1;
		break;
	case BY_STRINGS:
		deed.strings = 2;
		deed.dir2 = call->dir2 < 0 ? AT_FDCWD : (int)a[call->dir2 & 7];
		deed.str2 = a[call->str2 & 7];
		break;
	}
	if (deed.strings) {
		deed.dir = call->dir < 0 ? AT_FDCWD : (int)a[call->dir & 7];
		deed.str = a[call->str & 7];
	}
	return consider(c, cpu, &deed, file);
}

static __always_inline struct counters *begin(__u32 cpu)
{
	struct counters *c = bpf_map_lookup_elem(&cpus, &cpu);

	if (c) {
		count_add(c->started, 1);
		count_add(c->seen, 1);
	}
	return c;
}

static __always_inline void end(struct counters *c, int outcome)
{
	if (outcome == FILTERED)
		count_add(c->filtered, 1);
	count_add(c->finished, 1);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(kaimon_sys_exit, struct pt_regs *regs, long ret)
{
	__u32 cpu = bpf_get_smp_processor_id();
	const struct call *call;
	struct counters *c;
	__u64 a[8] = {};
	__u32 nr;

#if defined(__TARGET_ARCH_x86)
	struct task_struct *task = (void *)bpf_get_current_task();

	nr = BPF_CORE_READ(regs, orig_ax);
	if (nr >= CALLS)
		return 0;
	if (BPF_CORE_READ(task, thread_info.status) & TS_COMPAT) {
		call = &calls_compat[nr];
		if (!call->how)
			return 0;
		a[0] = (__u32)BPF_CORE_READ(regs, bx);
		a[1] = (__u32)BPF_CORE_READ(regs, cx);
		a[2] = (__u32)BPF_CORE_READ(regs, dx);
		a[3] = (__u32)BPF_CORE_READ(regs, si);
		a[4] = (__u32)BPF_CORE_READ(regs, di);
		if (call->traits & OLD_MMAP) {
			__u32 m[5] = {};

			bpf_probe_read_user(m, sizeof(m), (void *)a[0]);
			a[2] = m[2];
			a[3] = m[3];
			a[4] = m[4];
		}
	} else {
		call = &calls[nr];
		if (!call->how)
			return 0;
		a[0] = BPF_CORE_READ(regs, di);
		a[1] = BPF_CORE_READ(regs, si);
		a[2] = BPF_CORE_READ(regs, dx);
		a[3] = BPF_CORE_READ(regs, r10);
		a[4] = BPF_CORE_READ(regs, r8);
	}
#elif defined(__TARGET_ARCH_arm64)
	nr = BPF_CORE_READ(regs, syscallno);
	if (nr >= CALLS)
		return 0;
	call = &calls[nr];
	if (!call->how)
		return 0;
	a[0] = BPF_CORE_READ(regs, orig_x0);
	a[1] = BPF_CORE_READ(regs, regs[1]);
	a[2] = BPF_CORE_READ(regs, regs[2]);
	a[3] = BPF_CORE_READ(regs, regs[3]);
	a[4] = BPF_CORE_READ(regs, regs[4]);
#endif
	if (call->how == BY_MAP &&
	    (!(a[2] & PROT_WRITE) || (a[3] & MAP_TYPE) == MAP_PRIVATE || a[3] & MAP_ANONYMOUS))
		return 0;
	c = begin(cpu);
	if (!c)
		return 0;
	end(c, judge(c, cpu, call, a, ret));
	return 0;
}

enum {
	IORING_OP_WRITEV = 2,
	IORING_OP_WRITE_FIXED = 5,
	IORING_OP_FALLOCATE = 17,
	IORING_OP_OPENAT = 18,
	IORING_OP_WRITE = 23,
	IORING_OP_OPENAT2 = 28,
	IORING_OP_SPLICE = 30,
	IORING_OP_RENAMEAT = 35,
	IORING_OP_UNLINKAT = 36,
	IORING_OP_MKDIRAT = 37,
	IORING_OP_SYMLINKAT = 38,
	IORING_OP_LINKAT = 39,
	IORING_OP_FTRUNCATE = 55,
	REQ_F_FIXED_FILE = 1,
};

/* Written against io_uring_submit_req(struct io_kiocb *) of 6.3 and newer: attempts, not outcomes. */
SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(kaimon_io_uring, struct io_kiocb *req)
{
	void *cmd = __builtin_preserve_access_index(&req->cmd);
	__u32 cpu = bpf_get_smp_processor_id();
	__u8 opcode = BPF_CORE_READ(req, opcode);
	struct deed deed = {};
	struct filename *name = 0, *name2 = 0;
	struct file *file = 0;
	struct counters *c;
	int outcome = FILTERED;

	switch (opcode) {
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_WRITE:
	case IORING_OP_FALLOCATE:
	case IORING_OP_SPLICE:
		deed.operation = OP_WRITE;
		break;
	case IORING_OP_FTRUNCATE:
		deed.operation = OP_TRUNCATE;
		break;
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2: {
		struct io_open *o = cmd;

		deed.operation = OP_OPEN;
		deed.has = HAS_FLAGS;
		deed.flags = BPF_CORE_READ(o, how.flags);
		deed.dir = BPF_CORE_READ(o, dfd);
		name = BPF_CORE_READ(o, filename);
		break;
	}
	case IORING_OP_RENAMEAT: {
		struct io_rename *o = cmd;

		deed.operation = OP_RENAME;
		deed.dir = BPF_CORE_READ(o, old_dfd);
		deed.dir2 = BPF_CORE_READ(o, new_dfd);
		name = BPF_CORE_READ(o, oldpath);
		name2 = BPF_CORE_READ(o, newpath);
		break;
	}
	case IORING_OP_LINKAT: {
		struct io_link *o = cmd;

		deed.operation = OP_LINK;
		deed.dir = BPF_CORE_READ(o, old_dfd);
		deed.dir2 = BPF_CORE_READ(o, new_dfd);
		name = BPF_CORE_READ(o, oldpath);
		name2 = BPF_CORE_READ(o, newpath);
		break;
	}
	case IORING_OP_SYMLINKAT: {
		struct io_link *o = cmd;

		deed.operation = OP_SYMLINK;
		deed.type = 0120000;
		deed.link_text = 1;
		deed.dir = BPF_CORE_READ(o, new_dfd);
		deed.dir2 = AT_FDCWD;
		name = BPF_CORE_READ(o, newpath);
		name2 = BPF_CORE_READ(o, oldpath);
		break;
	}
	case IORING_OP_UNLINKAT: {
		struct io_unlink *o = cmd;

		deed.operation = OP_DELETE;
		deed.dir = BPF_CORE_READ(o, dfd);
		if (BPF_CORE_READ(o, flags) & AT_REMOVEDIR)
			deed.type = S_IFDIR;
		name = BPF_CORE_READ(o, filename);
		break;
	}
	case IORING_OP_MKDIRAT: {
		struct task_struct *task = (void *)bpf_get_current_task();
		struct io_mkdir *o = cmd;

		deed.operation = OP_CREATE;
		deed.type = S_IFDIR;
		deed.has = HAS_MODE;
		deed.mode = BPF_CORE_READ(o, mode) & 07777 & ~BPF_CORE_READ(task, fs, umask);
		deed.dir = BPF_CORE_READ(o, dfd);
		name = BPF_CORE_READ(o, filename);
		break;
	}
	default:
		return 0;
	}
	c = begin(cpu);
	if (!c)
		return 0;
	if (name) {
		deed.kstr = (__u64)BPF_CORE_READ(name, name);
		deed.strings = 1;
		if (name2) {
			deed.kstr2 = (__u64)BPF_CORE_READ(name2, name);
			deed.strings = 2;
		}
		outcome = consider(c, cpu, &deed, 0);
	} else if (!(BPF_CORE_READ(req, flags) & REQ_F_FIXED_FILE)) {
		/* The file itself is looked up later; a bad descriptor will fail there. */
		file = file_of(BPF_CORE_READ(req, cqe.fd));
		if (file)
			outcome = consider(c, cpu, &deed, file);
	}
	end(c, outcome);
	return 0;
}

struct described {
	__u64 inode;
	__u32 dev;
	__u32 mode;
	__u32 tgid;
	__u32 mount_ns;
} described;

struct raw_arguments {
	__u64 fd;
};

/* Run by the agent on itself: what the kernel calls it, and the file behind a descriptor. */
SEC("raw_tp/sys_enter")
int kaimon_describe(struct raw_arguments *arguments)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct file *file = file_of((int)arguments->fd);
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	described.tgid = bpf_get_current_pid_tgid() >> 32;
	described.mount_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	described.inode = BPF_CORE_READ(inode, i_ino);
	described.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	described.mode = BPF_CORE_READ(inode, i_mode);
	return 0;
}
