/* SPDX-License-Identifier: GPL-2.0 */
/* Capture at the submission of io_uring requests, where only the exits of system calls are seen otherwise. */
#ifndef KAIMON_AT_IO_URING_H
#define KAIMON_AT_IO_URING_H

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

/* One request: an attempt, its outcome is not known yet. */
static __always_inline int submitted(struct io_kiocb *req)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct task_struct *task = bpf_get_current_task_btf();
	struct filename *name = 0, *name2 = 0;
	struct brief is = { .hook = AT_IO_URING };
	__u8 opcode = GET(req, opcode);
	int dir = AT_FDCWD, dir2 = AT_FDCWD, outcome = FILTERED;
	struct file *file = 0;
	struct counters *c;
	struct scratch *s;
	void *cmd = req;

	/* Before 6.0 the command lies where the request begins. */
	if (bpf_core_field_exists(req->cmd))
		cmd = __builtin_preserve_access_index(&req->cmd);
	switch (opcode) {
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_WRITE:
	case IORING_OP_FALLOCATE:
	case IORING_OP_SPLICE:
		is.operation = OP_WRITE;
		break;
	case IORING_OP_FTRUNCATE:
		is.operation = OP_TRUNCATE;
		break;
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2: {
		struct io_open *o = cmd;

		is.operation = OP_OPEN;
		is.has = HAS_FLAGS;
		is.flags = BPF_CORE_READ(o, how.flags);
		dir = BPF_CORE_READ(o, dfd);
		name = BPF_CORE_READ(o, filename);
		break;
	}
	case IORING_OP_RENAMEAT: {
		struct io_rename *o = cmd;

		is.operation = OP_RENAME;
		dir = BPF_CORE_READ(o, old_dfd);
		dir2 = BPF_CORE_READ(o, new_dfd);
		name = BPF_CORE_READ(o, oldpath);
		name2 = BPF_CORE_READ(o, newpath);
		break;
	}
	case IORING_OP_LINKAT: {
		struct io_link *o = cmd;

		is.operation = OP_LINK;
		dir = BPF_CORE_READ(o, old_dfd);
		dir2 = BPF_CORE_READ(o, new_dfd);
		name = BPF_CORE_READ(o, oldpath);
		name2 = BPF_CORE_READ(o, newpath);
		break;
	}
	case IORING_OP_SYMLINKAT: {
		struct io_link *o = cmd;

		is.operation = OP_SYMLINK;
		is.type = S_IFLNK;
		dir = BPF_CORE_READ(o, new_dfd);
		name = BPF_CORE_READ(o, newpath);
		name2 = BPF_CORE_READ(o, oldpath);
		break;
	}
	case IORING_OP_UNLINKAT: {
		struct io_unlink *o = cmd;

		is.operation = OP_DELETE;
		dir = BPF_CORE_READ(o, dfd);
		if (BPF_CORE_READ(o, flags) & AT_REMOVEDIR)
			is.type = S_IFDIR;
		name = BPF_CORE_READ(o, filename);
		break;
	}
	case IORING_OP_MKDIRAT: {
		struct io_mkdir *o = cmd;

		is.operation = OP_CREATE;
		is.type = S_IFDIR;
		is.has = HAS_MODE;
		is.mode = BPF_CORE_READ(o, mode) & 07777 & ~task->fs->umask;
		dir = BPF_CORE_READ(o, dfd);
		name = BPF_CORE_READ(o, filename);
		break;
	}
	default:
		return 0;
	}
	if (!(config.sys_exit >> is.operation & 1))
		return 0;
	c = begin(cpu);
	if (!c)
		return 0;
	if (name) {
		if (itself(cpu, is.hook))
			goto out;
		s = new_deed(&is);
		if (!s) {
			outcome = lost(cpu);
			goto out;
		}
		s->deed.dir = dir;
		s->deed.kstr = (__u64)BPF_CORE_READ(name, name);
		s->deed.strings = 1;
		if (name2) {
			s->deed.dir2 = dir2;
			s->deed.kstr2 = (__u64)BPF_CORE_READ(name2, name);
			s->deed.strings = 2;
			s->deed.link_text = is.operation == OP_SYMLINK;
		}
		outcome = report(s, cpu, 0);
	} else {
		/* The file itself may be looked up later; a bad descriptor will fail there. */
		if (!bpf_core_field_exists(req->cqe))
			file = BPF_CORE_READ(req, file);
		else if (!(BPF_CORE_READ(req, flags) & REQ_F_FIXED_FILE))
			file = file_of(BPF_CORE_READ(req, cqe.fd));
		if (file)
			outcome = consider_file(cpu, &is, file);
	}
out:
	end(c, outcome);
	return 0;
}

/* 6.3 and newer: io_uring_submit_req(struct io_kiocb *). */
SEC("tp_btf/io_uring_submit_req")
int kaimon_io_uring(__u64 *arguments)
{
	return submitted((void *)arguments[0]);
}

/* 6.0 to 6.2: io_uring_submit_sqe(struct io_kiocb *, bool). */
SEC("tp_btf/io_uring_submit_sqe")
int kaimon_io_uring_sqe(__u64 *arguments)
{
	return submitted((void *)arguments[0]);
}

/* Before 6.0: io_uring_submit_sqe(void *ctx, void *req, ...). */
SEC("tp_btf/io_uring_submit_sqe")
int kaimon_io_uring_old(__u64 *arguments)
{
	return submitted((void *)arguments[1]);
}

#endif
