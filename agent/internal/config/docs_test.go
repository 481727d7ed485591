package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	return string(raw)
}

const (
	exampleFile = "../../../deploy/agent/agent.yaml"
	readmeFile  = "../../README.md"
)

func TestEverySettingIsDocumented(t *testing.T) {
	example, readme := read(t, exampleFile), read(t, readmeFile)
	for _, field := range fields() {
		key, of := field.Tag.Get("yaml"), field.Tag.Get("flag")
		row := regexp.MustCompile("(?m)^\\| `" + key + "` \\| `--" + of + "` \\|.*$").FindString(readme)
		if row == "" {
			t.Errorf("the README's table has no row of %s and --%s", key, of)
		}
		if isHot := field.Tag.Get("hot") != ""; isHot != strings.Contains(row, "*hot.*") {
			t.Errorf("the README is wrong about whether %s is hot", key)
		}
		about := regexp.MustCompile(`(?m)^# (hot|cold)\. .*\n(?:# .*\n)*#?` + key + `:`).FindStringSubmatch(example)
		if about == nil {
			t.Errorf("the example does not explain %s", key)
		} else if (about[1] == "hot") != (field.Tag.Get("hot") != "") {
			t.Errorf("the example is wrong about whether %s is hot", key)
		}
	}
	for _, pattern := range Sensitive {
		if !strings.Contains(readme, "`"+pattern+"`") {
			t.Errorf("the README does not name the sensitive %s", pattern)
		}
	}
}

// uncomment makes settings of the example's commented ones, which are not indented sentences.
func uncomment(example string) string {
	return regexp.MustCompile(`(?m)^#([a-z_]+:|  - )`).ReplaceAllString(example, "$1")
}

func TestTheExampleSaysTheDefaults(t *testing.T) {
	example := read(t, exampleFile)
	bare := Default()
	must(t, Parse([]byte(example), "agent.yaml", &bare))
	must(t, bare.Check())
	whole := Default()
	whole.Sensitive = nil
	must(t, Parse([]byte(uncomment(example)), "agent.yaml", &whole))
	hot, cold := Changed(&bare, &whole)
	// These two have no default, and are shown by an example.
	if len(hot) != 0 || strings.Join(cold, " ") != "ca_file metrics_socket" {
		t.Errorf("the example's values differ from the defaults in %v %v", hot, cold)
	}
}

func TestSettingsAreReadAsTheyAreWritten(t *testing.T) {
	c := Default()
	c.Server, c.Exclude = "https://x", []string{"/a b", "/c: d"}
	var back = Default()
	must(t, Parse(c.YAML(), "f", &back))
	if hot, cold := Changed(&c, &back); len(hot)+len(cold) > 0 {
		t.Error(hot, cold)
	}
}
