/* SPDX-License-Identifier: GPL-2.0 */
/* What is left out: the agent itself, folders, programs; and the opens that are always kept. */
#ifndef KAIMON_FILTER_H
#define KAIMON_FILTER_H

enum config_flags {
	ONLY_FOLDERS = 1 << 0,	/* there are folders to include: all others are left out */
	ONLY_PROGRAMS = 1 << 1,
	NOT_PROGRAMS = 1 << 2,
};

struct config {
	__u32 self_tgid;
	__u32 mount_ns;		/* the first process's: paths of others say so */
	__u32 flags;
	__u32 sys_exit;		/* bits of the operations that are watched at the exit of system calls */
	__u64 folder_bits;	/* bit (inode % 64) of each folder in `folders` */
	__u64 program_bits;	/* the same of `programs` */
	__u64 window_ns;	/* how long repeats are collapsed; 0 = never */
	__u32 results;		/* bits of the operations whose end is seen too */
	__u32 overlay_upper;	/* from an overlay's inode to its upper dentry; 0 = unknown */
	__u32 mkdir_returns_dentry;
	__u32 pad;
};

struct config config;

/* What a folder says of everything below it; the deepest folder decides. */
enum verdict {
	EXCLUDED = 1 << 0,
	INCLUDED = 1 << 1,
	ABOVE = 1 << 2,		/* an included folder lies below: of the folder at hand only */
	KEPT = 1 << 3,		/* it cannot be known */
};

struct inode_key {
	__u64 inode;
	__u32 dev;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct inode_key);
	__type(value, __u8);
} folders SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct inode_key);
	__type(value, __u8);
} programs SEC(".maps");

#define TEXT_BYTES 256

struct text_key {
	__u32 bits;
	__u8 text[TEXT_BYTES];
};

/* The same folders as strings, each once with a slash at its end and once with a NUL. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 512);
	__type(key, struct text_key);
	__type(value, __u8);
} prefixes SEC(".maps");

#define TAIL_BYTES	128
#define ENDING_BYTES	16

struct tail_key {
	__u32 bits;
	__u8 text[TAIL_BYTES];
};

/* Sensitive files by the end of their path, as a walk has it ("shadow/etc/"), and by the end of their name, backwards. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 512);
	__type(key, struct tail_key);
	__type(value, __u8);
} tails SEC(".maps");

struct ending_key {
	__u32 bits;
	__u8 text[ENDING_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 128);
	__type(key, struct ending_key);
	__type(value, __u8);
} endings SEC(".maps");

/* Room for keys, claimed as scratch slots are. */
struct key_slot {
	__u32 busy;
	__u32 pad;
	struct text_key text;
	struct tail_key tail;
	struct ending_key ending;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct key_slot);
} key_slots SEC(".maps");

static __always_inline struct key_slot *claim_key(void)
{
	for (__u32 i = 0; i < SLOTS; i++) {
		__u32 key = i;
		struct key_slot *k = bpf_map_lookup_elem(&key_slots, &key);

		if (k && __sync_val_compare_and_swap(&k->busy, 0, 1) == 0)
			return k;
	}
	return 0;
}

static __always_inline void release_key(struct key_slot *k)
{
	__sync_lock_test_and_set(&k->busy, 0);
}

static __always_inline __u32 folder_verdict(struct dentry *dentry)
{
	struct inode *inode = GET(dentry, d_inode);
	struct inode_key key = {};
	__u8 *verdict;

	key.inode = GET(inode, i_ino);
	if (!(config.folder_bits >> (key.inode & 63) & 1))
		return 0;
	key.dev = GET(inode, i_sb, s_dev);
	verdict = bpf_map_lookup_elem(&folders, &key);
	return verdict ? *verdict : 0;
}

static __always_inline bool left_out(__u32 verdict)
{
	if (verdict & (KEPT | INCLUDED))
		return 0;
	return verdict & EXCLUDED || config.flags & ONLY_FOLDERS;
}

static __always_inline bool program_left_out(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct inode *inode = task->mm->exe_file->f_inode;
	struct inode_key key = {};
	bool named = 0;

	key.inode = inode->i_ino;
	if (config.program_bits >> (key.inode & 63) & 1) {
		key.dev = inode->i_sb->s_dev;
		named = bpf_map_lookup_elem(&programs, &key) != 0;
	}
	return config.flags & ONLY_PROGRAMS ? !named : named;
}

struct text {
	struct key_slot *k;
	__u32 last, ended, climbs;
};

static long read_on(__u32 turn, void *state)
{
	struct text *t = state;
	__u32 c = t->k->text.text[turn & (TEXT_BYTES - 1)];

	t->ended = !c;
	t->climbs |= c == '.' && t->last == '.';
	t->last = c;
	return !c;
}

/*
 * What a string in s->data[off] says of itself: KEPT if a ".." or its length hides
 * where it leads, else the verdict of the deepest folder that it names (absolute).
 */
__attribute__((noinline)) int string_verdict(struct scratch *s, __u32 off, __u32 absolute)
{
	struct text t = {};
	int answer = KEPT;

	if (!s)
		return KEPT;
	t.k = claim_key();
	if (!t.k)
		return KEPT;
	off &= DATA_BYTES / 2 - 1;
	opaque(off);
	if (bpf_probe_read_kernel(t.k->text.text, TEXT_BYTES, &s->data[off]))
		goto out;
	turns(TEXT_BYTES, read_on, &t);
	if (!t.ended || t.climbs)
		goto out;
	answer = 0;
	if (absolute) {
		__u8 *verdict;

		t.k->text.bits = TEXT_BYTES * 8;
		verdict = bpf_map_lookup_elem(&prefixes, &t.k->text);
		if (verdict)
			answer = *verdict;
	}
out:
	release_key(t.k);
	return answer;
}

/* Whether the walked path of len bytes at the beginning of s->data is a sensitive file's, whose name has name bytes. */
__attribute__((noinline)) int sensitive(struct scratch *s, __u32 len, __u32 name)
{
	struct key_slot *k;
	int yes;

	if (!s)
		return 0;
	k = claim_key();
	if (!k)
		return 1;
	len &= DATA_BYTES - 1;
	s->data[len] = 0;
	yes = bpf_probe_read_kernel(k->tail.text, TAIL_BYTES, s->data);
	k->tail.bits = TAIL_BYTES * 8;
	yes = !yes && bpf_map_lookup_elem(&tails, &k->tail) != 0;
	for (__u32 i = 0; i < ENDING_BYTES && !yes; i++)
		k->ending.text[i] = i < name ? s->data[(name - 1 - i) & 255] : 0;
	k->ending.bits = ENDING_BYTES * 8;
	if (!yes)
		yes = bpf_map_lookup_elem(&endings, &k->ending) != 0;
	release_key(k);
	return yes;
}

#endif
