/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's types as far as we read them. Every access is relocated against
 * the running kernel's BTF, so a field's place here means nothing; its name does.
 */
#ifndef KAIMON_KERNEL_H
#define KAIMON_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u8 bool;

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_F_MMAPABLE = 1024,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
};

#define EPERM	1
#define EACCES	13
#define MAX_ERRNO 4095

#define AT_FDCWD	(-100)
#define AT_REMOVEDIR	0x200
#define AT_EMPTY_PATH	0x1000

#define O_ACCMODE	3
#define O_WRONLY	1
#define O_CREAT		0100
#define O_TRUNC		01000
#define __O_TMPFILE	020000000

#define FMODE_PATH	0x4000
#define FMODE_CREATED	0x100000

#define MAY_WRITE	2
#define VM_WRITE	2
#define VM_SHARED	8

#define S_IFMT		0170000
#define S_IFREG		0100000
#define S_IFLNK		0120000
#define S_IFBLK		0060000
#define S_IFDIR		0040000
#define S_ISDIR(m)	(((m) & S_IFMT) == S_IFDIR)
#define S_ISREG(m)	(((m) & S_IFMT) == S_IFREG)
#define S_ISBLK(m)	(((m) & S_IFMT) == S_IFBLK)

#define PROT_WRITE	2
#define MAP_TYPE	0x0f
#define MAP_PRIVATE	0x02
#define MAP_ANONYMOUS	0x20

#define MNT_INTERNAL	0x4000
#define MNT_NS_INTERNAL	((__u64)-22)	/* of mounts that no namespace has */

#define PROC_SUPER_MAGIC	0x9fa0
#define SYSFS_MAGIC		0x62656572
#define CGROUP_SUPER_MAGIC	0x27e0eb
#define CGROUP2_SUPER_MAGIC	0x63677270
#define OVERLAYFS_SUPER_MAGIC	0x794c7630

#define TS_COMPAT	0x0002	/* x86: a call of the 32-bit table */
#define TIF_32BIT	22	/* arm64 */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bx, cx, dx, si, di, bp, r8, r9, r10, ax, orig_ax, ip, sp;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs { __u64 regs[31]; };
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#endif

typedef struct { __u32 val; } kuid_t;
typedef struct { __u32 val; } kgid_t;

struct thread_info { unsigned long flags; __u32 status; };
struct ns_common { __u32 inum; };
struct mnt_namespace { struct ns_common ns; };
struct nsproxy { struct mnt_namespace *mnt_ns; };
struct cred { kuid_t uid, euid; kgid_t gid; };

struct qstr { __u64 hash_len; __u32 len; const unsigned char *name; };
struct super_block { __u32 s_dev; unsigned long s_magic; };
struct inode { __u16 i_mode; struct super_block *i_sb; unsigned long i_ino; };
struct hlist_bl_node { struct hlist_bl_node **pprev; };
struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};
struct vfsmount { struct dentry *mnt_root; int mnt_flags; };
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
};
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct file { __u32 f_mode, f_flags; struct path f_path; struct inode *f_inode; };
struct vm_area_struct { unsigned long vm_flags; struct file *vm_file; };
struct renamedata { struct dentry *old_dentry; };
struct open_flags { int open_flag; };

struct fdtable { __u32 max_fds; struct file **fd; };
struct files_struct { struct fdtable *fdt; };
struct fs_struct { int umask; struct path root, pwd; };
struct mm_struct { struct file *exe_file; };
struct task_struct {
	struct thread_info thread_info;
	struct task_struct *group_leader, *real_parent;
	int tgid;
	__u64 start_boottime;
	__u64 self_exec_id;
	kuid_t loginuid;
	const struct cred *cred;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct mm_struct *mm;
	char comm[16];
};

struct filename { const char *name; };
struct io_cmd_data { __u8 data[56]; };
struct io_cqe { int fd; };
struct io_kiocb {
	struct file *file;
	struct io_cmd_data cmd;
	__u8 opcode;
	__u32 flags;
	struct io_cqe cqe;
};
struct open_how { __u64 flags, mode; };
struct io_open { int dfd; struct filename *filename; struct open_how how; };
struct io_rename { int old_dfd, new_dfd; struct filename *oldpath, *newpath; };
struct io_link { int old_dfd, new_dfd; struct filename *oldpath, *newpath; };
struct io_unlink { int dfd, flags; struct filename *filename; };
struct io_mkdir { int dfd; __u16 mode; struct filename *filename; };

#pragma clang attribute pop

/*
 * Reading what a pointer names: by a plain load where the kernel lets a program
 * say what type it has (6.2 and newer), else by a call of a helper, which costs
 * several times as much. The verifier knows which, and drops the other. `p` must
 * be a plain variable: what it is read from would be looked for in the kernel.
 */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __attribute__((section(".ksyms"), weak));

enum bpf_func_id___later { BPF_FUNC_loop___later = 181 };

/* Calls step(i, state) up to n times, until it returns 1. Since 5.17 the kernel does it, and reads the step but once. */
#define turns(n, step, state)							\
	do {									\
		if (bpf_core_enum_value_exists(enum bpf_func_id___later, BPF_FUNC_loop___later)) \
			bpf_loop(n, step, state, 0);				\
		else								\
			for (__u32 __i = 0; __i < (n) && !step(__i, state); __i++) \
				;						\
	} while (0)

#define typed() (bpf_rdonly_cast != 0)
#define as_typed(p) ((typeof(p))bpf_rdonly_cast((p), __builtin_btf_type_id(*(p), 1)))
#define GET(p, ...) (typed() ? ___arrow(as_typed(p), ##__VA_ARGS__) : BPF_CORE_READ(p, ##__VA_ARGS__))

#endif
