/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The counters, the ring and the only function that writes to it, together so
 * that nobody can have one without the others.
 *
 * Each run counts itself in `started` before and in `finished` after it touches
 * anything else of its CPU's books. A reader that finds `finished`, then the
 * counters, then `started` with both ends equal has read a moment at which no
 * run was under way: every row numbered below next_seq is in the ring or counted
 * lost. Runs may be preempted or moved between CPUs: a run keeps the counters of
 * the CPU that it started on, and every count is atomic.
 *
 * A run is one occurrence seen, or a sweep (counted in `swept`), so what was
 * seen is started - swept.
 */
#ifndef KAIMON_ACCOUNTING_H
#define KAIMON_ACCOUNTING_H

#define PATH_BYTES	4096
#define DATA_BYTES	16384
#define SLOTS		4
#define WAKE_BYTES	(1 << 20)

struct counters {
	__u64 started;
	__u64 swept;
	__u64 filtered;
	__u64 pending;		/* occurrences in open windows */
	__u64 next_seq;
	__u64 lost_ring_rows;
	__u64 lost_ring_events;
	__u64 lost_scratch_rows;
	__u64 lost_scratch_events;
	__u64 finished;
	__u64 spare[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);	/* the loader makes it one a possible CPU */
	__type(key, __u32);
	__type(value, struct counters);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} ring SEC(".maps");

/* What an operation is, as far as it fits on a program's small stack. */
struct brief {
	__u32 operation;
	__u32 hook;
	__u32 has;
	__u32 mode, mode_before;
	__u32 flags;
	__u32 type;
	__s32 result;
};

/* What is to be said of one operation, and where its paths are to be had. */
struct deed {
	struct brief is;
	__u64 time_ns;
	__u64 file;		/* walked, if there is one */
	__u64 inode;
	__u32 dev;
	__u32 strings;		/* how many paths are strings */
	int dir, dir2;
	__u32 link_text;	/* the second string is a symlink's contents */
	__u32 name_len;		/* of a name that is to come before dentry */
	__u32 unlinked;		/* dentry never had, or has lost, its name */
	__u32 pad;
	__u64 str, str2;	/* in the caller's memory */
	__u64 kstr, kstr2;	/* in the kernel's */
	__u64 dentry, mnt;	/* walked */
	__u64 dentry2, mnt2;
	__u64 name;
};

/* Tracing programs may be preempted: a run claims a slot, and never shares one. */
struct scratch {
	__u32 busy;
	__u32 verdict;		/* of the folders that the last walk passed through */
	__u32 above, pad;
	__u64 dentry, mnt;	/* pointers pass through here to become plain numbers */
	struct deed deed;
	struct record record;
	__u8 data[DATA_BYTES + 512];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct scratch);
} slots SEC(".maps");

/* Takes the value, so that the compiler emits the fully ordered instruction on every machine. */
#define count_add(field, n)							\
	({									\
		__u64 __was = __sync_fetch_and_add(&(field), (n));		\
		asm volatile("" : : "r"(__was) : "memory");			\
		__was;								\
	})

#define opaque(v) asm volatile("" : "+r"(v))

static __always_inline struct scratch *claim(void)
{
	for (__u32 i = 0; i < SLOTS; i++) {
		__u32 key = i;
		struct scratch *s = bpf_map_lookup_elem(&slots, &key);

		if (s && __sync_val_compare_and_swap(&s->busy, 0, 1) == 0)
			return s;
	}
	return 0;
}

static __always_inline void release(struct scratch *s)
{
	__sync_lock_test_and_set(&s->busy, 0);
}

static __always_inline struct counters *begin(__u32 cpu)
{
	struct counters *c = bpf_map_lookup_elem(&cpus, &cpu);

	if (c)
		count_add(c->started, 1);
	return c;
}

/* What became of an occurrence. */
enum outcome {
	TOLD,		/* numbered: in the ring, or counted lost */
	FILTERED,
	COLLAPSED,
};

static __always_inline void end(struct counters *c, int outcome)
{
	if (outcome == FILTERED)
		count_add(c->filtered, 1);
	else if (outcome == COLLAPSED)
		count_add(c->pending, 1);
	count_add(c->finished, 1);
}

/*
 * Numbers one row that stands for count occurrences and sends it, or counts it
 * lost; s is null if there was no slot. Returns 0 if the row is in the ring.
 */
static __always_inline int emit(struct counters *c, struct scratch *s, __u32 data_len, __u32 count)
{
	__u64 seq = count_add(c->next_seq, 1);
	__u64 wake = BPF_RB_NO_WAKEUP, waiting;

	if (!s) {
		count_add(c->lost_scratch_rows, 1);
		count_add(c->lost_scratch_events, count);
		return -1;
	}
	s->record.seq = seq;
	s->record.count = count;
	data_len &= DATA_BYTES - 1;
	data_len += sizeof(s->record);
	/* The reader looks by itself twenty times a second: it is woken once for each WAKE_BYTES more that wait. */
	waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	if (waiting / WAKE_BYTES != (waiting + data_len + 8) / WAKE_BYTES)
		wake = BPF_RB_FORCE_WAKEUP;
	if (bpf_ringbuf_output(&ring, &s->record, data_len, wake)) {
		count_add(c->lost_ring_rows, 1);
		count_add(c->lost_ring_events, count);
		return -1;
	}
	return 0;
}

#endif
