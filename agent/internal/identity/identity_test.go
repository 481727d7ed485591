package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func token(kind string) string {
	body := kind + strings.Repeat("b", random)
	return body + sum(body)
}

func TestTokensAreCheckedAndNeverRepeated(t *testing.T) {
	good := token(Enrollment)
	if err := CheckToken(good, Enrollment); err != nil {
		t.Error(err)
	}
	// CRC32 of the 40 characters before it, in base 62, by another implementation.
	if want := "kmn_hst_" + strings.Repeat("a", 32) + "3MtXBw"; CheckToken(want, Host) != nil {
		t.Error("the checksum is not the contract's")
	}
	for _, bad := range []string{
		"", good[:len(good)-1], good + "a", good[:len(good)-1] + "!", strings.Replace(good, "b", "c", 1), token(Host),
	} {
		err := CheckToken(bad, Enrollment)
		if err == nil {
			t.Errorf("%q passes", bad)
		} else if len(bad) > 10 && strings.Contains(err.Error(), bad[8:]) {
			t.Errorf("the error repeats the token: %s", err)
		}
	}
}

func TestTheCredentialIsKeptToItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	state, err := OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := state.Load(); c != nil || err != nil {
		t.Fatal(c, err)
	}
	want := Credential{AgentID: "agt_0123456789abcdef", Credential: token(Host), Tenant: "acme", Hostname: "h"}
	if err := state.Save(&want); err != nil {
		t.Fatal(err)
	}
	if got, err := state.Load(); err != nil || *got != want {
		t.Error(got, err)
	}
	file := filepath.Join(dir, credentialFile)
	for path, mode := range map[string]os.FileMode{dir: 0o700, file: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	if _, err := OpenState(dir); !errors.Is(err, ErrTaken) {
		t.Errorf("two agents share a folder: %v", err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Load(); err == nil {
		t.Error("a credential that everybody can read is used")
	}
	if err := errors.Join(os.Chmod(file, 0o600), os.Rename(file, file+".x"), os.Symlink(file+".x", file)); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Load(); err == nil {
		t.Error("a link is followed to a credential")
	}
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Load(); err == nil {
		t.Error("a folder is a credential")
	}
	state.Close()
	if state, err = OpenState(dir); err != nil {
		t.Error(err)
	} else {
		state.Close()
	}
}

func TestARehearsalLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	state, err := OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if err := state.Rehearse(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, credentialFile+"*")); len(left) != 0 {
		t.Error(left)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := state.Rehearse(); err == nil {
		t.Error("a folder that is gone can be written to")
	}
}

func TestAFolderThatIsNotTheAgentsIsLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if state, err := OpenState(dir); err != nil {
		t.Error("an empty folder is not taken:", err)
	} else {
		state.Close()
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "x"), nil, 0o600), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(dir); err == nil {
		t.Error("a folder with other things in it is closed to others")
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is %o", info.Mode().Perm())
	}
}

func TestCloudsAreKnownByTheirMachines(t *testing.T) {
	for _, c := range []struct{ vendor, product, tag, want string }{
		{"Amazon EC2", "m5.large", "", "aws"},
		{"Google", "Google Compute Engine", "", "gcp"},
		{"Microsoft Corporation", "Virtual Machine", azureTag, "azure"},
		{"Microsoft Corporation", "Virtual Machine", "", ""},
		{"QEMU", "", "", ""},
	} {
		if got := cloud(c.vendor, c.product, c.tag); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
