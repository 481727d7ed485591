/* SPDX-License-Identifier: GPL-2.0 */
/* From an operation to a record: whether it is watched, by whom, on what path; then it is emitted. */
#ifndef KAIMON_REPORT_H
#define KAIMON_REPORT_H

#define FILTERED 1

struct process_key {
	__u64 start_ns;
	__u64 exec_id;
	__u32 tgid;
	__u32 pad;
};

/* Programs whose path has gone through the ring. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct process_key);
	__type(value, __u8);
} known SEC(".maps");

/* What is to be said of one operation, before there is room to say it. */
struct deed {
	__u32 operation;
	__u32 has;
	__u32 mode;
	__u32 flags;
	__u32 type;
	__s32 result;
	struct file *file;
	int dir, dir2;
	__u64 str, str2;	/* in the caller's memory */
	__u64 kstr, kstr2;	/* in the kernel's */
	__u32 strings;		/* 0: by file */
	__u32 link_text;
};

static __always_inline bool anonymous(struct file *file)
{
	return BPF_CORE_READ(file, f_path.mnt, mnt_flags) & MNT_INTERNAL;
}

static __always_inline bool pseudo(struct inode *inode)
{
	__u64 magic = BPF_CORE_READ(inode, i_sb, s_magic);

	return magic == PROC_SUPER_MAGIC || magic == SYSFS_MAGIC ||
	       magic == CGROUP_SUPER_MAGIC || magic == CGROUP2_SUPER_MAGIC;
}

/* Whether an operation on this open file is none that we report. */
static __always_inline bool unwatched(struct deed *deed, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u16 mode = BPF_CORE_READ(inode, i_mode);

	if (anonymous(file))
		return 1;
	if (deed->operation == OP_CHMOD || deed->operation == OP_CHOWN)
		return 0;
	if (!S_ISREG(mode) && !S_ISBLK(mode))
		return 1;
	return deed->operation == OP_OPEN && (deed->flags & O_ACCMODE) == 0 && pseudo(inode);
}

static __always_inline void describe_process(struct record *r)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent);

	r->tgid = bpf_get_current_pid_tgid() >> 32;
	r->start_ns = BPF_CORE_READ(leader, start_boottime);
	r->exec_id = BPF_CORE_READ(task, self_exec_id);
	r->uid = bpf_get_current_uid_gid();
	r->gid = bpf_get_current_uid_gid() >> 32;
	r->euid = BPF_CORE_READ(task, cred, euid.val);
	r->loginuid = bpf_core_field_exists(task->loginuid) ? BPF_CORE_READ(task, loginuid.val) : (__u32)-1;
	r->mount_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	r->cgroup = bpf_get_current_cgroup_id();
	r->ppid = BPF_CORE_READ(parent, tgid);
	BPF_CORE_READ_INTO(&r->comm, leader, comm);
	BPF_CORE_READ_INTO(&r->parent_comm, parent, group_leader, comm);
}

static __always_inline __u32 add_walk(struct scratch *s, __u32 off, struct path *path, __u16 *len, __u32 shift)
{
	int got = walk(s, off, PATH_BYTES, (__u64)path->dentry, (__u64)path->mnt);

	*len = (__u32)got >> 8;
	s->record.path_bits |= (got & 0xff) << shift;
	return off + *len;
}

static __always_inline int report(struct counters *c, __u32 cpu, struct deed *deed)
{
	struct process_key process = {};
	struct scratch *s = claim();
	struct record *r;
	struct path path = {};
	__u32 off = 0, excluded = 0;
	int got;

	if (!s)
		return emit(c, s, 0);
	r = &s->record;
	s->found_excluded = 0;
	r->path_bits = 0;
	r->path_len = r->target_len = r->exe_len = r->pad = 0;
	r->inode = 0;
	r->dev = 0;
	r->has = deed->has;
	if (deed->strings) {
		got = take_string(s, 0, deed->dir, deed->str, deed->kstr);
		off = r->path_len = (__u32)got >> 8;
		r->path_bits |= got & 0xff;
		excluded = s->found_excluded;
	} else if (deed->file) {
		struct file *file = deed->file;
		struct inode *inode = BPF_CORE_READ(file, f_inode);
		struct dentry *dentry;

		BPF_CORE_READ_INTO(&path, file, f_path);
		dentry = path.dentry;
		off = add_walk(s, 0, &path, &r->path_len, 0);
		if (!BPF_CORE_READ(dentry, d_hash.pprev) && BPF_CORE_READ(dentry, d_parent) != dentry)
			r->path_bits |= PATH_UNLINKED;
		r->inode = BPF_CORE_READ(inode, i_ino);
		r->dev = BPF_CORE_READ(inode, i_sb, s_dev);
		r->has |= HAS_INODE;
		excluded = s->found_excluded;
	} else {
		r->path_bits |= PATH_STRING | PATH_UNREAD;
	}
	if (deed->strings == 2) {
		off &= DATA_BYTES - 1;
		got = take_string(s, off, deed->dir2, deed->str2, deed->kstr2);
		r->target_len = (__u32)got >> 8;
		off += r->target_len;
		r->path_bits |= (got & 0xff) << TARGET_SHIFT;
		r->has |= HAS_TARGET;
		if (!deed->link_text)
			excluded &= s->found_excluded;
	}
	if (excluded) {
		release(s);
		return FILTERED;
	}
	r->operation = deed->operation;
	r->mode = deed->mode;
	r->flags = deed->flags;
	r->type = deed->type;
	r->result = deed->result;
	r->count = 1;
	r->cpu = cpu;
	r->time_ns = bpf_ktime_get_boot_ns();
	describe_process(r);
	process.tgid = r->tgid;
	process.start_ns = r->start_ns;
	process.exec_id = r->exec_id;
	if (!bpf_map_lookup_elem(&known, &process)) {
		struct task_struct *task = (void *)bpf_get_current_task();
		struct file *exe = BPF_CORE_READ(task, mm, exe_file);

		if (exe) {
			BPF_CORE_READ_INTO(&path, exe, f_path);
			off &= DATA_BYTES - 1;
			off = add_walk(s, off, &path, &r->exe_len, EXE_SHIFT);
			r->has |= HAS_EXE;
		}
	}
	got = emit(c, s, off);
	if (!got && r->has & HAS_EXE) {
		__u8 yes = 1;

		bpf_map_update_elem(&known, &process, &yes, BPF_ANY);
	}
	release(s);
	return got;
}

static __always_inline int consider(struct counters *c, __u32 cpu, struct deed *deed, struct file *file)
{
	if (bpf_get_current_pid_tgid() >> 32 == config.self_tgid)
		return FILTERED;
	if (file) {
		if (unwatched(deed, file))
			return FILTERED;
		deed->file = file;
		deed->type = BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT;
	}
	return report(c, cpu, deed);
}

#endif
