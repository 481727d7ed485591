package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	mostFile  = 1 << 20
	mostLinks = 40
)

// ReadTrusted reads a file that none but root and the running user could have written, nor put in its place: it, each
// folder and each symbolic link on the way belong to one of the two, and none is writable by others or by a group
// other than root's. A folder further up may be world-writable if it is sticky (/tmp); the file's own may not.
func ReadTrusted(path string) ([]byte, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", path, err)
	}
	real, err := follow(whole)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	file, err := os.OpenFile(real, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the settings: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", real)
	}
	if err := trusted(real, info, false); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(file, mostFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(raw) > mostFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, mostFile)
	}
	return raw, nil
}

// follow resolves an absolute path one component at a time and looks at each folder that it goes through.
func follow(path string) (string, error) {
	at, rest, links := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		if err := trustedFolder(at, holdsFile(rest)); err != nil {
			return "", err
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return "", plain(err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > mostLinks {
			return "", errors.New("too many symbolic links")
		}
		if err := trusted(next, info, true); err != nil {
			return "", err
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", plain(err)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// holdsFile says whether the component at hand is the last one, so that its folder decides which file is read.
func holdsFile(rest []string) bool {
	for _, name := range rest {
		if name != "" && name != "." {
			return false
		}
	}
	return true
}

func trustedFolder(path string, strict bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return plain(err)
	}
	if !strict && info.Mode()&fs.ModeSticky != 0 {
		return owned(path, info)
	}
	return trusted(path, info, false)
}

// trusted refuses what somebody else could write to. A link has no mode of its own.
func trusted(path string, info fs.FileInfo, link bool) error {
	if err := owned(path, info); err != nil || link {
		return err
	}
	mode := info.Mode().Perm()
	if mode&0o002 != 0 {
		return fmt.Errorf("%s is writable by everybody (mode %04o): the settings decide what is watched", path, mode)
	}
	if gid := info.Sys().(*syscall.Stat_t).Gid; mode&0o020 != 0 && gid != 0 {
		return fmt.Errorf("%s is writable by group %d (mode %04o): the settings decide what is watched", path, gid, mode)
	}
	return nil
}

func owned(path string, info fs.FileInfo) error {
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 && int(uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to root", path, uid)
	}
	return nil
}

// plain leaves out the name of the call.
func plain(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return fmt.Errorf("%s: %w", of.Path, of.Err)
	}
	return err
}
