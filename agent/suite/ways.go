package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A way of doing things: the operations that it can do, and how it does the cell's.
type way struct {
	name       string
	operations []string
	do         func(*cell) error
}

func without(these ...string) []string {
	return slices.DeleteFunc(slices.Clone(byNames), func(o string) bool { return slices.Contains(these, o) })
}

// ways is the table, in its order.
func ways() []way {
	all := []way{
		{"plain", byNames, located(here)},
		{"at", without("write", "truncate", "mmap_write"), func(c *cell) error {
			if err := prepare(c.Operation, c.path); err != nil {
				return err
			}
			return byFolder(c)
		}},
		{"descriptor", []string{"write", "chmod", "truncate", "chown"}, byDescriptor},
		{"empty_path", []string{"chown", "link"}, byEmptyPath},
		{"proc_self_fd", []string{"open_read", "open_write", "chmod", "truncate", "chown", "link"}, byProc},
		{"compat", byNames, byCompat},
		{"io_uring", without("chmod", "chown", "mmap_write", "mknod"), byRing},
	}
	all = append(all, contents()...)
	all = append(all, peculiar()...)
	return append(all,
		way{"symlinked_folder", byNames, located(symlinked)},
		way{"chroot", byNames, inside(chroot)},
		way{"pivot_root", byNames, inside(pivot)},
		way{"bind_mount", byNames, located(bound)},
		way{"overlay_lower", without("create", "symlink", "mkdir", "mknod"), located(overlaid(true))},
		way{"overlay_upper", byNames, located(overlaid(false))},
		way{"deep_100", byNames, located(deep)},
		way{"long_4000", byNames, located(long)},
		way{"newline", byNames, located(named("new\nline"))},
		way{"not_utf8", byNames, located(named("\xff\xfe"))},
		way{"denied", []string{"open_read", "open_write", "create", "rename", "delete", "chmod", "truncate", "chown", "mkdir", "rmdir"}, denied(0o755)},
		way{"denied_lookup", []string{"open_read", "open_write", "rename", "delete", "chmod", "truncate", "chown", "mkdir"}, denied(0o700)},
	)
}

// do does every cell in a folder of its own below work.
func do(work string) []*cell {
	var cells []*cell
	for _, w := range ways() {
		for _, operation := range w.operations {
			c := &cell{Operation: operation, Way: w.name, wants: rowOf(operation), name: fmt.Sprintf("k%03d-%s", len(cells), operation)}
			cells = append(cells, c)
			c.folder = join(work, fmt.Sprintf("c%03d", len(cells)))
			c.path = join(c.folder, c.name)
			if slices.Contains([]string{"rename", "link"}, operation) {
				c.renamed = c.name + "-to"
			}
			to := c.renamed
			if operation == "symlink" { // what a symlink says is free
				to = "nowhere"
			}
			if err := perform(w, c, to); err != nil {
				c.Found, c.Why = "impossible", err.Error()
			}
		}
	}
	return cells
}

func perform(w way, c *cell, to string) error {
	if err := os.Mkdir(c.folder, 0o755); err != nil {
		return err
	}
	renamed := c.renamed
	c.renamed = to // the deeds take a symlink's contents from here too
	err := w.do(c)
	if c.renamed == to {
		c.renamed = renamed
	}
	return err
}

// A place to work in: the caller's name for it, its true one, and how to leave it.
type place struct {
	caller, outer string
	prepared      string // where what is needed is made; "" = where the caller works
	leave         func()
}

// located does the cell's operation by path in a place.
func located(find func(*cell) (place, error)) func(*cell) error {
	return func(c *cell) error {
		p, err := find(c)
		if err != nil {
			return err
		}
		if p.leave != nil {
			defer p.leave()
		}
		if p.prepared == "" {
			if err := prepare(c.Operation, join(p.caller, c.name)); err != nil {
				return err
			}
		}
		c.path = join(p.outer, c.name)
		if p.caller != p.outer {
			c.asked = []string{join(p.caller, c.name)}
		}
		to := c.renamed
		if c.Operation != "symlink" {
			to = join(p.caller, to)
		}
		return byPath(c, join(p.caller, c.name), to)
	}
}

func here(c *cell) (place, error) { return place{caller: c.folder, outer: c.folder}, nil }

func symlinked(c *cell) (place, error) {
	way, to := join(c.folder, "way"), join(c.folder, "to")
	if err := os.Mkdir(to, 0o755); err != nil {
		return place{}, err
	}
	return place{caller: way, outer: to}, os.Symlink(to, way)
}

func named(name string) func(*cell) (place, error) {
	return func(c *cell) (place, error) {
		c.name = name + c.name
		if c.Operation == "rename" || c.Operation == "link" {
			c.renamed = name + c.renamed
		}
		return here(c)
	}
}

// deep is a folder 100 folders down. They are made one by one: a single path of them is allowed, but that is `long`.
func deep(c *cell) (place, error) {
	path := c.folder
	for n := range 100 {
		path = join(path, fmt.Sprintf("d%02d", n))
		if err := unix.Mkdir(path, 0o755); err != nil {
			return place{}, err
		}
	}
	return place{caller: path, outer: path}, nil
}

func long(c *cell) (place, error) {
	const most = 4000
	part, path := "y", c.folder
	for len(part) < 200 {
		part += "y"
	}
	for len(path)+1+len(c.name)+4 < most {
		n := min(len(part), most-len(path)-2-len(c.name)-4)
		if n < 1 {
			break
		}
		path = join(path, part[:n])
		if err := unix.Mkdir(path, 0o755); err != nil {
			return place{}, err
		}
	}
	return place{caller: path, outer: path}, nil
}

func bound(c *cell) (place, error) {
	from, to := join(c.folder, "from"), join(c.folder, "to")
	for _, folder := range []string{from, to} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return place{}, err
		}
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return place{}, fmt.Errorf("bind: %w", err)
	}
	return place{caller: to, outer: to, leave: func() { _ = unix.Unmount(to, unix.MNT_DETACH) }}, nil
}

// overlaid is an overlay file system; with below, the file is in its lower folder and is copied up when changed.
func overlaid(below bool) func(*cell) (place, error) {
	return func(c *cell) (place, error) {
		folders := map[string]string{}
		for _, name := range []string{"lower", "upper", "work", "merged"} {
			folders[name] = join(c.folder, name)
			if err := os.Mkdir(folders[name], 0o755); err != nil {
				return place{}, err
			}
		}
		merged := folders["merged"]
		p := place{caller: merged, outer: merged, leave: func() { _ = unix.Unmount(merged, unix.MNT_DETACH) }}
		if below {
			p.prepared = folders["lower"]
			if err := prepare(c.Operation, join(p.prepared, c.name)); err != nil {
				return place{}, err
			}
		}
		options := "lowerdir=" + folders["lower"] + ",upperdir=" + folders["upper"] + ",workdir=" + folders["work"]
		if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
			return place{}, fmt.Errorf("mount an overlay: %w", err)
		}
		return p, nil
	}
}

// inside does the cell's operation by path, from within another root that enter makes of the cell's folder.
func inside(enter func(*cell) error) func(*cell) error {
	return func(c *cell) error {
		if err := prepare(c.Operation, c.path); err != nil {
			return err
		}
		to := c.renamed
		if c.Operation != "symlink" {
			to = "/" + to
		}
		return apart(func() error {
			if err := enter(c); err != nil {
				return err
			}
			return byPath(c, "/"+c.name, to)
		})
	}
}

func chroot(c *cell) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return errors.Join(unix.Chroot(c.folder), unix.Chdir("/"))
}

// pivot is what a container's start does; what happens in it can only be told by the container's own names.
func pivot(c *cell) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(c.folder, c.folder, "", unix.MS_BIND, ""),
		unix.Chdir(c.folder))
	if err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	c.path, c.foreign = "/"+c.name, true
	return errors.Join(unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/"))
}
