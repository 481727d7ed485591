/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The counters, the ring and the only function that writes to it, together so
 * that nobody can have one without the others.
 *
 * Each run counts itself in `started` before and in `finished` after it touches
 * anything else of its CPU. A reader that finds `finished`, then the counters,
 * then `started` with both ends equal has read a moment at which no run was
 * under way: every row numbered below next_seq is in the ring or counted lost.
 * Runs may be preempted or moved between CPUs: a run keeps the counters of the
 * CPU that it started on, and every count is atomic.
 */
#ifndef KAIMON_ACCOUNTING_H
#define KAIMON_ACCOUNTING_H

#define PATH_BYTES	4096
#define DATA_BYTES	16384
#define SLOTS		4

struct counters {
	__u64 started;
	__u64 seen;
	__u64 filtered;
	__u64 next_seq;
	__u64 lost_ring_rows;
	__u64 lost_ring_events;
	__u64 lost_scratch_rows;
	__u64 lost_scratch_events;
	__u64 finished;
	__u64 spare[7];
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
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

/* Tracing programs may be preempted: a run claims a slot, and never shares one. */
struct scratch {
	__u32 busy;
	__u32 found_excluded;
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

/* Numbers one row and sends it, or counts it lost; s is null if there was no slot. */
static __always_inline int emit(struct counters *c, struct scratch *s, __u32 data_len)
{
	__u64 seq = count_add(c->next_seq, 1);
	__u64 wake = BPF_RB_NO_WAKEUP;

	if (!s) {
		count_add(c->lost_scratch_rows, 1);
		count_add(c->lost_scratch_events, 1);
		return -1;
	}
	s->record.seq = seq;
	data_len &= DATA_BYTES - 1;
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > (2 << 20))
		wake = BPF_RB_FORCE_WAKEUP;
	if (bpf_ringbuf_output(&ring, &s->record, sizeof(s->record) + data_len, wake)) {
		count_add(c->lost_ring_rows, 1);
		count_add(c->lost_ring_events, s->record.count);
		return -1;
	}
	return 0;
}

#endif
