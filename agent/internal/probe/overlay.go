package probe

import (
	"os"

	"github.com/cilium/ebpf/btf"
)

// upperDentry is how far behind an overlay's inode the kernel keeps the dentry of the file that holds its contents, or 0
// if that cannot be known: overlayfs is not there (yet), or looks otherwise.
func upperDentry(types *btf.Cache) uint32 {
	if _, err := os.Stat("/sys/kernel/btf/overlay"); err != nil {
		kernel, err := types.Kernel()
		if err != nil {
			return 0
		}
		return upperIn(kernel) // it may be built in
	}
	module, err := types.Module("overlay")
	if err != nil {
		return 0
	}
	return upperIn(module)
}

func upperIn(spec *btf.Spec) uint32 {
	var s *btf.Struct
	if spec.TypeByName("ovl_inode", &s) != nil {
		return 0
	}
	var inode, upper uint32
	for _, m := range s.Members {
		switch m.Name {
		case "vfs_inode":
			inode = m.Offset.Bytes()
		case "__upperdentry":
			if pointsTo(m.Type) == "dentry" {
				upper = m.Offset.Bytes()
			}
		}
	}
	if upper < inode {
		return 0
	}
	return upper - inode
}

// learnOverlay looks again for overlayfs, which is often loaded with the first container.
func (c *Capture) learnOverlay() error {
	c.applying.Lock()
	defer c.applying.Unlock()
	if c.config.OverlayUpper != 0 {
		return nil
	}
	if _, err := os.Stat("/sys/kernel/btf/overlay"); err != nil || c.overlayTried {
		return nil
	}
	c.overlayTried = true
	if c.config.OverlayUpper = upperDentry(btf.NewCache()); c.config.OverlayUpper == 0 {
		return nil
	}
	return c.setConfig()
}
