/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Repeats: what one process does again to one file within a window is counted
 * there, and told as one row when the window closes. Each CPU has a fixed table
 * of windows; a new one takes the place of the one that lies in its slot, whose
 * repeats are told first. So nothing is ever evicted uncounted.
 *
 * A window is locked by whoever works on it, for as long as its row takes to be
 * told; who finds it locked tells a row of its own instead of waiting.
 */
#ifndef KAIMON_WINDOWS_H
#define KAIMON_WINDOWS_H

#define WINDOWS 2048	/* a CPU */

enum window_state {
	FREE,
	OPEN,
	LEFT_OUT,	/* the first was filtered: so are the repeats */
};

/* The same file by the same name, done by the same program as the same user. */
struct window_key {
	__u64 dentry, mnt, parent, name, cred;
	__u32 tgid;
	__u32 what;	/* operation, and the access mode of an open */
};

struct window {
	__u32 busy;
	__u32 state;
	struct window_key key;
	__u64 began, next, last;	/* boot time of the first, the first repeat and the last */
	__u64 first;			/* number of the first row */
	__u32 count;			/* repeats that are not told yet */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WINDOWS);	/* the loader makes it as many a possible CPU */
	__type(key, __u32);
	__type(value, struct window);
} windows SEC(".maps");

static __always_inline __u32 slot_of(__u32 cpu, __u64 inode, const struct window_key *k)
{
	__u64 h = (inode ^ k->name) * 0x9e3779b97f4a7c15ULL;

	h ^= ((__u64)k->tgid << 16 | k->what) * 0xc2b2ae3d27d4eb4fULL;
	h ^= h >> 29;
	return cpu * WINDOWS + (h & (WINDOWS - 1));
}

static __always_inline bool same(const struct window_key *a, const struct window_key *b)
{
	return a->dentry == b->dentry && a->name == b->name && a->tgid == b->tgid && a->what == b->what &&
	       a->mnt == b->mnt && a->parent == b->parent && a->cred == b->cred;
}

static __always_inline bool lock_window(struct window *w)
{
	return __sync_val_compare_and_swap(&w->busy, 0, 1) == 0;
}

static __always_inline void unlock_window(struct window *w)
{
	__sync_lock_test_and_set(&w->busy, 0);
}

/* Counts a repeat in a locked window. TOLD means that it is none: the caller is to tell it, and to unlock. */
static __always_inline int repeat(struct window *w, const struct window_key *k, __u64 now)
{
	int outcome = FILTERED;

	if (w->state == FREE || !same(&w->key, k) || now - w->began >= config.window_ns)
		return TOLD;
	if (w->state == OPEN) {
		if (!w->count++)
			w->next = now;
		w->last = now;
		outcome = COLLAPSED;
	}
	unlock_window(w);
	return outcome;
}

/* Tells the repeats of a locked window, and frees it. */
static __always_inline void close_window(struct counters *c, __u32 cpu, struct scratch *s, struct window *w, __u32 slot)
{
	__u32 count = w->count;

	if (w->state == OPEN && count) {
		if (s) {
			struct record *r = &s->record;

			__builtin_memset(r, 0, sizeof(*r));
			r->has = HAS_REST;
			r->window = slot + 1;
			r->first = w->first;
			r->time_ns = w->next;
			r->last_ns = w->last;
			r->cpu = cpu;
			r->tgid = w->key.tgid;
			r->operation = w->key.what & 0xff;
			r->path_bits = PATH_STRING | PATH_UNREAD;
		}
		emit(c, s, 0, count);
		count_add(c->pending, -(__u64)count);
	}
	w->count = 0;
	w->state = FREE;
}

#endif
