package main

import "strings"

// missedBecause are the blind spots that can explain why a cell was missed: any of them, in the batch's header, excuses
// it. No entry: nothing does.
func missedBecause(operation, way string) []string {
	var words []string
	if strings.HasPrefix(way, "io_uring") {
		words = append(words, "io_uring_requests")
	}
	switch way {
	case "io_uring_fixed":
		words = append(words, "io_uring_fixed_files")
	case "aio":
		words = append(words, "aio_writes")
	case "ficlone":
		words = append(words, "ioctl_writes")
	case "memfd":
		words = append(words, "memfd_writes")
	case "mprotect":
		words = append(words, "mmap_then_mprotect")
	case "o_path":
		words = append(words, "o_path_opens")
	case "exec":
		words = append(words, "exec_opens")
	case "bind_socket":
		words = append(words, "bind_creates")
	case "denied", "denied_lookup":
		if rowOf(operation) == "open" || operation == "create" {
			words = append(words, "denied_opens")
		} else if way == "denied_lookup" || operation == "truncate" {
			words = append(words, "denied_lookups")
		}
	}
	return words
}

// twiceBecause are the blind spots that can explain why a cell was told more than once.
func twiceBecause(way string) []string {
	switch way {
	case "sendfile", "splice", "copy_file_range":
		return []string{"inner_writes"}
	}
	return nil
}
