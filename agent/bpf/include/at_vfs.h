/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Capture where the file system itself decides: at security_*, whose arguments
 * are files and dentries and not what a caller says. One body serves fexit,
 * which runs once the security modules have decided, and kprobe, which runs
 * before and so sees attempts.
 *
 * With fexit the end of most operations is seen too: what is about to be done is
 * kept with the task (`stash`) and told, with its result, at the exit of the
 * function that does it. Nothing is counted before that.
 */
#ifndef KAIMON_AT_VFS_H
#define KAIMON_AT_VFS_H

#define NAME_BYTES 256

struct stash {
	struct deed deed;	/* to be told at the end of its operation */
	__u64 object;		/* the dentry that says which end is meant; 0 = none */
	__u64 truncated;	/* the inode that an open is about to truncate */
	char name[NAME_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stash);
} stashes SEC(".maps");

static __always_inline struct stash *stash_of(__u64 flags)
{
	return bpf_task_storage_get(&stashes, bpf_get_current_task_btf(), 0, flags);
}

static __always_inline void about_inode(struct deed *deed, struct inode *inode)
{
	struct inode *real;

	if (!inode)
		return;
	real = real_inode(inode);
	deed->inode = GET(real, i_ino);
	deed->dev = GET(real, i_sb, s_dev);
	deed->is.has |= HAS_INODE;
	deed->is.type = GET(inode, i_mode) & S_IFMT;
}

/* Tells a deed as it stands, with its result if that is known; s is null if there was no room for it. */
static __always_inline int tell(struct scratch *s, int result, bool known)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct counters *c = begin(cpu);
	int outcome = FILTERED;

	if (!s) {
		if (c)
			end(c, lost(cpu));
		return 0;
	}
	if (!c || itself(cpu, s->deed.is.hook) || (result < 0 && result != -EACCES && result != -EPERM)) {
		release(s);
	} else {
		if (known) {
			s->deed.is.result = result < 0 ? -result : 0;
			s->deed.is.has |= HAS_RESULT;
		}
		outcome = report(s, cpu, 0);
	}
	if (c)
		end(c, outcome);
	return 0;
}

/*
 * An operation on names. `object` is the dentry that the operation's end will
 * name, `renamed` the one whose name changes. verdict is what the security
 * modules said; a kprobe does not know.
 */
static __always_inline int by_names(struct scratch *s, struct dentry *object, struct dentry *renamed, int verdict)
{
	struct stash *stash = 0;
	__u32 len;

	if (!s || verdict)
		return tell(s, verdict, 1);
	if (config.results >> s->deed.is.operation & 1)
		stash = stash_of(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!stash)
		return tell(s, 0, 0);
	if (renamed) {
		len = GET(renamed, d_name.len) & 0xff;
		bpf_probe_read_kernel(stash->name, len, GET(renamed, d_name.name));
		s->deed.name_len = len;
		s->deed.dentry = (__u64)GET(renamed, d_parent);
	}
	stash->deed = s->deed;
	stash->object = (__u64)object;
	release(s);
	return 0;
}

/* The end of an operation on names. */
static __always_inline int done(__u32 operation, __u64 object, int result)
{
	struct stash *stash = stash_of(0);
	struct dentry *dentry = (void *)object;
	struct brief none = {};
	struct scratch *s;

	if (!stash || !stash->object || stash->object != object || stash->deed.is.operation != operation)
		return 0;
	stash->object = 0;
	s = new_deed(&none);
	if (s) {
		s->deed = stash->deed;
		s->deed.name = (__u64)stash->name;
		if (!(s->deed.is.has & HAS_INODE) && result >= 0)
			about_inode(&s->deed, GET(dentry, d_inode));
		/* It has arrived; what was there before may have its old name now. */
		if (operation == OP_RENAME && result >= 0)
			s->deed.dentry2 = object;
	}
	return tell(s, result, 1);
}

static __always_inline int on_file(struct brief *is, struct file *file)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct counters *c = begin(cpu);

	if (c)
		end(c, consider_file(cpu, is, file));
	return 0;
}

#define AT(op, at) { .operation = OP_##op, .hook = AT_##at }

static __always_inline int on_open(struct file *file, int known)
{
	struct brief is = AT(OPEN, OPEN);
	__u32 f_mode = GET(file, f_mode);
	struct stash *stash;

	is.flags = GET(file, f_flags);
	is.has = HAS_FLAGS | HAS_MODE | (known ? HAS_RESULT : 0);
	is.mode = GET(file, f_inode, i_mode) & 07777;
	if (f_mode & FMODE_CREATED || is.flags & __O_TMPFILE)
		is.operation = OP_CREATE;
	if (is.flags & O_TRUNC && !(f_mode & FMODE_CREATED)) {
		stash = stash_of(BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (stash)
			stash->truncated = (__u64)GET(file, f_inode);
	}
	return on_file(&is, file);
}

static __always_inline int on_write(struct file *file, int mask)
{
	struct brief is = AT(WRITE, WRITE);

	return mask & MAY_WRITE ? on_file(&is, file) : 0;
}

static __always_inline int on_mmap(struct file *file, unsigned long prot, unsigned long flags)
{
	struct brief is = AT(MMAP_WRITE, MMAP);

	if (!file || !(prot & PROT_WRITE) || (flags & MAP_TYPE) == MAP_PRIVATE)
		return 0;
	return on_file(&is, file);
}

static __always_inline int on_mprotect(struct vm_area_struct *vma, unsigned long prot)
{
	struct brief is = AT(MMAP_WRITE, MPROTECT);
	unsigned long flags = GET(vma, vm_flags);
	struct file *file = GET(vma, vm_file);

	if (!file || !(prot & PROT_WRITE) || !(flags & VM_SHARED) || flags & VM_WRITE)
		return 0;
	return on_file(&is, file);
}

/* A deed about one dentry. */
static __always_inline struct scratch *about(struct brief *is, struct dentry *dentry, struct vfsmount *mnt)
{
	struct scratch *s = new_deed(is);

	if (s) {
		about_inode(&s->deed, GET(dentry, d_inode));
		s->deed.dentry = (__u64)dentry;
		s->deed.mnt = (__u64)mnt;
	}
	return s;
}

static __always_inline int on_truncate(struct dentry *dentry, struct vfsmount *mnt, int verdict)
{
	struct brief is = AT(TRUNCATE, TRUNCATE);
	struct stash *stash = stash_of(0);

	/* The open that truncates has been told, and its flags say so. */
	if (stash && stash->truncated && stash->truncated == (__u64)GET(dentry, d_inode)) {
		stash->truncated = 0;
		return 0;
	}
	return by_names(about(&is, dentry, mnt), dentry, 0, verdict);
}

static __always_inline int on_path_truncate(const struct path *path, int verdict)
{
	return on_truncate(GET(path, dentry), GET(path, mnt), verdict);
}

static __always_inline int on_file_truncate(struct file *file, int verdict)
{
	return on_truncate(GET(file, f_path.dentry), GET(file, f_path.mnt), verdict);
}

static __always_inline int on_chmod(const struct path *path, __u32 mode, int verdict)
{
	struct brief is = AT(CHMOD, CHMOD);
	struct dentry *dentry = GET(path, dentry);

	is.has = HAS_MODE | HAS_MODE_BEFORE;
	is.mode = mode & 07777;
	is.mode_before = GET(dentry, d_inode, i_mode) & 07777;
	return by_names(about(&is, dentry, GET(path, mnt)), dentry, 0, verdict);
}

static __always_inline int on_chown(const struct path *path, int verdict)
{
	struct brief is = AT(CHOWN, CHOWN);
	struct dentry *dentry = GET(path, dentry);

	return by_names(about(&is, dentry, GET(path, mnt)), dentry, 0, verdict);
}

static __always_inline int on_unlink(const struct path *dir, struct dentry *dentry, int verdict)
{
	struct brief is = AT(DELETE, UNLINK);

	return by_names(about(&is, dentry, GET(dir, mnt)), dentry, 0, verdict);
}

static __always_inline int on_rmdir(const struct path *dir, struct dentry *dentry, int verdict)
{
	struct brief is = AT(DELETE, RMDIR);

	return by_names(about(&is, dentry, GET(dir, mnt)), dentry, 0, verdict);
}

static __always_inline int on_rename(const struct path *from, struct dentry *old, const struct path *to,
				     struct dentry *new, int verdict)
{
	struct brief is = AT(RENAME, RENAME);
	struct scratch *s = about(&is, old, GET(from, mnt));

	if (s) {
		s->deed.dentry2 = (__u64)new;
		s->deed.mnt2 = (__u64)GET(to, mnt);
	}
	return by_names(s, old, old, verdict);
}

static __always_inline int on_link(struct dentry *old, const struct path *to, struct dentry *new, int verdict)
{
	struct brief is = AT(LINK, LINK);
	struct scratch *s = about(&is, old, GET(to, mnt));

	if (s) {
		s->deed.dentry2 = (__u64)new;
		s->deed.mnt2 = s->deed.mnt;
		s->deed.unlinked = !GET(old, d_hash.pprev);
	}
	return by_names(s, new, 0, verdict);
}

static __always_inline int on_symlink(const struct path *dir, struct dentry *dentry, const char *text, int verdict)
{
	struct brief is = AT(SYMLINK, SYMLINK);
	struct scratch *s;

	is.type = S_IFLNK;
	s = about(&is, dentry, GET(dir, mnt));
	if (s) {
		s->deed.link_text = 1;
		s->deed.dir2 = AT_FDCWD;
		s->deed.kstr2 = (__u64)text;
	}
	return by_names(s, dentry, 0, verdict);
}

static __always_inline void made_with(struct brief *is, __u32 mode)
{
	struct task_struct *task = bpf_get_current_task_btf();

	is->has = HAS_MODE;
	is->mode = mode & 07777 & ~task->fs->umask;
}

static __always_inline int on_mkdir(const struct path *dir, struct dentry *dentry, __u32 mode, int verdict)
{
	struct brief is = AT(CREATE, MKDIR);

	is.type = S_IFDIR;
	made_with(&is, mode);
	return by_names(about(&is, dentry, GET(dir, mnt)), dentry, 0, verdict);
}

static __always_inline int on_mknod(const struct path *dir, struct dentry *dentry, __u32 mode, int verdict)
{
	struct brief is = AT(CREATE, MKNOD);
	struct stash *stash;
	struct scratch *s;

	is.type = mode & S_IFMT ? mode & S_IFMT : S_IFREG;
	made_with(&is, mode);
	/* An open with O_CREAT asks here too; only mknod then goes on to vfs_create. */
	if (verdict && is.type == S_IFREG)
		return 0;
	s = about(&is, dentry, GET(dir, mnt));
	if (is.type != S_IFREG || !s)
		return by_names(s, dentry, 0, verdict);
	stash = stash_of(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (stash) {
		stash->deed = s->deed;
		stash->object = (__u64)dentry;
	}
	release(s);
	return 0;
}

/* The two ways to each hook. Those that run for every write stay at the entry. */
SEC("fexit/security_file_open")
int BPF_PROG(fexit_file_open, struct file *file, int ret)
{
	return ret ? 0 : on_open(file, 1);
}

SEC("kprobe/security_file_open")
int BPF_KPROBE(kprobe_file_open, struct file *file)
{
	return on_open(file, 0);
}

SEC("fentry/security_file_permission")
int BPF_PROG(fentry_file_permission, struct file *file, int mask)
{
	return on_write(file, mask);
}

SEC("kprobe/security_file_permission")
int BPF_KPROBE(kprobe_file_permission, struct file *file, int mask)
{
	return on_write(file, mask);
}

SEC("fentry/security_mmap_file")
int BPF_PROG(fentry_mmap_file, struct file *file, unsigned long prot, unsigned long flags)
{
	return on_mmap(file, prot, flags);
}

SEC("kprobe/security_mmap_file")
int BPF_KPROBE(kprobe_mmap_file, struct file *file, unsigned long prot, unsigned long flags)
{
	return on_mmap(file, prot, flags);
}

SEC("fentry/security_file_mprotect")
int BPF_PROG(fentry_file_mprotect, struct vm_area_struct *vma, unsigned long asked, unsigned long prot)
{
	return on_mprotect(vma, prot);
}

SEC("kprobe/security_file_mprotect")
int BPF_KPROBE(kprobe_file_mprotect, struct vm_area_struct *vma, unsigned long asked, unsigned long prot)
{
	return on_mprotect(vma, prot);
}

#define PARAMS(...) __VA_ARGS__
#define BOTH(name, params, call, ...)						\
	SEC("fexit/security_" #name)						\
	int BPF_PROG(fexit_##name, params, int ret)				\
	{									\
		return call(__VA_ARGS__, ret);					\
	}									\
	SEC("kprobe/security_" #name)						\
	int BPF_KPROBE(kprobe_##name, params)					\
	{									\
		return call(__VA_ARGS__, 0);					\
	}

BOTH(path_rename, PARAMS(struct path *from, struct dentry *old, struct path *to, struct dentry *new, unsigned int how),
     on_rename, from, old, to, new)
BOTH(path_unlink, PARAMS(struct path *dir, struct dentry *dentry), on_unlink, dir, dentry)
BOTH(path_rmdir, PARAMS(struct path *dir, struct dentry *dentry), on_rmdir, dir, dentry)
BOTH(path_link, PARAMS(struct dentry *old, struct path *to, struct dentry *new), on_link, old, to, new)
BOTH(path_symlink, PARAMS(struct path *dir, struct dentry *dentry, const char *text), on_symlink, dir, dentry, text)
BOTH(path_mkdir, PARAMS(struct path *dir, struct dentry *dentry, __u16 mode), on_mkdir, dir, dentry, mode)
BOTH(path_mknod, PARAMS(struct path *dir, struct dentry *dentry, __u16 mode, unsigned int dev),
     on_mknod, dir, dentry, mode)
BOTH(path_chmod, PARAMS(struct path *path, __u16 mode), on_chmod, path, mode)
BOTH(path_chown, PARAMS(struct path *path, __u32 uid, __u32 gid), on_chown, path)
BOTH(path_truncate, PARAMS(struct path *path), on_path_truncate, path)
BOTH(file_truncate, PARAMS(struct file *file), on_file_truncate, file)

/*
 * The ends. Which argument is what the loader checks against the running kernel
 * (internal/probe/hooks.go), and goes without an end that looks otherwise.
 */
#define END(function, op, object, ret)						\
	SEC("fexit/" #function)							\
	int end_##function(__u64 *ctx)						\
	{									\
		return done(OP_##op, (__u64)(object), (int)(ret));		\
	}

SEC("fexit/vfs_rename")
int end_vfs_rename(__u64 *ctx)
{
	struct renamedata *rd = (void *)ctx[0];

	return done(OP_RENAME, (__u64)rd->old_dentry, (int)ctx[1]);
}

END(vfs_unlink, DELETE, ctx[2], ctx[4])
END(vfs_rmdir, DELETE, ctx[2], ctx[3])
END(vfs_link, LINK, ctx[3], ctx[5])
END(vfs_symlink, SYMLINK, ctx[2], ctx[4])
END(vfs_mknod, CREATE, ctx[2], ctx[5])
END(vfs_create, CREATE, ctx[2], ctx[5])

/* A folder's maker, since 6.15, returns a dentry or an error. */
SEC("fexit/vfs_mkdir")
int end_vfs_mkdir(__u64 *ctx)
{
	long ret = ctx[4];

	if (!config.mkdir_returns_dentry)
		ret = (int)ret;
	else if ((__u64)ret < -(__u64)MAX_ERRNO)
		ret = 0;
	return done(OP_CREATE, ctx[2], ret);
}

/* chmod, chown and truncate alike. */
SEC("fexit/notify_change")
int end_notify_change(__u64 *ctx)
{
	struct stash *stash = stash_of(0);
	__u32 operation;

	if (!stash)
		return 0;
	operation = stash->deed.is.operation;
	if (operation != OP_CHMOD && operation != OP_CHOWN && operation != OP_TRUNCATE)
		return 0;
	return done(operation, ctx[1], (int)ctx[4]);
}

/* mknod of a regular file, where its end cannot be seen: see on_mknod. */
SEC("kprobe/vfs_create")
int BPF_KPROBE(kprobe_vfs_create, void *idmap, void *dir, struct dentry *dentry)
{
	struct stash *stash = stash_of(0);
	struct brief none = {};
	struct scratch *s;

	if (!stash || !stash->object || stash->object != (__u64)dentry || stash->deed.is.operation != OP_CREATE)
		return 0;
	stash->object = 0;
	s = new_deed(&none);
	if (s)
		s->deed = stash->deed;
	return tell(s, 0, 0);
}

/* An open that was refused on its way, by the permissions of the file or of a folder. */
SEC("fexit/do_filp_open")
int BPF_PROG(end_do_filp_open, int dir, struct filename *name, struct open_flags *how, struct file *ret)
{
	struct brief is = AT(OPEN, OPEN);
	long error = (long)ret;
	struct scratch *s;

	if (error != -EACCES && error != -EPERM)
		return 0;
	is.has = HAS_FLAGS;
	is.flags = how->open_flag;
	s = new_deed(&is);
	if (s) {
		s->deed.strings = 1;
		s->deed.dir = dir;
		s->deed.kstr = (__u64)name->name;
	}
	return tell(s, error, 1);
}

#endif
