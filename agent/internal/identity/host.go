package identity

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"kaimon/agent/internal/text"
	"kaimon/agent/internal/wire"
)

// DescribeHost says what machine this is, from its own files; nothing asks the network.
func DescribeHost() wire.Host {
	var name unix.Utsname
	host := wire.Host{OS: "unknown"}
	if unix.Uname(&name) == nil {
		host.Kernel = text.String(unix.ByteSliceToString(name.Release[:]))
		host.Arch = text.String(unix.ByteSliceToString(name.Machine[:]))
	}
	if raw, err := os.ReadFile("/etc/os-release"); err == nil {
		host.OS = text.String(parseOSRelease(raw[:min(len(raw), mostOSRelease)]))
	}
	if cloud := cloud(dmi("sys_vendor"), dmi("product_name"), dmi("chassis_asset_tag")); cloud != "" {
		host.Cloud = &cloud
	}
	return host
}

// Hostname is the machine's name, as text.
func Hostname() (string, error) {
	name, err := os.Hostname()
	return text.String(name), err
}

// BootID is the kernel's id of this boot.
func BootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}

// NewID returns a fresh random UUID.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func parseOSRelease(raw []byte) string {
	for line := range bytes.Lines(raw) {
		if value, ok := bytes.CutPrefix(line, []byte("PRETTY_NAME=")); ok {
			name := strings.Trim(strings.TrimSpace(string(value)), `"'`)
			return name[:min(len(name), mostName)]
		}
	}
	return "unknown"
}

const (
	mostOSRelease = 64 << 10
	mostName      = 64 // bytes, each of which may need four characters
)

const azureTag = "7783-7084-3265-9085-8269-3286-77"

func cloud(vendor, product, tag string) string {
	switch {
	case strings.HasPrefix(vendor, "Amazon"):
		return "aws"
	case strings.HasPrefix(vendor, "Google"), strings.HasPrefix(product, "Google Compute Engine"):
		return "gcp"
	case tag == azureTag:
		return "azure"
	}
	return ""
}

func dmi(name string) string {
	raw, _ := os.ReadFile("/sys/class/dmi/id/" + name)
	return strings.TrimSpace(string(raw))
}
