package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Credential is what enrollment gave. Hostname is the host's name at that time.
type Credential struct {
	AgentID    string `json:"agent_id"`
	Credential string `json:"credential"`
	Tenant     string `json:"tenant"`
	Hostname   string `json:"hostname"`
}

var agentID = regexp.MustCompile(`^agt_[0-9a-f]{16}$`)

// Check says whether the credential can be used.
func (c *Credential) Check() error {
	if !agentID.MatchString(c.AgentID) {
		return errors.New("the agent id is not agt_ and 16 hexadecimal digits")
	}
	return CheckToken(c.Credential, Host)
}

// State is the agent's own folder, held by one agent at a time.
type State struct {
	Dir  string
	lock *os.File
}

const (
	credentialFile = "credential.json"
	lockFile       = "lock"
)

// ErrTaken means that another agent holds the folder.
var ErrTaken = errors.New("another agent is using this folder")

// OpenState makes the folder if need be, mode 0700, and takes hold of it.
func OpenState(dir string) (*State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("look at the state folder: %w", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("the state folder %s belongs to user %d, not to this one", dir, owner.Uid)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := closeToOthers(dir); err != nil {
			return nil, err
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s: %w", dir, ErrTaken)
	}
	return &State{dir, lock}, nil
}

// closeToOthers makes a folder 0700, unless it holds what is not the agent's.
func closeToOthers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into the state folder: %w", err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != lockFile && !strings.HasPrefix(name, credentialFile) {
			return fmt.Errorf("others can get into %s, and it holds more than the agent's files: name a folder of its own", dir)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close the state folder to others: %w", err)
	}
	return nil
}

// Close lets the folder go.
func (s *State) Close() error { return s.lock.Close() }

// Load reads the credential; it returns nil if there is none.
func (s *State) Load() (*Credential, error) {
	path := filepath.Join(s.Dir, credentialFile)
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the credential: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the credential: %w", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !info.Mode().IsRegular() || ok && int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s is not a regular file of this user's own", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): chmod it to 0600, or enroll anew",
			path, info.Mode().Perm())
	}
	var c Credential
	if err := json.NewDecoder(file).Decode(&c); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

// Save writes the credential, mode 0600, durably and at once or not at all.
func (s *State) Save(c *Credential) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	name, err := s.write(append(raw, '\n'))
	defer os.Remove(name)
	if err != nil {
		return err
	}
	if err := os.Rename(name, filepath.Join(s.Dir, credentialFile)); err != nil {
		return fmt.Errorf("write the credential: %w", err)
	}
	dir, err := os.Open(s.Dir)
	if err != nil {
		return fmt.Errorf("write the credential: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Rehearse says why a credential could not be saved, before a token is used up for one.
func (s *State) Rehearse() error {
	name, err := s.write(make([]byte, mostCredential))
	if name != "" {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

const mostCredential = 4096

// write makes a file beside the credential, mode 0600.
func (s *State) write(raw []byte) (string, error) {
	file, err := os.CreateTemp(s.Dir, credentialFile+".*")
	if err != nil {
		return "", fmt.Errorf("write the credential: %w", err)
	}
	_, err = file.Write(raw)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return file.Name(), fmt.Errorf("write the credential: %w", err)
	}
	return file.Name(), nil
}
