package probe

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-missing-declarations -Wno-unused-parameter" capture ../../bpf/capture.bpf.c
