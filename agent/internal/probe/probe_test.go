package probe

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"kaimon/agent/internal/decode"
)

// sources are the eBPF programs as written, without comments.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range []string{"../../bpf/*.bpf.c", "../../bpf/include/*.h"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(raw)
		}
	}
	return regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(all.String(), "")
}

func TestNothingReachesTheRingButThroughTheOneFunctionThatCounts(t *testing.T) {
	code := sources(t)
	calls := regexp.MustCompile(`bpf_ringbuf_(output|reserve|reserve_dynptr|submit)|bpf_perf_event_output`).FindAllString(code, -1)
	if len(calls) != 1 || calls[0] != "bpf_ringbuf_output" {
		t.Errorf("calls that write to a ring: %v", calls)
	}
	if n := strings.Count(code, "c->next_seq"); n != 1 {
		t.Errorf("next_seq is touched in %d places", n)
	}
	body := code[strings.Index(code, "int emit("):]
	number, output := strings.Index(body, "c->next_seq"), strings.Index(body, "bpf_ringbuf_output")
	if number < 0 || output < number {
		t.Error("a row is not numbered before it is sent")
	}
}

func TestTheProgramsTakeNoLock(t *testing.T) {
	if regexp.MustCompile(`bpf_(spin_lock|override_return|send_signal|probe_write_user)|SEC\("lsm|fmod_ret`).MatchString(sources(t)) {
		t.Error("the programs could block or change what they watch")
	}
}

func TestBothSidesAgreeOnWhatLiesWhere(t *testing.T) {
	spec, err := loadCapture()
	if err != nil {
		t.Fatal(err)
	}
	size := func(name string) uint32 {
		var s *btf.Struct
		if err := spec.Types.TypeByName(name, &s); err != nil {
			t.Fatal(name, err)
		}
		return s.Size
	}
	for name, want := range map[string]uint32{
		"record": decode.Size, "counters": uint32(unsafe.Sizeof(counters{})), "config": uint32(unsafe.Sizeof(config{})),
		"described": uint32(unsafe.Sizeof(described{})), "inode_key": 16, "text_key": prefixSize,
		"tail_key": tailSize, "ending_key": endingSize, "window": uint32(unsafe.Sizeof(window{})),
		"own": uint32(unsafe.Sizeof(own{})),
	} {
		if got := size(name); got != want {
			t.Errorf("struct %s has %d bytes there and %d here", name, got, want)
		}
	}
	enum := regexp.MustCompile(`(?s)enum operation \{(.*?)\}`).FindStringSubmatch(sources(t))[1]
	for i, name := range regexp.MustCompile(`OP_\w+`).FindAllString(enum, -1) {
		if want := "OP_" + strings.ToUpper(decode.Operation(i+1).String()); name != want {
			t.Errorf("operation %d is %s there and %s here", i+1, name, want)
		}
	}
}

func TestEveryBlindSpotIsExplained(t *testing.T) {
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat([]BlindSpot{noIOURing, recursionMisses, silentHooks, noResults}, always, vfs, kprobes, ioUring)
	for _, spot := range sysExit {
		all = append(all, spot.BlindSpot)
	}
	for _, spot := range all {
		if !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(spot.Word) || spot.Why == "" {
			t.Errorf("%+v", spot)
		}
		if !strings.Contains(string(raw), "| `"+spot.Word+"` | "+spot.Why+" |") {
			t.Errorf("the README does not explain %s", spot.Word)
		}
	}
}

func TestEachHookHasItsPrograms(t *testing.T) {
	spec, err := loadCapture()
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{
		"kaimon_describe": true, "kaimon_sweep": true, "kaimon_sys_exit": true, "kaimon_io_uring": true,
		"kaimon_io_uring_sqe": true, "kaimon_io_uring_old": true, "kprobe_vfs_create": true,
	}
	for _, h := range hooks {
		named[h.fentry], named[h.kprobe] = true, true
	}
	for _, e := range ends {
		named["end_"+e.symbol] = true
	}
	for name := range spec.Programs {
		if !named[name] {
			t.Errorf("nobody attaches %s", name)
		}
		delete(named, name)
	}
	for name := range named {
		t.Errorf("there is no program %s", name)
	}
}

func TestTheBooksHaveAsManyWindowsAsTheLoaderThinks(t *testing.T) {
	for name, want := range map[string]int{"WINDOWS": Windows, "SWEEP": sweepAtOnce} {
		found := regexp.MustCompile(`#define ` + name + `\s+(\d+)`).FindStringSubmatch(sources(t))
		if found == nil || found[1] != strconv.Itoa(want) {
			t.Errorf("%s is %v there and %d here", name, found, want)
		}
	}
	names := regexp.MustCompile(`AT_[A-Z_]+,`).FindAllString(regexp.MustCompile(`(?s)enum hook \{(.*?)\}`).FindString(sources(t)), -1)
	for i, name := range names {
		if want := "AT_" + strings.ToUpper(hookNames[i]) + ","; name != want {
			t.Errorf("hook %d is %s there and %s here", i, name, want)
		}
	}
	if n := len(regexp.MustCompile(`AT_[A-Z_]+,`).FindAllString(regexp.MustCompile(`(?s)enum hook \{(.*?)\}`).FindString(sources(t)), -1)); n != hookCount {
		t.Errorf("%d hooks there, %d here", n, hookCount)
	}
}

func TestOwnWordsAreSorted(t *testing.T) {
	got := words([]BlindSpot{{Word: "b"}, {Word: "a"}})
	if len(got) != 2 || got[0] != "a" {
		t.Error(got)
	}
}
