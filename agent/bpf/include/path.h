/* SPDX-License-Identifier: GPL-2.0 */
/* Paths: walks from a dentry to the root, callers' strings, and the folders that are left out. */
#ifndef KAIMON_PATH_H
#define KAIMON_PATH_H

#define TURNS 72	/* 64 components and the mounts between them */

struct config {
	__u32 self_tgid;
	__u32 mount_ns;
	__u64 excluded_bits;	/* bit (inode % 64) of each folder left out */
};

struct config config;

struct inode_key {
	__u64 inode;
	__u32 dev;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct inode_key);
	__type(value, __u8);
} excluded_inodes SEC(".maps");

#define PREFIX_BYTES 256

struct prefix_key {
	__u32 bits;
	__u8 text[PREFIX_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 128);
	__type(key, struct prefix_key);
	__type(value, __u8);
} excluded_prefixes SEC(".maps");

struct prefix_slot {
	__u32 busy;
	struct prefix_key key;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct prefix_slot);
} prefix_slots SEC(".maps");

static __always_inline struct file *file_of(int fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files, *file = 0;

	if (fd < 0 || !table || (__u32)fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	files = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

static __always_inline struct mount *mount_of(struct vfsmount *vfs)
{
	return (void *)vfs - bpf_core_field_offset(struct mount, mnt);
}

static __always_inline bool left_out(struct dentry *dentry)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct inode_key key = {};

	key.inode = BPF_CORE_READ(inode, i_ino);
	if (!(config.excluded_bits >> (key.inode & 63) & 1))
		return 0;
	key.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	return bpf_map_lookup_elem(&excluded_inodes, &key) != 0;
}

/*
 * Appends the components from leaf to root at s->data[off], crossing mounts, and
 * returns bytes << 8 | path bits. A global function: the verifier reads it once,
 * and the offset is masked anew each turn so that its states converge.
 */
__attribute__((noinline)) int walk(struct scratch *s, __u32 off, __u32 room, __u64 dentry, __u64 vfsmount)
{
	struct dentry *d = (void *)dentry;
	struct mount *m;
	struct mnt_namespace *ns;
	__u32 from = off, bits = PATH_CUT;
	__u32 excluded = 0;

	if (!s)
		return PATH_BASELESS;
	if (!dentry || !vfsmount)
		return PATH_BASELESS;
	m = mount_of((void *)vfsmount);
	for (int i = 0; i < TURNS; i++) {
		struct dentry *top, *parent;
		__u32 len;

		off &= DATA_BYTES - 1;
		opaque(off);
		excluded |= left_out(d);
		top = BPF_CORE_READ(m, mnt.mnt_root);
		parent = BPF_CORE_READ(d, d_parent);
		if (d == top || d == parent) {
			struct mount *above = BPF_CORE_READ(m, mnt_parent);

			if (!above || above == m || d != top) {
				bits = d == top ? 0 : PATH_DETACHED;
				break;
			}
			d = BPF_CORE_READ(m, mnt_mountpoint);
			m = above;
			continue;
		}
		len = BPF_CORE_READ(d, d_name.len) & 0xff;
		opaque(len);
		if (off - from + len >= room || off + len > DATA_BYTES - 512)
			break;
		off &= DATA_BYTES - 1;
		len &= 0xff;
		opaque(off);
		opaque(len);
		if (off > DATA_BYTES - 1 ||
		    bpf_probe_read_kernel(&s->data[off], len & 0xff, BPF_CORE_READ(d, d_name.name)))
			break;
		off += len;
		off &= DATA_BYTES - 1;
		s->data[off] = '/';
		off++;
		d = parent;
	}
	ns = BPF_CORE_READ(m, mnt_ns);
	if (!ns)
		bits |= PATH_DETACHED;
	else if (BPF_CORE_READ(ns, ns.inum) != config.mount_ns)
		bits |= PATH_FOREIGN;
	s->found_excluded |= excluded;
	return (int)((off - from) << 8 | bits);
}

/* Whether the caller's root is a folder below the root of its namespace. */
static __always_inline bool chrooted(struct task_struct *task)
{
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);
	struct vfsmount *vfs = BPF_CORE_READ(task, fs, root.mnt);
	struct mount *m, *above;

	if (root != BPF_CORE_READ(vfs, mnt_root))
		return 1;
	m = mount_of(vfs);
	above = BPF_CORE_READ(m, mnt_parent);
	return above != m && BPF_CORE_READ(m, mnt_mountpoint) != BPF_CORE_READ(above, mnt.mnt_root);
}

/* Whether an absolute (or, with `below`, a relative) string names something left out, with no ".." to hide behind. */
__attribute__((noinline)) int string_left_out(struct scratch *s, __u32 off, __u32 below)
{
	struct prefix_slot *slot = 0;
	int answer = 0, ended = 0;
	__u8 last = 0;

	if (!s)
		return 0;
	for (__u32 i = 0; i < SLOTS && !slot; i++) {
		__u32 key = i;
		struct prefix_slot *one = bpf_map_lookup_elem(&prefix_slots, &key);

		if (one && __sync_val_compare_and_swap(&one->busy, 0, 1) == 0)
			slot = one;
	}
	if (!slot)
		return 0;
	off &= DATA_BYTES / 2 - 1;
	opaque(off);
	if (bpf_probe_read_kernel(slot->key.text, PREFIX_BYTES, &s->data[off]))
		goto out;
	for (int i = 0; i < PREFIX_BYTES; i++) {
		__u8 c = slot->key.text[i];

		if (!c) {
			ended = 1;
			break;
		}
		if (c == '.' && last == '.')
			goto out;
		last = c;
	}
	if (!ended)
		goto out;
	slot->key.bits = PREFIX_BYTES * 8;
	answer = below ? 1 : bpf_map_lookup_elem(&excluded_prefixes, &slot->key) != 0;
out:
	__sync_lock_test_and_set(&slot->busy, 0);
	return answer;
}

/*
 * Takes a string and the folder it starts from to s->data[off]. Returns
 * bytes << 8 | path bits; s->found_excluded then says whether it names something left out.
 */
__attribute__((noinline)) int take_string(struct scratch *s, __u32 off, int dir, __u64 user, __u64 kernel)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct dentry *dentry = 0;
	struct vfsmount *vfs = 0;
	__u32 bits = PATH_STRING, len = 1;
	int base, absolute;
	long n;

	if (!s)
		return PATH_UNREAD;
	off &= DATA_BYTES / 2 - 1;
	opaque(off);
	s->found_excluded = 0;
	s->data[off] = 0;
	if (user || kernel) {
		n = user ? bpf_probe_read_user_str(&s->data[off], PATH_BYTES, (void *)user) :
			   bpf_probe_read_kernel_str(&s->data[off], PATH_BYTES, (void *)kernel);
		if (n <= 0)
			return PATH_STRING | PATH_UNREAD;
		len = n & (2 * PATH_BYTES - 1);
	}
	absolute = s->data[off] == '/';
	if (chrooted(task))
		bits |= PATH_CHROOT;
	if (absolute) {
		dentry = BPF_CORE_READ(task, fs, root.dentry);
		vfs = BPF_CORE_READ(task, fs, root.mnt);
	} else if (dir == AT_FDCWD) {
		dentry = BPF_CORE_READ(task, fs, pwd.dentry);
		vfs = BPF_CORE_READ(task, fs, pwd.mnt);
	} else {
		struct file *file = file_of(dir);

		if (file) {
			dentry = BPF_CORE_READ(file, f_path.dentry);
			vfs = BPF_CORE_READ(file, f_path.mnt);
		}
	}
	if (!dentry)
		return (int)(len << 8 | bits | PATH_BASELESS);
	base = walk(s, off + len, PATH_BYTES + 1 - len, (__u64)dentry, (__u64)vfs);
	if (config.excluded_bits) {
		if (absolute && !s->found_excluded && !(base & PATH_FOREIGN) && !(bits & PATH_CHROOT))
			s->found_excluded = string_left_out(s, off, 0);
		else if (s->found_excluded)
			s->found_excluded = string_left_out(s, off, 1);
	}
	bits |= base & 0xff;
	len += (__u32)base >> 8;
	return (int)(len << 8 | bits);
}

#endif
