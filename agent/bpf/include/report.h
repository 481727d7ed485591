/* SPDX-License-Identifier: GPL-2.0 */
/* From an operation to a record: whether it is watched, by whom, on what path; then it is emitted. */
#ifndef KAIMON_REPORT_H
#define KAIMON_REPORT_H

enum hook {
	AT_OPEN, AT_WRITE, AT_MMAP, AT_MPROTECT, AT_RENAME, AT_UNLINK, AT_RMDIR, AT_LINK,
	AT_SYMLINK, AT_MKDIR, AT_MKNOD, AT_CHMOD, AT_CHOWN, AT_TRUNCATE, AT_SYS_EXIT, AT_IO_URING,
	HOOKS,
};

/* How often each hook met the agent itself: its canary makes them fire, and looks. */
struct own {
	__u64 met[HOOKS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);	/* the loader makes it one a possible CPU */
	__type(key, __u32);
	__type(value, struct own);
} owns SEC(".maps");

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

static __always_inline bool itself(__u32 cpu, __u32 hook)
{
	struct own *own;

	if (bpf_get_current_pid_tgid() >> 32 != config.self_tgid)
		return 0;
	own = bpf_map_lookup_elem(&owns, &cpu);
	if (own)
		count_add(own->met[hook & 15], 1);
	return 1;
}

static __always_inline bool pseudo(struct inode *inode)
{
	__u64 magic = GET(inode, i_sb, s_magic);

	return magic == PROC_SUPER_MAGIC || magic == SYSFS_MAGIC ||
	       magic == CGROUP_SUPER_MAGIC || magic == CGROUP2_SUPER_MAGIC;
}

/*
 * Whether the file lies in no file system that has a path, or is the file behind
 * an overlay's: that has the overlay's path and another inode (before 6.8), or
 * lies in a mount of the overlay's own.
 */
static __always_inline bool hidden(struct file *file, struct inode *inode)
{
	struct vfsmount *vfs = GET(file, f_path.mnt);
	struct dentry *dentry = GET(file, f_path.dentry);
	struct inode *named = GET(dentry, d_inode);

	return GET(vfs, mnt_flags) & MNT_INTERNAL ||
	       (__u64)GET(mount_of((__u64)vfs), mnt_ns) == MNT_NS_INTERNAL ||
	       (named != inode && GET(named, i_sb, s_magic) == OVERLAYFS_SUPER_MAGIC);
}

/* Whether an operation on this open file is none that we report. */
static __always_inline bool unwatched(const struct brief *is, struct file *file, struct inode *inode)
{
	if (hidden(file, inode))
		return 1;
	if (is->operation == OP_CHMOD || is->operation == OP_CHOWN)
		return 0;
	if (is->type != S_IFREG && is->type != S_IFBLK)
		return 1;
	return is->operation == OP_OPEN && (is->flags & O_ACCMODE) == 0 && pseudo(inode);
}

static __always_inline void describe_process(struct record *r)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	struct task_struct *parent = leader->real_parent;
	__u64 ids = bpf_get_current_uid_gid();

	r->tgid = task->tgid;
	r->start_ns = leader->start_boottime;
	r->exec_id = task->self_exec_id;
	r->uid = ids;
	r->gid = ids >> 32;
	r->euid = task->cred->euid.val;
	r->loginuid = bpf_core_field_exists(task->loginuid) ? task->loginuid.val : (__u32)-1;
	r->mount_ns = task->nsproxy->mnt_ns->ns.inum;
	r->cgroup = bpf_get_current_cgroup_id();
	r->ppid = parent->tgid;
	bpf_probe_read_kernel(r->comm, sizeof(r->comm), leader->comm);
	bpf_probe_read_kernel(r->parent_comm, sizeof(r->parent_comm), parent->group_leader->comm);
}

/* The inode that holds an overlay's file, where that is known. */
static __always_inline struct inode *real_inode(struct inode *inode)
{
	struct dentry *upper = 0;
	struct inode *real;

	if (!config.overlay_upper || GET(inode, i_sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return inode;
	bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + config.overlay_upper);
	if (!upper)
		return inode;
	real = BPF_CORE_READ(upper, d_inode);
	return real ? real : inode;
}

static __always_inline __u32 add_walk(struct scratch *s, __u32 off, __u64 dentry, __u64 mnt, __u16 *len, __u32 shift)
{
	int got = walk(s, off, PATH_BYTES, dentry, mnt);

	*len = (__u32)got >> 8;
	s->record.path_bits |= (got & 0xff) << shift;
	return off + *len;
}

/* Writes the deed's paths, and says whether they are left out. */
static __always_inline bool add_paths(struct scratch *s, __u32 *end)
{
	struct deed *deed = &s->deed;
	struct record *r = &s->record;
	bool out = 0, out2;
	__u32 off = 0;
	int got;

	if (deed->strings) {
		got = take_string(s, 0, deed->dir, deed->str, deed->kstr);
		off = r->path_len = (__u32)got >> 8;
		r->path_bits |= got & 0xff;
		out = left_out(s->verdict) && !(deed->is.operation == OP_OPEN && deed->is.result);
	} else if (deed->file) {
		struct file *file = (void *)deed->file;
		struct dentry *dentry = GET(file, f_path.dentry);

		if (!GET(dentry, d_hash.pprev) && GET(dentry, d_parent) != dentry)
			r->path_bits |= PATH_UNLINKED;
		off = add_walk(s, 0, plain(s->dentry, dentry), plain(s->mnt, GET(file, f_path.mnt)), &r->path_len, 0);
		out = left_out(s->verdict);
		if (out && deed->is.operation == OP_OPEN && sensitive(s, off, GET(dentry, d_name.len)))
			out = 0;
	} else if (deed->dentry) {
		if (deed->name_len) {
			off = deed->name_len & 0xff;
			bpf_probe_read_kernel(s->data, off, (void *)deed->name);
			s->data[off] = '/';
			off++;
		}
		if (deed->unlinked)
			r->path_bits |= PATH_UNLINKED;
		got = off;
		off = add_walk(s, off, deed->dentry, deed->mnt, &r->path_len, 0);
		r->path_len += got;
		out = left_out(s->verdict);
	} else {
		r->path_bits |= PATH_STRING | PATH_UNREAD;
	}
	out2 = out;
	off &= DATA_BYTES - 1;
	if (deed->strings == 2 || deed->link_text) {
		got = take_string(s, off, deed->dir2, deed->str2, deed->kstr2);
		r->target_len = (__u32)got >> 8;
		off += r->target_len;
		r->path_bits |= (got & 0xff) << TARGET_SHIFT;
		r->has |= HAS_TARGET;
		if (!deed->link_text)
			out2 = left_out(s->verdict);
	} else if (deed->dentry2) {
		off = add_walk(s, off, deed->dentry2, deed->mnt2, &r->target_len, TARGET_SHIFT);
		r->has |= HAS_TARGET;
		out2 = left_out(s->verdict);
	}
	*end = off;
	return out && out2;
}

/*
 * Numbers and sends the row of s->deed, releases s, and opens the window of the
 * slot if there is one (slot + 1; 0 = none), which the caller has locked. A
 * global function: the verifier reads it once a program.
 */
__attribute__((noinline)) int report(struct scratch *s, __u32 cpu, __u32 window)
{
	struct process_key process = {};
	struct window *w = 0;
	struct counters *c;
	struct record *r;
	struct deed *deed;
	__u32 off = 0, slot = window - 1;
	bool out;

	if (!s)
		return FILTERED;
	c = bpf_map_lookup_elem(&cpus, &cpu);
	if (!c)
		return FILTERED;
	if (window)
		w = bpf_map_lookup_elem(&windows, &slot);
	if (w)
		close_window(c, cpu, s, w, slot);
	r = &s->record;
	deed = &s->deed;
	r->path_bits = 0;
	r->path_len = r->target_len = r->exe_len = r->pad = 0;
	r->has = deed->is.has;
	out = add_paths(s, &off);
	if (!out && config.flags & (ONLY_PROGRAMS | NOT_PROGRAMS) && program_left_out()) {
		struct file *file = (void *)deed->file;

		out = !(deed->is.operation == OP_OPEN && file &&
			sensitive(s, r->path_len, GET(file, f_path.dentry, d_name.len)));
	}
	if (out) {
		release(s);
		if (w)
			w->state = LEFT_OUT;
		return FILTERED;
	}
	r->inode = deed->inode;
	r->dev = deed->dev;
	r->operation = deed->is.operation;
	r->mode = deed->is.mode;
	r->mode_before = deed->is.mode_before;
	r->flags = deed->is.flags;
	r->type = deed->is.type;
	r->result = deed->is.result;
	r->window = w ? window : 0;
	r->first = 0;
	r->cpu = cpu;
	r->time_ns = r->last_ns = deed->time_ns;
	describe_process(r);
	process.tgid = r->tgid;
	process.start_ns = r->start_ns;
	process.exec_id = r->exec_id;
	if (!bpf_map_lookup_elem(&known, &process)) {
		struct task_struct *task = bpf_get_current_task_btf();
		struct file *exe = task->mm->exe_file;

		if (exe) {
			off &= DATA_BYTES - 1;
			off = add_walk(s, off, plain(s->dentry, exe->f_path.dentry), plain(s->mnt, exe->f_path.mnt),
				       &r->exe_len, EXE_SHIFT);
			r->has |= HAS_EXE;
		}
	}
	if (!emit(c, s, off, 1)) {
		if (r->has & HAS_EXE) {
			__u8 yes = 1;

			bpf_map_update_elem(&known, &process, &yes, BPF_ANY);
		}
		if (w) {
			w->state = OPEN;
			w->first = r->seq;
		}
	}
	release(s);
	return TOLD;
}

/* An empty deed to fill in; null if there is no room, and then lost() is all that is left to do. */
static __always_inline struct scratch *new_deed(const struct brief *is)
{
	struct scratch *s = claim();

	if (s) {
		__builtin_memset(&s->deed, 0, sizeof(s->deed));
		s->deed.is = *is;
		s->deed.time_ns = bpf_ktime_get_boot_ns();
	}
	return s;
}

static __always_inline int lost(__u32 cpu)
{
	struct counters *c = bpf_map_lookup_elem(&cpus, &cpu);

	if (c)
		emit(c, 0, 0, 1);
	return TOLD;
}

/* An operation on an open file. */
static __always_inline int consider_file(__u32 cpu, struct brief *is, struct file *file)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct inode *inode = GET(file, f_inode), *real;
	struct window_key k = {};
	struct dentry *dentry;
	struct window *w = 0;
	struct scratch *s;
	__u32 slot = 0;
	__u64 now = 0;
	int outcome;

	if (itself(cpu, is->hook))
		return FILTERED;
	is->type = GET(inode, i_mode) & S_IFMT;
	if (unwatched(is, file, inode))
		return FILTERED;
	if (config.window_ns && (is->operation == OP_OPEN || is->operation == OP_WRITE)) {
		now = bpf_ktime_get_boot_ns();
		dentry = GET(file, f_path.dentry);
		k.dentry = (__u64)dentry;
		k.mnt = (__u64)GET(file, f_path.mnt);
		k.parent = (__u64)GET(dentry, d_parent);
		k.name = GET(dentry, d_name.hash_len);
		k.cred = (__u64)task->cred;
		k.tgid = task->tgid;
		k.what = is->operation;
		if (is->operation == OP_OPEN)
			k.what |= (is->flags & O_ACCMODE) << 8;
		slot = slot_of(cpu, GET(inode, i_ino), &k);
		w = bpf_map_lookup_elem(&windows, &slot);
		if (w && !lock_window(w))
			w = 0;
		if (w) {
			outcome = repeat(w, &k, now);
			if (outcome != TOLD)
				return outcome;
		}
	}
	s = new_deed(is);
	if (!s) {
		if (w)
			unlock_window(w);
		return lost(cpu);
	}
	real = real_inode(inode);
	s->deed.file = (__u64)file;
	s->deed.inode = GET(real, i_ino);
	s->deed.dev = GET(real, i_sb, s_dev);
	s->deed.is.has |= HAS_INODE;
	outcome = report(s, cpu, w ? slot + 1 : 0);
	if (w) {
		w->key = k;
		w->began = now;
		unlock_window(w);
	}
	return outcome;
}

#endif
