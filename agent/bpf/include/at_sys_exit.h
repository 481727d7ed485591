/* SPDX-License-Identifier: GPL-2.0 */
/* Capture at the exit of system calls, for what no hook nearer to the file system is allowed to see. */
#ifndef KAIMON_AT_SYS_EXIT_H
#define KAIMON_AT_SYS_EXIT_H

/* A call as it was made. Its arguments are read one by one: the stack is small. */
struct made {
	struct pt_regs *regs;
	const struct call *call;
	bool compat;
};

static __always_inline __u64 argument(const struct made *made, int i)
{
	struct pt_regs *regs = made->regs;
#if defined(__TARGET_ARCH_x86)
	if (made->compat) {
		__u32 value = 0;

		if (made->call->traits & OLD_MMAP) {
			bpf_probe_read_user(&value, sizeof(value), (void *)((__u32)regs->bx + 4UL * (i & 7)));
			return value;
		}
		switch (i) {
		case 0:
			return (__u32)regs->bx;
		case 1:
			return (__u32)regs->cx;
		case 2:
			return (__u32)regs->dx;
		case 3:
			return (__u32)regs->si;
		case 4:
			return (__u32)regs->di;
		}
		return 0;
	}
	switch (i) {
	case 0:
		return regs->di;
	case 1:
		return regs->si;
	case 2:
		return regs->dx;
	case 3:
		return regs->r10;
	case 4:
		return regs->r8;
	}
#elif defined(__TARGET_ARCH_arm64)
	switch (i) {
	case 0:
		return regs->orig_x0;
	case 1:
		return regs->regs[1];
	case 2:
		return regs->regs[2];
	case 3:
		return regs->regs[3];
	case 4:
		return regs->regs[4];
	}
#endif
	return 0;
}

static __always_inline int folder_of(const struct made *made, int i)
{
	return i < 0 ? AT_FDCWD : (int)argument(made, i);
}

/* A call that names its files by strings. */
static __always_inline int by_strings(__u32 cpu, struct brief *is, const struct made *made)
{
	const struct call *call = made->call;
	struct scratch *s;

	if (itself(cpu, is->hook))
		return FILTERED;
	s = new_deed(is);
	if (!s)
		return lost(cpu);
	if (call->str >= 0) {
		s->deed.strings = 1;
		s->deed.dir = folder_of(made, call->dir);
		s->deed.str = argument(made, call->str);
	}
	if (call->how == BY_STRINGS) {
		s->deed.strings = 2;
		s->deed.link_text = !!(call->traits & LINK_TEXT);
		s->deed.dir2 = folder_of(made, call->dir2);
		s->deed.str2 = argument(made, call->str2);
	}
	return report(s, cpu, 0);
}

/* One watched system call that has come to its end. */
static __always_inline int judge(__u32 cpu, const struct made *made, long ret)
{
	const struct call *call = made->call;
	struct brief is = { .operation = call->operation, .hook = AT_SYS_EXIT, .has = HAS_RESULT };
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 traits = call->traits, arg = 0;
	struct file *file = 0;

	if (ret < 0 && ret >= -MAX_ERRNO) {
		if (ret != -EACCES && ret != -EPERM)
			return FILTERED;
		is.result = -ret;
	} else if (ret == 0 && traits & ZERO_IS_NOTHING) {
		return FILTERED;
	}
	if (traits & (MODE | REMOVE | FLAGS))
		arg = argument(made, call->arg);
	if (traits & MODE) {
		is.has |= HAS_MODE;
		is.mode = arg & 07777;
		if (traits & MASKED)
			is.mode &= ~task->fs->umask;
		if (traits & NODE)
			is.type = arg & S_IFMT ? arg & S_IFMT : S_IFREG;
	}
	if (traits & FOLDER || (traits & REMOVE && arg & AT_REMOVEDIR))
		is.type = S_IFDIR;
	if (traits & LINK_TEXT)
		is.type = S_IFLNK;

	if (call->how == BY_RETURN) {
		is.has |= HAS_FLAGS;
		is.flags = arg;
		if (traits & CREAT)
			is.flags = O_CREAT | O_WRONLY | O_TRUNC;
		if (traits & HOW) {
			__u64 how = 0;

			bpf_probe_read_user(&how, sizeof(how), (void *)argument(made, call->arg));
			is.flags = how;
		}
		if (!is.result)
			file = file_of((int)ret);
		if (file) {
			if (GET(file, f_mode) & FMODE_CREATED || is.flags & __O_TMPFILE)
				is.operation = OP_CREATE;
			is.has |= HAS_MODE;
			is.mode = GET(file, f_inode, i_mode) & 07777;
		}
	} else if (call->how == BY_FD || call->how == BY_MAP) {
		file = file_of((int)argument(made, call->fd));
	}
	if (file)
		return consider_file(cpu, &is, file);
	return by_strings(cpu, &is, made);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(kaimon_sys_exit, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 cpu = bpf_get_smp_processor_id();
	struct made made = { .regs = regs };
	const struct call *call;
	struct counters *c;
	__u32 nr;

#if defined(__TARGET_ARCH_x86)
	nr = regs->orig_ax;
	if (nr >= CALLS)
		return 0;
	made.compat = task->thread_info.status & TS_COMPAT;
	call = made.compat ? &calls_compat[nr] : &calls[nr];
#elif defined(__TARGET_ARCH_arm64)
	/* The calls of a 32-bit program have other numbers. */
	if (task->thread_info.flags >> TIF_32BIT & 1)
		return 0;
	nr = regs->syscallno;
	if (nr >= CALLS)
		return 0;
	call = &calls[nr];
#endif
	if (!call->how || !(config.sys_exit >> call->operation & 1))
		return 0;
	made.call = call;
	if (call->how == BY_MAP) {
		__u32 prot = argument(&made, 2), flags = argument(&made, 3);

		if (!(prot & PROT_WRITE) || (flags & MAP_TYPE) == MAP_PRIVATE || flags & MAP_ANONYMOUS)
			return 0;
	}
	c = begin(cpu);
	if (!c)
		return 0;
	end(c, judge(cpu, &made, ret));
	return 0;
}

#endif
