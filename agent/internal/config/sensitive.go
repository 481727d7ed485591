package config

import (
	"path/filepath"
	"strings"
)

// Sensitive are the files whose opens are always kept unless the settings say otherwise: credentials and keys.
var Sensitive = []string{
	"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
	"/etc/sudoers", "/etc/krb5.keytab",
	"id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", ".ssh/authorized_keys",
	"ssh_host_rsa_key", "ssh_host_ecdsa_key", "ssh_host_ed25519_key",
	".aws/credentials", ".azure/msal_token_cache.json", ".config/gcloud/credentials.db",
	".config/gcloud/application_default_credentials.json", ".kube/config", ".docker/config.json",
	".vault-token", ".netrc", ".git-credentials", ".pgpass", ".my.cnf", ".npmrc", ".pypirc",
	"*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.keytab", "*.kdbx",
}

// badPattern says why a pattern is of none of the three forms: an absolute path; the last whole components of a path;
// or * and the ending of a name.
func badPattern(pattern string) string {
	ending, isEnding := strings.CutPrefix(pattern, "*")
	switch {
	case strings.IndexByte(pattern, 0) >= 0:
		return "holds a NUL"
	case strings.Contains(ending, "*"):
		return "has a * elsewhere than at its beginning"
	case isEnding && (ending == "" || strings.Contains(ending, "/")):
		return "must be * and the ending of a name"
	case isEnding:
		return ""
	case pattern == "" || pattern == "/" || pattern == "." || pattern == "..":
		return "names no file"
	case filepath.Clean(pattern) != pattern || strings.HasPrefix(pattern, "../"):
		return "is not written in its shortest form"
	}
	return ""
}
