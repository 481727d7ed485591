/* SPDX-License-Identifier: GPL-2.0 */
/* Paths: walks from a dentry to the root, and callers' strings. */
#ifndef KAIMON_PATH_H
#define KAIMON_PATH_H

#define TURNS 288	/* 256 components and the mounts between them */

static __always_inline struct file *file_of(int fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = task->files->fdt;
	struct file *file = 0;

	if (fd < 0 || (__u32)fd >= table->max_fds)
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), table->fd + fd);
	return file;
}

static __always_inline struct mount *mount_of(__u64 vfsmount)
{
	return (void *)(vfsmount - bpf_core_field_offset(struct mount, mnt));
}

/* A pointer as a plain number, which is all that a global function takes. */
#define plain(place, pointer)							\
	({									\
		*(volatile __u64 *)&(place) = (__u64)(pointer);			\
		*(volatile __u64 *)&(place);					\
	})

struct walk {
	struct scratch *s;
	struct dentry *d;
	struct mount *m;
	__u32 off, from, room, bits;
};

/* One turn of a walk: a component, or the step over to the mount below. */
static long walk_on(__u32 turn, void *state)
{
	struct walk *at = state;
	struct dentry *d = at->d, *top, *parent;
	struct mount *m = at->m;
	struct scratch *s = at->s;
	__u32 off = at->off & (DATA_BYTES - 1), len;

	if (config.folder_bits && !s->verdict)
		s->verdict = folder_verdict(d) & (EXCLUDED | INCLUDED);
	top = GET(m, mnt.mnt_root);
	parent = GET(d, d_parent);
	if (d == top || d == parent) {
		struct mount *over = GET(m, mnt_parent);

		if (!over || over == m || d != top) {
			at->bits = d == top ? 0 : PATH_DETACHED;
			return 1;
		}
		at->d = GET(m, mnt_mountpoint);
		at->m = over;
		return 0;
	}
	len = GET(d, d_name.len) & 0xff;
	opaque(len);
	if (off - at->from + len >= at->room || off + len > DATA_BYTES - 512)
		return 1;
	off &= DATA_BYTES - 1;
	len &= 0xff;
	opaque(off);
	opaque(len);
	if (off > DATA_BYTES - 1 || bpf_probe_read_kernel(&s->data[off], len & 0xff, GET(d, d_name.name)))
		return 1;
	off += len;
	off &= DATA_BYTES - 1;
	s->data[off] = '/';
	at->off = off + 1;
	at->d = parent;
	return 0;
}

/*
 * Appends the components from leaf to root at s->data[off], crossing mounts, and
 * returns bytes << 8 | path bits; s->verdict then says what the folders on the
 * way mean. A global function: the verifier reads it once a program.
 */
__attribute__((noinline)) int walk(struct scratch *s, __u32 off, __u32 room, __u64 dentry, __u64 vfsmount)
{
	struct mount *m;
	struct walk at = { .s = s, .off = off, .from = off, .room = room, .bits = PATH_CUT };
	struct mnt_namespace *ns;

	if (!s)
		return PATH_BASELESS;
	s->verdict = KEPT;
	if (!dentry || !vfsmount)
		return PATH_BASELESS;
	at.d = (void *)dentry;
	at.m = mount_of(vfsmount);
	if (typed()) {
		at.d = as_typed(at.d);
		at.m = as_typed(at.m);
	}
	s->above = config.folder_bits ? folder_verdict(at.d) & ABOVE : 0;
	s->verdict = 0;
	turns(TURNS, walk_on, &at);
	m = at.m;
	ns = GET(m, mnt_ns);
	if (!ns)
		at.bits |= PATH_DETACHED;
	else if (GET(ns, ns.inum) != config.mount_ns)
		at.bits |= PATH_FOREIGN;
	if (at.bits & PATH_CUT && !s->verdict)
		s->verdict = KEPT;
	s->verdict |= s->above;
	return (int)((at.off - off) << 8 | at.bits);
}

/* Whether the caller's root is a folder below the root of its namespace. */
static __always_inline bool chrooted(struct task_struct *task)
{
	struct dentry *root = task->fs->root.dentry;
	struct vfsmount *vfs = task->fs->root.mnt;
	struct mount *m, *over;

	if (root != vfs->mnt_root)
		return 1;
	m = mount_of((__u64)vfs);
	over = GET(m, mnt_parent);
	return over != m && GET(m, mnt_mountpoint) != GET(over, mnt.mnt_root);
}

/*
 * Takes a string and the folder it starts from to s->data[off]. Returns
 * bytes << 8 | path bits; s->verdict then says what the folders mean that it names.
 */
__attribute__((noinline)) int take_string(struct scratch *s, __u32 off, int dir, __u64 user, __u64 kernel)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 dentry = 0, vfs = 0;
	__u32 bits = PATH_STRING, len = 1, verdict;
	int base, absolute;
	long n;

	if (!s)
		return PATH_UNREAD;
	off &= DATA_BYTES / 2 - 1;
	opaque(off);
	s->verdict = KEPT;
	s->data[off] = 0;
	if (user || kernel) {
		n = user ? bpf_probe_read_user_str(&s->data[off], PATH_BYTES, (void *)user) :
			   bpf_probe_read_kernel_str(&s->data[off], PATH_BYTES, (void *)kernel);
		if (n < 0)
			return PATH_STRING | PATH_UNREAD;
		if (n > 0)	/* older kernels say 0 of an empty string */
			len = n & (2 * PATH_BYTES - 1);
	}
	absolute = s->data[off] == '/';
	if (chrooted(task))
		bits |= PATH_CHROOT;
	if (absolute) {
		dentry = plain(s->dentry, task->fs->root.dentry);
		vfs = plain(s->mnt, task->fs->root.mnt);
	} else if (dir == AT_FDCWD) {
		dentry = plain(s->dentry, task->fs->pwd.dentry);
		vfs = plain(s->mnt, task->fs->pwd.mnt);
	} else {
		struct file *file = file_of(dir);

		if (file) {
			dentry = plain(s->dentry, GET(file, f_path.dentry));
			vfs = plain(s->mnt, GET(file, f_path.mnt));
		}
	}
	if (!dentry)
		return (int)(len << 8 | bits | PATH_BASELESS);
	base = walk(s, off + len, PATH_BYTES + 1 - len, dentry, vfs);
	verdict = s->verdict;
	if (config.folder_bits) {
		__u32 named = string_verdict(s, off, absolute && !(base & PATH_FOREIGN) && !(bits & PATH_CHROOT));

		/* What a relative string may lead into lies deeper than the folder that it starts from. */
		if (named)
			verdict = named;
		else if (verdict & ABOVE && (!absolute || bits & PATH_CHROOT))
			verdict = KEPT;
	}
	s->verdict = verdict;
	bits |= base & 0xff;
	len += (__u32)base >> 8;
	return (int)(len << 8 | bits);
}

#endif
