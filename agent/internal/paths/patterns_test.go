package paths

import "testing"

func TestSensitiveFilesAreKnownByTheirPaths(t *testing.T) {
	p := NewPatterns([]string{"/etc/shadow", "id_rsa", ".aws/credentials", "*.pem"})
	for path, want := range map[string]bool{
		"/etc/shadow": true, "/x/etc/shadow": false, "/etc/shadow/x": false, "/etc/shadow2": false,
		"/home/a/.ssh/id_rsa": true, "/home/a/xid_rsa": false, "/id_rsa": true, "/home/a/id_rsa.pub": false,
		"/home/a/.aws/credentials": true, "/home/a/x.aws/credentials": false, "/credentials": false,
		"/k/server.pem": true, "/k/server.pem/x": false, "/.pem": true, "": false, "id_rsa": false, "…/d/id_rsa": true,
	} {
		if got := p.Match([]byte(path)); got != want {
			t.Errorf("%q: %t", path, got)
		}
	}
}
