// Command sbom writes the bill of materials of an agent (CycloneDX, JSON), and the licences of what is in it.
//
//	sbom -binary FILE -version V -epoch SECONDS -objects DIR -bom FILE -licences FILE
//
// cyclonedx-gomod, which must lie beside this program, lists the Go modules by what the binary itself says. This
// program adds the eBPF objects in it, and takes out what would differ from one build to the next.
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	var b bill
	epoch := flag.Int64("epoch", 0, "the release's time, in `SECONDS` since 1970")
	flag.StringVar(&b.binary, "binary", "", "the agent's `FILE`")
	flag.StringVar(&b.version, "version", "", "the agent's version")
	flag.StringVar(&b.objects, "objects", "", "`DIR` of the compiled eBPF programs")
	bom := flag.String("bom", "", "`FILE` to write the bill to")
	licences := flag.String("licences", "", "`FILE` to write the licences to")
	flag.Parse()
	b.at = time.Unix(*epoch, 0).UTC()
	if err := errors.Join(b.write(*bom), b.writeLicences(*licences)); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

type bill struct {
	binary, version, objects string
	at                       time.Time
}

func (b *bill) write(to string) error {
	content, err := os.ReadFile(b.binary)
	if err != nil {
		return err
	}
	bom, err := b.modules()
	if err != nil {
		return err
	}
	objects, err := b.programs(content)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	root := bom.Metadata.Component
	root.Name, root.Version = "kaimon-agent", b.version
	root.Hashes = hashes(content)
	bom.Metadata.Properties = withoutHashes(bom.Metadata.Properties)
	bom.Metadata.Timestamp = b.at.Format(time.RFC3339)
	for i := range *bom.Metadata.Tools.Tools {
		(*bom.Metadata.Tools.Tools)[i].Hashes = nil // of the tool's own build
	}
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // a UUID of version 8: ours to derive
	bom.SerialNumber = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	*bom.Components = append(*bom.Components, objects...)
	bind(bom, root.BOMRef, objects)

	file, err := os.Create(to)
	if err != nil {
		return err
	}
	encoder := cdx.NewBOMEncoder(file, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	return errors.Join(encoder.EncodeVersion(bom, cdx.SpecVersion1_6), file.Close())
}

// modules asks cyclonedx-gomod, which needs `go` on the PATH and asks no network.
func (b *bill) modules() (*cdx.BOM, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	tool := exec.Command(filepath.Join(filepath.Dir(self), "cyclonedx-gomod"), "bin", "-json", "-std",
		"-noserial", "-notimestamp", b.binary)
	tool.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod")
	var said bytes.Buffer
	tool.Stderr = &said
	raw, err := tool.Output()
	if err != nil {
		return nil, fmt.Errorf("cyclonedx-gomod: %w: %s", err, said.Bytes())
	}
	bom := new(cdx.BOM)
	if err := cdx.NewBOMDecoder(bytes.NewReader(raw), cdx.BOMFileFormatJSON).Decode(bom); err != nil {
		return nil, fmt.Errorf("what cyclonedx-gomod wrote: %w", err)
	}
	if bom.Metadata == nil || bom.Metadata.Component == nil || bom.Metadata.Tools == nil ||
		bom.Metadata.Tools.Tools == nil || bom.Components == nil || bom.Dependencies == nil {
		return nil, errors.New("what cyclonedx-gomod wrote lacks a part")
	}
	return bom, nil
}

// programs are the eBPF objects of the binary's architecture, each of which must lie in the binary as it is.
func (b *bill) programs(content []byte) ([]cdx.Component, error) {
	machine := map[elf.Machine]string{elf.EM_X86_64: "x86", elf.EM_AARCH64: "arm64"}
	header, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.binary, err)
	}
	arch := machine[header.Machine]
	paths, err := filepath.Glob(filepath.Join(b.objects, "*_"+arch+"_bpfel.o"))
	if err != nil || arch == "" || len(paths) == 0 {
		return nil, fmt.Errorf("no eBPF objects for %s in %s", header.Machine, b.objects)
	}
	var found []cdx.Component
	for _, path := range paths {
		object, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(content, object) {
			return nil, fmt.Errorf("%s is not in %s", path, b.binary)
		}
		name := filepath.Base(path)
		licence, err := programLicence(object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		found = append(found, cdx.Component{
			BOMRef: "ebpf:" + name, Type: cdx.ComponentTypeFile, Name: name, Version: b.version,
			MIMEType: "application/x-elf", Scope: cdx.ScopeRequired, Hashes: hashes(object),
			Description: "eBPF programs that the agent loads into the kernel, embedded as they are",
			Licenses:    &cdx.Licenses{{License: &cdx.License{Name: licence}}},
		})
	}
	return found, nil
}

// programLicence is what the object tells the kernel.
func programLicence(object []byte) (string, error) {
	file, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		return "", err
	}
	section := file.Section("license")
	if section == nil {
		return "", errors.New("it names no licence")
	}
	raw, err := section.Data()
	return strings.TrimRight(string(raw), "\x00"), err
}

// withoutHashes leaves out the binary's name and hashes: the component has them in CycloneDX's own words.
func withoutHashes(properties *[]cdx.Property) *[]cdx.Property {
	if properties == nil {
		return nil
	}
	kept := slices.DeleteFunc(*properties, func(p cdx.Property) bool {
		return strings.HasPrefix(p.Name, "cdx:gomod:binary:")
	})
	return &kept
}

// bind says that the agent contains the objects and the standard library.
func bind(bom *cdx.BOM, root string, objects []cdx.Component) {
	for i := range *bom.Dependencies {
		of := &(*bom.Dependencies)[i]
		if of.Ref != root {
			continue
		}
		refs := []string{}
		if of.Dependencies != nil {
			refs = *of.Dependencies
		}
		for _, c := range *bom.Components {
			if !slices.Contains(refs, c.BOMRef) {
				refs = append(refs, c.BOMRef)
			}
		}
		of.Dependencies = &refs
	}
	for _, object := range objects {
		*bom.Dependencies = append(*bom.Dependencies, cdx.Dependency{Ref: object.BOMRef})
	}
}

func hashes(of []byte) *[]cdx.Hash {
	sum := sha256.Sum256(of)
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}
}

// writeLicences gathers the texts that come with the Go modules and the standard library: most ask to be passed on.
func (b *bill) writeLicences(to string) error {
	info, err := buildinfo.ReadFile(b.binary)
	if err != nil {
		return err
	}
	root, err := goSays("env", "GOROOT")
	if err != nil {
		return err
	}
	dirs := map[string]string{"Go " + strings.TrimPrefix(info.GoVersion, "go"): root}
	cache, err := goSays("env", "GOMODCACHE")
	if err != nil {
		return err
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			return fmt.Errorf("%s is replaced; its licence is not known", m.Path)
		}
		dirs[m.Path+" "+m.Version] = filepath.Join(cache, escaped(m.Path)+"@"+escaped(m.Version))
	}
	var out bytes.Buffer
	out.WriteString("kaimon-agent contains these, each under its own licence.\n")
	for _, name := range sorted(dirs) {
		texts, err := filepath.Glob(filepath.Join(dirs[name], "LICEN[CS]E*"))
		if err != nil || len(texts) == 0 {
			return fmt.Errorf("%s has no licence in %s", name, dirs[name])
		}
		for _, path := range texts {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, "\n==== %s: %s\n\n%s\n", name, filepath.Base(path), bytes.TrimSpace(raw))
		}
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}

func goSays(args ...string) (string, error) {
	out, err := exec.Command("go", args...).Output()
	return strings.TrimSpace(string(out)), err
}

func sorted(of map[string]string) []string {
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// escaped is a module's path as the cache spells it: capitals as ! and the small letter.
func escaped(path string) string {
	var out strings.Builder
	for _, r := range path {
		if r >= 'A' && r <= 'Z' {
			out.WriteByte('!')
			r += 'a' - 'A'
		}
		out.WriteRune(r)
	}
	return out.String()
}
