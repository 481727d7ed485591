/*
 * Attaches a program of two instructions ("return 0") to the exit of every system call, and waits to be ended:
 * the least that any capture at that place can cost.
 */
#define _GNU_SOURCE
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load, open;
	int fd;

	memset(&load, 0, sizeof(load));
	load.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
	load.insns = (uintptr_t)program;
	load.insn_cnt = 2;
	load.license = (uintptr_t)"GPL";
	fd = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	if (fd < 0) {
		perror("load");
		return 1;
	}
	memset(&open, 0, sizeof(open));
	open.raw_tracepoint.name = (uintptr_t)"sys_exit";
	open.raw_tracepoint.prog_fd = fd;
	if (syscall(SYS_bpf, BPF_RAW_TRACEPOINT_OPEN, &open, sizeof(open)) < 0) {
		perror("attach");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
