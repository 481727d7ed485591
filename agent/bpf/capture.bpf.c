// SPDX-License-Identifier: GPL-2.0
/*
 * Everything that runs in the kernel. The programs only read: none can block or
 * change what it watches. Each stands alone, so that a kernel which refuses one
 * still runs the others; internal/probe decides which.
 */
#include "include/kernel.h"
#define __VMLINUX_H__
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "include/record.h"
#include "include/accounting.h"
#include "include/filter.h"
#include "include/windows.h"
#include "include/path.h"
#include "include/calls.h"
#include "include/report.h"
#include "include/at_sys_exit.h"
#include "include/at_io_uring.h"
#include "include/at_vfs.h"

char LICENSE[] SEC("license") = "GPL";

struct described {
	__u64 inode;
	__u32 dev;
	__u32 mode;
	__u32 tgid;
	__u32 mount_ns;
	__u32 first_mount_ns;
	__u32 pad;
} described;

struct raw_arguments {
	__u64 first, second;
};

/* Run by the agent on itself: what the kernel calls it, and the file behind a descriptor. */
SEC("raw_tp/sys_enter")
int kaimon_describe(struct raw_arguments *arguments)
{
	struct task_struct *task = bpf_get_current_task_btf(), *first = task;
	struct file *file = file_of((int)arguments->first);
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	for (int i = 0; i < 64; i++) {
		if (BPF_CORE_READ(first, tgid) == 1)
			break;
		first = BPF_CORE_READ(first, group_leader, real_parent);
	}
	described.tgid = task->tgid;
	described.mount_ns = task->nsproxy->mnt_ns->ns.inum;
	described.first_mount_ns = BPF_CORE_READ(first, nsproxy, mnt_ns, ns.inum);
	described.inode = BPF_CORE_READ(inode, i_ino);
	described.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	described.mode = BPF_CORE_READ(inode, i_mode);
	return 0;
}

#define SWEEP 16

/* Run by the agent: closes the windows of SWEEP slots from the first on that began before a moment. */
SEC("raw_tp/sys_enter")
int kaimon_sweep(struct raw_arguments *arguments)
{
	__u32 from = arguments->first, cpu = from / WINDOWS;
	struct counters *c = begin(cpu);
	struct scratch *s;

	if (!c)
		return 0;
	count_add(c->swept, 1);
	s = claim();
	for (__u32 i = 0; i < SWEEP; i++) {
		__u32 slot = from + i;
		struct window *w = bpf_map_lookup_elem(&windows, &slot);

		if (!w || w->state == FREE || w->began >= arguments->second || !lock_window(w))
			continue;
		if (w->state != FREE && w->began < arguments->second)
			close_window(c, cpu, s, w, slot);
		unlock_window(w);
	}
	if (s)
		release(s);
	end(c, TOLD);
	return 0;
}
