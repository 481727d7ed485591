package harden

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// changing is all that Landlock knows of changing the file system, by the version that it came with.
var changing = []struct{ version, rights uint64 }{
	{1, unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM},
	{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
}

// confineWrites lets no thread change anything in the file system any more, whatever call it finds for it. Files that
// are open already stay so.
func confineWrites() error {
	version, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return fmt.Errorf("ask for Landlock: %w", e)
	}
	var rules unix.LandlockRulesetAttr
	for _, c := range changing {
		if uint64(version) >= c.version {
			rules.Handled_access_fs |= c.rights
		}
	}
	set, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if e != 0 {
		return fmt.Errorf("make a Landlock ruleset: %w", e)
	}
	defer unix.Close(int(set))
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); e != 0 {
		return fmt.Errorf("enforce a Landlock ruleset: %w", e)
	}
	return nil
}
